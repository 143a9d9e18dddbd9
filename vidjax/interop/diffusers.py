"""Model folders in the layout of diffusers and transformers: reading.

Neither library is needed: the layout is JSON and safetensors. `vidjax.interop.export` writes it.
"""

from collections.abc import Mapping
import re

import jax
import numpy as np

from vidjax import storage
from vidjax.encoders import clip, vae
from vidjax.interop import configs, names, safetensors
from vidjax.models import unet
from vidjax.nn import params

# Weight files: diffusers and transformers call them differently.
DIFFUSERS_STEM, TRANSFORMERS_STEM = "diffusion_pytorch_model", "model"

Arrays = dict[str, np.ndarray]


def load_unet(folder: storage.PathLike) -> tuple[unet.UNetConfig, Arrays]:
  """Reads a UNet: its config, and float32 parameters by flat name.

  Raises:
    ValueError: the folder is no UNet that this code has; the message names folder, file and key.
  """
  config = configs.unet_from_json(*_config(folder))
  network = params.network(lambda rngs: unet.UNet(config, rngs))
  table = unet_table(config)
  return config, read(folder, DIFFUSERS_STEM, network.abstract, table)


def load_vae(folder: storage.PathLike) -> tuple[vae.VAEConfig, Arrays]:
  """Reads an autoencoder, see `load_unet`; `folder` may also be a pipeline with one in `vae/`."""
  root = storage.Path(folder)
  if not (root / "config.json").exists() and (root / "vae" / "config.json").exists():
    root /= "vae"
  config = configs.vae_from_json(*_config(root))
  return config, read(root, DIFFUSERS_STEM, vae.describe(config).abstract, vae_table(config))


def load_text(folder: storage.PathLike) -> tuple[clip.TextConfig, Arrays]:
  """Reads a CLIP text tower, see `load_unet`."""
  config = configs.text_from_json(*_config(folder))
  network = clip.describe_text(config)
  return config, read(folder, TRANSFORMERS_STEM, network.abstract, names.CLIP_TEXT)


def load_image(folder: storage.PathLike) -> tuple[clip.VisionConfig, Arrays]:
  """Reads a CLIP image tower, see `load_unet`."""
  config = configs.vision_from_json(*_config(folder))
  network = clip.describe_vision(config)
  return config, read(folder, TRANSFORMERS_STEM, network.abstract, names.CLIP_VISION)


def unet_table(config: unet.UNetConfig) -> names.Table:
  """The names of a UNet of this config."""
  return names.IMAGE_UNET if config.temporal == "none" else names.VIDEO_UNET


def vae_table(config: vae.VAEConfig) -> names.Table:
  """The names of an autoencoder of this config."""
  return names.TEMPORAL_VAE if config.temporal_decoder else names.IMAGE_VAE


def read(
  folder: storage.PathLike,
  stem: str,
  abstract: Mapping[str, jax.ShapeDtypeStruct],
  table: names.Table,
) -> Arrays:
  """Reads the parameters `abstract` from the weight files of a folder, as float32.

  Raises:
    ValueError: a tensor is missing, unknown or of another shape; the message names it.
  """
  stored = {table.modern(name): t for name, t in safetensors.tensors(folder, stem).items()}
  pairs = table.pairs(abstract)
  unknown = sorted(
    name for name in stored.keys() - set(pairs.values()) if not re.search(table.ignored, name)
  )
  missing = sorted(set(pairs.values()) - stored.keys())
  if unknown or missing:
    raise ValueError(
      f"weights in {folder} do not fit its config.json: missing {missing[:3]} ({len(missing)} in"
      f" all), unknown {unknown[:3]} ({len(unknown)} in all)"
    )
  result = {}
  for ours, theirs in pairs.items():
    try:
      array = names.from_torch(ours, stored[theirs].read(), abstract[ours].shape)
    except ValueError as exc:
      raise ValueError(f"{folder}: tensor {theirs}: {exc}") from exc
    result[ours] = np.ascontiguousarray(array, np.float32)
  return result


def _config(folder: storage.PathLike) -> tuple[dict, str]:
  """The config of a folder, and its path for messages."""
  path = storage.Path(folder) / "config.json"
  if not path.exists():
    raise ValueError(f"{path} does not exist: {folder} is not a model folder in diffusers layout")
  return storage.read_json(path), str(path)
