"""Models that several tests describe: once a process."""

import dataclasses
import functools
import math

from vidjax.models.unet import PRESETS, UNet, UNetConfig
from vidjax.nn.params import Network, network


@functools.cache
def describe(config: UNetConfig) -> Network[UNet]:
  return network(lambda rngs: UNet(config, rngs))


def count(config: UNetConfig) -> int:
  return sum(math.prod(leaf.shape) for leaf in describe(config).abstract.values())


def image_model(config: UNetConfig) -> UNetConfig:
  """The image model of the same spatial layers."""
  return dataclasses.replace(
    config,
    temporal="none",
    vector_size=0,
    conv1d_outside_resblocks=False,
    learned_positions=0,
  )


def reduced(preset: str) -> UNetConfig:
  """A preset with all its kinds of layers, few and narrow."""
  config = PRESETS[preset]
  contexts = tuple(8 * (i + 1) for i in range(len(config.cross_attention_dims)))
  return dataclasses.replace(
    config,
    block_out_channels=(32, 64),
    num_attention_heads=(2, 4),
    attention=(True, False),
    layers_per_block=(1, 1),
    transformer_layers_per_block=(min(config.transformer_layers_per_block), 1),
    cross_attention_dims=contexts,
    vector_embed_dim=8,
  )
