"""Hands a model to PyTorch.

  vidjax export --model=DIR --out=DIR [--params=ema|ema:DECAY|raw] [--format=diffusers|stability]
                [--verify]

A diffusion model becomes a folder in the layout of diffusers, an image-to-video model one that
`StableVideoDiffusionPipeline.from_pretrained` loads; or, with --format=stability, one file in
Stability's layout. The workdir of an autoencoder becomes one that `encoders.vae` and diffusers'
`AutoencoderKL` take, with the scaling factor measured on its data. `--model` takes all that other
verbs take, so this also converts from one layout to the other, one tensor at a time. A finished
export of the same weights is left as it is.
Exit codes: 0 done; 2 bad flag or model; 3 data; 4 checkpoint, or files that differ from the weights
under --verify; 7 disk full; 130 interrupted.
"""

import contextlib
import dataclasses
from typing import Any

from absl import flags
import jax
import numpy as np

from vidjax import autoencoding, command, denoising, lazy, pretrained, redaction, storage
from vidjax import config as configs
from vidjax.conditioning.modes import MODES
from vidjax.data import loader
from vidjax.encoders import frozen, tokenizers, vae
from vidjax.interop import card, diffusers, parts, pickles, stability
from vidjax.interop import export as layout
from vidjax.observe import console

FORMATS = ("diffusers", "stability")

_WINDOWS = 64  # frames on which the scaling factor of an autoencoder is measured


def export(
  model: str,
  weights: str,
  out: str,
  *,
  format: str = "diffusers",
  license: str = card.UNKNOWN_LICENSE,
  origin: str | None = None,
) -> None:
  """Writes the model in `model` to folder `out`.

  Args:
    model: whatever `vidjax.pretrained` reads.
    weights: "ema", "ema:DECAY" or "raw".
    out: folder to write.
    format: "diffusers" or "stability".
    license: of the weights, for the model card.
    origin: what to call the model; by default, what its files are called.

  Raises:
    ValueError: `model` holds no model, or one that the layout cannot express.
    CheckpointError: its checkpoint is incomplete or damaged.
    DataError: an autoencoder's data cannot be read any more.
  """
  loaded = _load(model, weights, origin)
  path = storage.Path(out) / pretrained.NOTE  # written last: a folder with it is complete
  if path.exists():
    before = storage.read_json(path)
    if before.get("format", "diffusers") != format:
      raise ValueError(
        f"{out} holds an export in the layout of {before.get('format', 'diffusers')}: choose"
        " another --out"
      )
    if before["origin"] == loaded.origin and before.get("license", license) == license:
      console.line(f"{out}: already holds {loaded.origin}, nothing to do")
      return
  note = {
    "origin": loaded.origin,
    "format": format,
    "license": license,
    "data": dict(loaded.data),
    "knows_noise": loaded.knows_noise,
    "config": configs.to_dict(loaded.config),
  }
  if loaded.config.task == "autoencoder":
    _export_vae(loaded, out, note)
  else:
    _export_pipeline(loaded, out, note)
  storage.write_json(path, note)
  console.line(f"{loaded.origin} -> {out}")


def verify(
  model: str, weights: str, out: str, *, format: str = "diffusers", origin: str | None = None
) -> None:
  """Reads all networks in `out` back and compares every tensor with the model's, bit by bit.

  Raises:
    CheckpointError: one differs.
  """
  loaded = _load(model, weights, origin)
  written: parts.Parts
  if loaded.config.task == "autoencoder":
    written = {"vae": (None, loaded.params)}
  else:
    encoders = _encoders(loaded.config)
    written = parts.for_export(denoising.unet_config(loaded.config), loaded.params, encoders)
  count = parts.check_equal(written, _read_back(out, format, written), out)
  console.line(f"{out}: {count} tensors equal those of {loaded.origin}, bit by bit")


def scaling_factor(config: configs.TrainConfig, params: lazy.Weights) -> float:
  """1 / standard deviation of the latents over frames of the training data (LDM, App. G).

  Diffusion expects data of unit variance; SD's 0.18215 is this number for its autoencoder.
  """
  network = autoencoding.make_vae(config)
  frames = loader.fixed_windows(config.data, _WINDOWS)
  x_BTHWC = np.stack([frame.frames for frame in frames]).astype(np.float32) / 127.5 - 1.0

  def encode(params: dict[str, jax.Array], x_BTHWC: jax.Array) -> jax.Array:
    return network.bind(params).encode_mode(x_BTHWC)

  values = lazy.read_all(params, "reading weights")
  latents = jax.device_get(jax.jit(encode)(values, x_BTHWC))
  return float(1.0 / latents.std())


