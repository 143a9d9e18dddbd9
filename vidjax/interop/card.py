"""The model card of an exported model: README.md with what it is and how to load it."""

from collections.abc import Mapping

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

The UNet predicts v of x = latents + sigma * noise; call it with x / sqrt(sigma^2 + 1) and with
0.25 ln(sigma) as the time step. Text enters through `text_encoder`, whose input is described in
`tokenizer/tokenizer_config.json`.
"""


def model_card(
  pipeline: str | None, parts: Mapping[str, str], rows: Mapping[str, str], fps: float
) -> str:
  """The text of README.md.

  Args:
    pipeline: diffusers class that loads the folder; None if there is none.
    parts: class of each sub-folder.
    rows: facts for the table; `Frames` and `Size` (as WIDTHxHEIGHT) are among them.
    fps: frames per second of the clips.
  """
  if pipeline is None:
    use = _PARTS_USE.format(unet=parts["unet"], vae=parts["vae"])
  else:
    width, height = rows["Size"].split("x")
    use = _VIDEO_USE.format(width=width, height=height, frames=rows["Frames"], fps=round(fps))
  facts = "\n".join(f"| {key} | {value} |" for key, value in rows.items())
  folders = "\n".join(f"| `{folder}/` | {kind} |" for folder, kind in parts.items())
  return f"""\
---
library_name: diffusers
tags: [video-generation, vidjax]
---

# Exported by vidjax

| | |
|---|---|
{facts}

## Use

With vidjax: `vidjax sample --model=PATH_OF_THIS_FOLDER --out=clip.mp4`, see `vidjax sample --help`.

{use}
## Folders

| folder | class |
|---|---|
{folders}

Weights are float32, as trained. State here, before you publish it: the data and its licence, what
the model is meant for, and what it must not be used for.
"""
