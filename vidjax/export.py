"""Hands a model to PyTorch.

  vidjax export --model=DIR --out=DIR [--params=ema|raw] [--verify]

A diffusion workdir becomes a folder in the layout of diffusers, an image-to-video model one that
`StableVideoDiffusionPipeline.from_pretrained` loads. The workdir of an autoencoder becomes one that
`encoders.vae` and diffusers' `AutoencoderKL` take, with the scaling factor measured on its data. A
finished export of the same weights is left as it is.
Exit codes: 0 done; 2 bad flag or model; 3 data; 4 checkpoint, or files that differ from the weights
under --verify; 7 disk full; 130 interrupted.
"""

import dataclasses

from absl import flags
import jax
import numpy as np

from vidjax import autoencoding, command, denoising, errors, pretrained, storage
from vidjax import config as configs
from vidjax.data import loader
from vidjax.encoders import frozen, tokenizers, vae
from vidjax.interop import diffusers
from vidjax.interop import export as layout
from vidjax.observe import console

_WINDOWS = 64  # frames on which the scaling factor of an autoencoder is measured
_NOTE = "vidjax.json"  # written last: what was exported; a folder with it is complete


def export(model: str, weights: str, out: str) -> None:
  """Writes the model in `model` to folder `out`.

  Raises:
    ValueError: `model` holds no model, or one that the layout cannot express.
    CheckpointError: its checkpoint is incomplete or damaged.
    DataError: an autoencoder's data cannot be read any more.
  """
  loaded = pretrained.load(model, weights)
  note = storage.Path(out) / _NOTE
  if note.exists() and storage.read_json(note)["origin"] == loaded.origin:
    console.line(f"{out}: already holds {loaded.origin}, nothing to do")
    return
  if loaded.config.task == "autoencoder":
    _export_vae(loaded, out)
  else:
    _export_pipeline(loaded, out)
  storage.write_json(note, {"origin": loaded.origin, "config": configs.to_dict(loaded.config)})
  console.line(f"{loaded.origin} -> {out}")


def verify(model: str, weights: str, out: str) -> None:
  """Reads `out` back and compares every UNet tensor with the model's.

  Raises:
    CheckpointError: one differs.
  """
  loaded = pretrained.load(model, weights)
  if loaded.config.task == "autoencoder":
    _, back = diffusers.load_vae(out)
  else:
    _, back = diffusers.load_unet(storage.Path(out) / "unet")
  for name, value in loaded.params.items():
    if not np.array_equal(back[name], value):
      raise errors.CheckpointError(f"{out}: {name} is not what {loaded.origin} holds: export again")
  console.line(f"{out}: {len(back)} tensors equal those of {loaded.origin}")


def scaling_factor(config: configs.TrainConfig, params: dict[str, np.ndarray]) -> float:
  """1 / standard deviation of the latents over frames of the training data (LDM, App. G).

  Diffusion expects data of unit variance; SD's 0.18215 is this number for its autoencoder.
  """
  network = autoencoding.make_vae(config)
  frames = loader.fixed_windows(config.data, _WINDOWS)
  x_BTHWC = np.stack([frame.video_THWC for frame in frames]).astype(np.float32) / 127.5 - 1.0

  def encode(params: dict[str, jax.Array], x_BTHWC: jax.Array) -> jax.Array:
    return network.bind(params).encode_mode(x_BTHWC)

  latents = jax.device_get(jax.jit(encode)(params, x_BTHWC))
  return float(1.0 / latents.std())


def _export_vae(loaded: pretrained.Pretrained, out: str) -> None:
  config = vae.PRESETS[loaded.config.autoencoder.preset]
  factor = scaling_factor(loaded.config, loaded.params)
  config = dataclasses.replace(config, scaling_factor=factor)
  layout.write_vae(
    out, config, loaded.params, min(loaded.config.data.height, loaded.config.data.width)
  )
  console.line(f"scaling factor {factor:.4f}, measured on {_WINDOWS} frames")


def _export_pipeline(loaded: pretrained.Pretrained, out: str) -> None:
  config = loaded.config
  encoders = frozen.load(config.encoders, config.conditioning.mode).encoders
  generation = layout.Generation(
    config.data.num_frames, config.data.height, config.data.width, config.data.fps
  )
  seen = config.total_steps * config.batch_size
  pipeline = layout.export_pipeline(
    out,
    denoising.unet_config(config),
    loaded.params,
    encoders,
    generation,
    tokenizer=tokenizers.load(config.encoders.text) if "text" in encoders else None,
    about={"Weights": loaded.origin, "Trained for": f"{seen:,} samples", "Data": config.data.path},
  )
  console.line(
    f"diffusers.{pipeline}.from_pretrained({out!r}) loads it"
    if pipeline
    else "diffusers has no pipeline for this model: load its parts one by one"
  )


def main() -> None:
  """The verb: see the module's text."""
  given = flags.FLAGS
  export(given.model, given.params, given.out)
  if given.verify:
    verify(given.model, given.params, given.out)


def define_flags() -> None:
  """Defines the flags of the verb; only the process that runs it has them."""
  flags.DEFINE_string("model", None, "Workdir, checkpoint step or exported folder.", required=True)
  flags.DEFINE_string("out", None, "Folder to write.", required=True)
  flags.DEFINE_enum("params", "ema", ["ema", "raw"], "Which weights of a workdir.")
  flags.DEFINE_enum("format", "diffusers", ["diffusers"], "Layout to write.")
  flags.DEFINE_bool("verify", False, "Read everything back and compare.")


if __name__ == "__main__":
  define_flags()
  command.run(main)
