"""The model card of an exported model: README.md with what it is and how to load it."""

from collections.abc import Mapping
import dataclasses
import json
from typing import Any

from vidjax import lazy
from vidjax.interop.parts import Parts

UNKNOWN_LICENSE = "other"

_VIDEO_USE = """\
```python
from diffusers import StableVideoDiffusionPipeline
from diffusers.utils import export_to_video, load_image

pipe = StableVideoDiffusionPipeline.from_pretrained("PATH_OF_THIS_FOLDER")
image = load_image("first_frame.png").resize(({width}, {height}))
frames = pipe(image, height={height}, width={width}, num_frames={frames}, fps={fps}).frames[0]
export_to_video(frames, "clip.mp4", fps={fps})
```
"""

_PARTS_USE = """\
diffusers has no pipeline for this model. Its parts load one by one:

```python
import diffusers

unet = diffusers.{unet}.from_pretrained("PATH_OF_THIS_FOLDER", subfolder="unet")
vae = diffusers.{vae}.from_pretrained("PATH_OF_THIS_FOLDER", subfolder="vae")
```
"""
_TEXT_USE = """
Text enters through `text_encoder`, whose input is described in `tokenizer/tokenizer_config.json`.
"""
_IMAGE_USE = """
Given frames enter through `image_encoder` (one token each), and as latents of the autoencoder that
are not multiplied by its scaling factor, after the noisy latents on the channels. The numbers of
the condition are {numbers}.
"""
_STAND_IN_USE = """
The last input channel is 1 on frames that are given. On the others the latents before it are those
in `unet/mask_embedding.safetensors`, (height, width, channels), which diffusers does not read: put
them there.
"""
_CONTINUOUS_USE = """\
The UNet predicts v of x = latents + sigma * noise; call it with x / sqrt(sigma^2 + 1) and with
0.25 ln(sigma) as the time step.
"""

_ENGINE_USE = """\
With generative-models: name `{file}` as `ckpt_path` in {config}. All tensors of the networks that
sampling runs are in it; a message about missing keys of `conditioner.embedders.3.encoder.decoder`
and of the text half of the image embedder is expected, for nothing of them is run.
"""
_NUMBERS = ("fps - 1", "the motion bucket", "sigma of the noise on given frames", "the elevation")
_SVD_YAML = "`scripts/sampling/configs/svd.yaml`"
_OTHER_YAML = "a copy of its config for the model that has this shape"


@dataclasses.dataclass(frozen=True)
class Generation:
  """What the model was trained to make: defaults of pipelines, and lines of the card.

  Attributes:
    num_frames: T.
    height: pixels.
    width: pixels.
    fps: frames per second.
  """

  num_frames: int
  height: int
  width: int
  fps: float


@dataclasses.dataclass(frozen=True)
class About:
  """What only the one who exports knows.

  Attributes:
    rows: further lines of the table, e.g. `{"Trained for": "480 clips"}`.
    license: of the weights, an identifier as "apache-2.0".
    config: training config, JSON values.
    data: fingerprint of the training data (`vidjax.data.fingerprint`), JSON values.
  """

  rows: Mapping[str, str] = dataclasses.field(default_factory=dict)
  license: str = UNKNOWN_LICENSE
  config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  data: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def diffusers_use(
  pipeline: str | None,
  folders: Mapping[str, str],
  generation: Generation,
  parts: Parts,
  *,
  continuous: bool,
) -> str:
  """How diffusers loads a folder: by a pipeline, or part by part.

  Args:
    pipeline: diffusers class that loads the folder; None if there is none.
    folders: class of each sub-folder.
    generation: what the model makes.
    parts: its networks.
    continuous: whether the UNet takes EDM's noise levels.
  """
  if pipeline is None:
    use = _PARTS_USE.format(unet=folders["unet"], vae=folders["vae"])
    shape = parts["unet"][0]
    use += _TEXT_USE if "text" in parts else ""
    if "image" in parts:
      use += _IMAGE_USE.format(numbers=", ".join(_NUMBERS[: shape.vector_size]))
    use += _STAND_IN_USE if shape.mask_embedding else ""
    return use + (_CONTINUOUS_USE if continuous else "")
  values = dataclasses.asdict(generation)
  return _VIDEO_USE.format(
    height=values["height"],
    width=values["width"],
    frames=values["num_frames"],
    fps=round(generation.fps),
  )


def stability_use(file: str, image_to_video: bool) -> str:
  """How generative-models loads a file."""
  return _ENGINE_USE.format(file=file, config=_SVD_YAML if image_to_video else _OTHER_YAML)


def model_card(
  library: str,
  use: str,
  contents: Mapping[str, str],
  generation: Generation,
  parts: Parts,
  about: About,
) -> str:
  """The text of README.md.

  Args:
    library: code that loads it, for the header.
    use: how it does.
    contents: what is in the folder, and of which class.
    generation: what the model makes.
    parts: its networks.
    about: see there.
  """
  rows = {
    "Parameters of the UNet": f"{lazy.nbytes(parts['unet'][1]) // 4:,}",
    "Frames": str(generation.num_frames),
    "Size": f"{generation.width}x{generation.height}",
    "Frames per second": f"{generation.fps:g}",
    **about.rows,
    "Licence": about.license,
  }
  facts = "\n".join(f"| {key} | {value} |" for key, value in rows.items())
  listing = "\n".join(f"| `{name}` | {kind} |" for name, kind in contents.items())
  return f"""\
---
license: {about.license}
library_name: {library}
tags: [video-generation, vidjax]
---

# Exported by vidjax

| | |
|---|---|
{facts}

{_license_text(about.license)}

## Use

With vidjax: `vidjax sample --model=PATH_OF_THIS_FOLDER --out=clip.mp4`, see `vidjax sample --help`.

{use}
## Contents

| | |
|---|---|
{listing}

Weights are float32, as trained.

## Training data

{_data_text(about.data)}

## Training config

{_config_text(about.config)}
State here, before you publish it: the data and its licence, what the model is meant for, and what
it must not be used for.
"""


def _license_text(license: str) -> str:
  if license == UNKNOWN_LICENSE:
    return (
      "**No licence was stated**: whoever exported this model has to say what may be done with it"
      " (`vidjax export --license=NAME`). Until then, assume nothing."
    )
  return f"The weights are under the licence {license}."


def _data_text(data: Mapping[str, Any]) -> str:
  if not data:
    return "Not known: the weights did not come from a checkpoint of vidjax."
  rows = "\n".join(f"| {key} | {value} |" for key, value in data.items())
  return (
    "The fingerprint that the checkpoint carries; `content` is a hash of all records.\n\n"
    f"| | |\n|---|---|\n{rows}"
  )


def _config_text(config: Mapping[str, Any]) -> str:
  if not config:
    return "Not known.\n"
  return f"```json\n{json.dumps(config, indent=2)}\n```\n"
