"""An image autoencoder as SVD's one with a temporal decoder, without changing what it computes."""

import dataclasses

import numpy as np

from vidjax.encoders.vae import VAEConfig, describe
from vidjax.lazy import Weights
from vidjax.nn.norm import GROUPS


def fits(config: VAEConfig) -> bool:
  """Whether an image autoencoder can be one with a temporal decoder, whose shape is less free."""
  return (
    config.use_quant_conv
    and not config.use_post_quant_conv
    and config.mid_attention
    and config.layers_per_block == 2
    and config.norm_groups == GROUPS
  )


def from_image_vae(config: VAEConfig, params: Weights) -> tuple[VAEConfig, Weights]:
  """Adds temporal layers that pass everything through; they can be trained from there.

  The last convolution of each temporal block is zero, so that block and blend are the identity; the
  first one and the convolution after the decoder pass the middle frame.

  Raises:
    ValueError: the autoencoder has another shape than one with a temporal decoder can have.
  """
  temporal = dataclasses.replace(config, temporal_decoder=True)
  abstract = describe(temporal).abstract
  added = {
    name: _identity(name, leaf.shape) for name, leaf in abstract.items() if name not in params
  }
  return temporal, {**params, **added}


def _identity(name: str, shape: tuple[int, ...]) -> np.ndarray:
  layer, leaf = name.split(".")[-2:]
  if leaf == "scale":
    return np.ones(shape, np.float32)
  array = np.zeros(shape, np.float32)
  if leaf == "kernel" and layer != "conv2":
    array[1] = np.eye(shape[1])
  return array
