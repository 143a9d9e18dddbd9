"""Model folders in the layout of diffusers and transformers: reading.

Neither library is needed: the layout is JSON and safetensors. `vidjax.interop.export` writes it.
"""

from collections.abc import Mapping
from typing import TypeVar

import jax
import numpy as np

from vidjax import lazy, storage
from vidjax.encoders import clip, t5, text, vae
from vidjax.interop import configs, names, safetensors, transfer
from vidjax.interop.parts import Parts
from vidjax.models import unet
from vidjax.nn import params

# Weight files: diffusers and transformers call them differently.
DIFFUSERS_STEM, TRANSFORMERS_STEM = "diffusion_pytorch_model", "model"
# Beside a UNet: its stand-in (h, w, C) for frames that are not given, `UNetConfig.mask_embedding`.
STAND_IN_STEM = "mask_embedding"

T = TypeVar("T")
Arrays = dict[str, np.ndarray]
Lazy = dict[str, lazy.LazyArray]
FOLDERS = {"unet": "unet", "vae": "vae", "text": "text_encoder", "image": "image_encoder"}


def open_unet(folder: storage.PathLike) -> tuple[unet.UNetConfig, Lazy]:
  """Opens a UNet: its config, and float32 parameters by flat name that are read when used.

  Raises:
    ValueError: the folder is no UNet that this code has; the message names folder, file and key.
    CheckpointError: its weights are not what its config says.
  """
  config = configs.unet_from_json(*_config(folder))
  network = params.network(lambda rngs: unet.UNet(config, rngs))
  common, apart = split_unet(network.abstract)
  weights = find(folder, DIFFUSERS_STEM, common, unet_table(config))
  if apart:
    weights |= find(folder, STAND_IN_STEM, apart, unet_table(config))
  return config, weights


def split_unet(by_name: Mapping[str, T]) -> tuple[dict[str, T], dict[str, T]]:
  """What diffusers' class of the UNet knows, and what lies in a file of its own beside it."""
  apart = {name: value for name, value in by_name.items() if name.startswith("mask_embedding.")}
  return {name: value for name, value in by_name.items() if name not in apart}, apart


def open_vae(folder: storage.PathLike) -> tuple[vae.VAEConfig, Lazy]:
  """Opens an autoencoder, see `open_unet`; `folder` may also be a pipeline with one in `vae/`."""
  root = storage.Path(folder)
  if not (root / "config.json").exists() and (root / "vae" / "config.json").exists():
    root /= "vae"
  config = configs.vae_from_json(*_config(root))
  return config, find(root, DIFFUSERS_STEM, vae.describe(config).abstract, vae_table(config))


def open_text(folder: storage.PathLike) -> tuple[text.TextConfig, Lazy]:
  """Opens the text encoder of a diffusion model, CLIP's without its projection; see `open_unet`."""
  config = configs.text_from_json(*_config(folder))
  return config, _find_text(folder, config)


def open_clip_text(folder: storage.PathLike) -> tuple[clip.TextConfig, Lazy]:
  """Opens CLIP's text tower with its projection, see `open_unet`."""
  config = configs.clip_text_from_json(*_config(folder))
  return config, _find_text(folder, config)


def open_image(folder: storage.PathLike) -> tuple[clip.VisionConfig, Lazy]:
  """Opens a CLIP image tower, see `open_unet`."""
  config = configs.vision_from_json(*_config(folder))
  network = clip.describe_vision(config)
  return config, find(folder, TRANSFORMERS_STEM, network.abstract, names.CLIP_VISION)


def open_pipeline(folder: storage.PathLike) -> Parts:
  """All networks in the folder of a pipeline."""
  root = storage.Path(folder)
  openers = {"unet": open_unet, "vae": open_vae, "text": open_text, "image": open_image}
  return {
    kind: openers[kind](root / name) for kind, name in FOLDERS.items() if (root / name).exists()
  }


def load_unet(folder: storage.PathLike) -> tuple[unet.UNetConfig, Arrays]:
  """What `open_unet` opens, read into host memory."""
  config, weights = open_unet(folder)
  return config, lazy.read_all(weights, "reading unet")


def load_vae(folder: storage.PathLike) -> tuple[vae.VAEConfig, Arrays]:
  """What `open_vae` opens, read into host memory."""
  config, weights = open_vae(folder)
  return config, lazy.read_all(weights, "reading vae")


def load_text(folder: storage.PathLike) -> tuple[text.TextConfig, Arrays]:
  """What `open_text` opens, read into host memory."""
  config, weights = open_text(folder)
  return config, lazy.read_all(weights, "reading text encoder")


def load_image(folder: storage.PathLike) -> tuple[clip.VisionConfig, Arrays]:
  """What `open_image` opens, read into host memory."""
  config, weights = open_image(folder)
  return config, lazy.read_all(weights, "reading image encoder")


def unet_table(config: unet.UNetConfig) -> names.Table:
  """The names of a UNet of this config."""
  return names.IMAGE_UNET if config.temporal == "none" else names.VIDEO_UNET


def vae_table(config: vae.VAEConfig) -> names.Table:
  """The names of an autoencoder of this config."""
  return names.TEMPORAL_VAE if config.temporal_decoder else names.IMAGE_VAE


def text_table(config: text.TextConfig) -> names.Table:
  """The names of a text encoder of this config."""
  if isinstance(config, clip.TextConfig):
    return names.CLIP_TEXT
  return names.T5_GATED if config.feed_forward_proj == t5.GATED else names.T5


def read(
  folder: storage.PathLike,
  stem: str,
  abstract: Mapping[str, jax.ShapeDtypeStruct],
  table: names.Table,
) -> Arrays:
  """What `find` finds, read into host memory."""
  return lazy.read_all(find(folder, stem, abstract, table), f"reading {storage.Path(folder).name}")


def find(
  folder: storage.PathLike,
  stem: str,
  abstract: Mapping[str, jax.ShapeDtypeStruct],
  table: names.Table,
) -> Lazy:
  """Finds the parameters `abstract` in the weight files of a folder, see `transfer.read`."""
  return transfer.read(safetensors.tensors(folder, stem), abstract, table, str(folder))


def dtypes(folder: storage.PathLike, kind: str) -> str:
  """What to say of a folder whose weights are not all float32, see `transfer.describe_dtypes`."""
  stem = DIFFUSERS_STEM if kind in ("unet", "vae") else TRANSFORMERS_STEM
  return transfer.describe_dtypes(safetensors.tensors(folder, stem))


def _find_text(folder: storage.PathLike, config: text.TextConfig) -> Lazy:
  return find(folder, TRANSFORMERS_STEM, text.describe(config).abstract, text_table(config))


def _config(folder: storage.PathLike) -> tuple[dict, str]:
  """The config of a folder, and its path for messages."""
  path = storage.Path(folder) / "config.json"
  if not path.exists():
    raise ValueError(f"{path} does not exist: {folder} is not a model folder in diffusers layout")
  return storage.read_json(path), str(path)