def _load(model: str, weights: str, origin: str | None) -> pretrained.Pretrained:
  loaded = pretrained.load(model, weights)
  return dataclasses.replace(loaded, origin=redaction.redact(origin or loaded.origin))


def _read_back(out: str, format: str, written: parts.Parts) -> parts.Parts:
  """The networks in an export, without reading them yet."""
  root = storage.Path(out)
  if format == "stability":
    file = stability.open_file(root / f"{stability.STEM}.safetensors")
    return {kind: file.open(kind) for kind in file.kinds}
  if written.keys() == {"vae"}:
    return {"vae": diffusers.open_vae(root)}
  return diffusers.open_pipeline(root)


def _export_vae(loaded: pretrained.Pretrained, out: str, note: dict[str, Any]) -> None:
  config = vae.PRESETS[loaded.config.autoencoder.preset]
  factor = scaling_factor(loaded.config, loaded.params)
  config = dataclasses.replace(config, scaling_factor=factor)
  if note["format"] == "stability":
    stability.write(out, {"vae": (config, loaded.params)}, note)
  else:
    side = min(loaded.config.data.height, loaded.config.data.width)
    layout.write_vae(out, config, loaded.params, side)
  console.line(f"scaling factor {factor:.4f}, measured on {_WINDOWS} frames")


def _export_pipeline(loaded: pretrained.Pretrained, out: str, note: dict[str, Any]) -> None:
  config = loaded.config
  encoders = _encoders(config)
  generation = layout.Generation(
    config.data.num_frames, config.data.height, config.data.width, config.data.fps
  )
  rows = {"Weights": loaded.origin}
  if loaded.data:  # without, the config says nothing of how it was trained
    seen = config.total_steps * config.batch_size
    rows |= {"Trained for": f"{seen:,} samples", "Data": config.data.path}
  about = card.About(rows, note["license"], note["config"] if loaded.data else {}, note["data"])
  tokenizer = _tokenizer(config.encoders.text) if "text" in encoders else None
  shape = denoising.unet_config(config)
  if note["format"] == "stability":
    path = layout.export_file(
      out, shape, loaded.params, encoders, generation, note, tokenizer=tokenizer, about=about
    )
    console.line(f"{path} is what generative-models calls ckpt_path")
    return
  pipeline = layout.export_pipeline(
    out,
    shape,
    loaded.params,
    encoders,
    generation,
    tokenizer=tokenizer,
    about=about,
    diffusion=config.diffusion if loaded.knows_noise else None,
  )
  if not loaded.knows_noise:
    console.line("what its noise levels are is not known, so no scheduler/ is written")
  console.line(
    f"diffusers.{pipeline}.from_pretrained({out!r}) loads it"
    if pipeline
    else "diffusers has no pipeline for this model: load its parts one by one"
  )


def _encoders(config: configs.TrainConfig) -> dict[str, frozen.Encoder[Any]]:
  return frozen.load(config.encoders, MODES[config.conditioning.mode].encoder).encoders


def _tokenizer(spec: str) -> tokenizers.Tokenizer | None:
  """The tokenizer of a text encoder; a file has no room for one, and may have none beside it."""
  try:
    return tokenizers.load(spec)
  except ValueError:
    if not spec.endswith(".safetensors"):
      raise
    console.line(f"no tokenizer/ beside {spec}, so none is written: copy the model's into --out")
    return None


def main() -> None:
  """The verb: see the module's text."""
  given = flags.FLAGS
  with contextlib.ExitStack() as stack:
    model, origin = given.model, None
    if given.allow_pickle and pickles.is_pickle(model):
      model, origin = stack.enter_context(pickles.as_safetensors(model)), given.model
    export(
      model, given.params, given.out, format=given.format, license=given.license, origin=origin
    )
    if given.verify:
      verify(model, given.params, given.out, format=given.format, origin=origin)


def define_flags() -> None:
  """Defines the flags of the verb; only the process that runs it has them."""
  flags.DEFINE_string(
    "model", None, "Workdir, checkpoint step, exported folder, or .safetensors.", required=True
  )
  flags.DEFINE_string("out", None, "Folder to write.", required=True)
  flags.DEFINE_string("params", "ema", "Which weights of a workdir: ema, ema:DECAY or raw.")
  flags.DEFINE_enum("format", "diffusers", list(FORMATS), "Layout to write.")
  flags.DEFINE_string(
    "license", card.UNKNOWN_LICENSE, "Licence of the weights, for the model card: apache-2.0, ..."
  )
  flags.DEFINE_bool("allow_pickle", False, "Read --model=X.ckpt with torch: only if you trust it.")
  flags.DEFINE_bool("verify", False, "Read everything back and compare.")


if __name__ == "__main__":
  define_flags()
  command.run(main)
