"""The networks of a model, whichever layout they are in or on their way to.

Kinds are "unet", "vae", and "image" or "text" for the encoder of the condition.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from vidjax import lazy
from vidjax.errors import CheckpointError
from vidjax.interop import temporal_vae
from vidjax.models.unet import UNetConfig

if TYPE_CHECKING:
  from vidjax.encoders.frozen import Encoder  # which reads its weights through this package

Parts: TypeAlias = dict[str, tuple[Any, lazy.Weights]]  # kind -> config, parameters by flat name


def for_export(
  unet_config: UNetConfig, unet_params: lazy.Weights, encoders: "Mapping[str, Encoder]"
) -> Parts:
  """What is written of a model: its networks, changed where a layout asks for it.

  An image autoencoder of an image-to-video model becomes one with a temporal decoder that computes
  the same, where its shape allows that.
  """
  parts: Parts = {"unet": (unet_config, unet_params)}
  parts |= {kind: (encoder.config, encoder.params) for kind, encoder in encoders.items()}
  if makes_video_of_images(parts) and temporal_vae.fits(parts["vae"][0]):
    parts["vae"] = temporal_vae.from_image_vae(*parts["vae"])
  return parts


def makes_video_of_images(parts: Parts) -> bool:
  """Whether the model has the shape of Stable Video Diffusion, for which other code has a class."""
  config = parts["unet"][0]
  if config.temporal == "none" or "image" not in parts:
    return False
  return (
    config.in_channels == 2 * parts["vae"][0].latent_channels
    and config.vector_size == 3
    and config.cross_attention_dims == (parts["image"][0].projection_dim,)
  )


def check_equal(written: Parts, back: Parts, where: str) -> int:
  """Compares what was to be written with what is read back, bit by bit.

  Returns:
    The number of tensors that are equal.

  Raises:
    CheckpointError: a network or tensor is not there, or differs in one bit.
  """
  if written.keys() != back.keys():
    raise CheckpointError(f"{where}: holds {sorted(back)}, not {sorted(written)}: export again")
  count = 0
  for kind, (_, weights) in written.items():
    _, again = back[kind]
    if weights.keys() != again.keys():
      name = min(weights.keys() ^ again.keys())
      raise CheckpointError(f"{where}: {kind} differs in having {name}: export again")
    for name in lazy.watched(list(weights), f"comparing {kind}", lazy.nbytes(weights)):
      if not lazy.same_bits(np.asarray(weights[name], np.float32), np.asarray(again[name])):
        raise CheckpointError(f"{where}: {kind} {name} is not what was exported: export again")
      count += 1
  return count
