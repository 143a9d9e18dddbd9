"""The levels of the UNet: the way down, the middle, the way up.

B batch, T frames, H W latent height and width, C channels, E channels of the time embedding.
"""

from collections.abc import Callable

from flax import nnx
import jax
import jax.numpy as jnp

from vidjax.models.blocks import Contexts, VideoResBlock, VideoTransformer
from vidjax.models.config import UNetConfig
from vidjax.models.factorized import FactorizedResBlock, FactorizedTransformer
from vidjax.nn.conv import TemporalConv
from vidjax.nn.init import Keys
from vidjax.nn.mix import ImageOnly, then_over_time
from vidjax.nn.resample import Downsample, Upsample
from vidjax.parallel import remat


class DownBlock(nnx.Module):
  """One level on the way down: residual blocks, transformers, then half the resolution."""

  def __init__(
    self, config: UNetConfig, level: int, ins: list[int], *, downsample: bool, rngs: Keys
  ):
    self.resnets, self.attentions = _layers(config, level, ins, _down_eps(config, level), rngs)
    width = config.block_out_channels[level]
    self.downsample = Downsample(width, rngs=rngs) if downsample else None
    self.temporal_conv = temporal_conv(config, width, rngs) if downsample else None
    self.remat = remat.of_level(config.remat, level)

  def __call__(
    self, x_BTHWC: jax.Array, emb_BE: jax.Array, contexts: Contexts, *, image_only: ImageOnly
  ) -> tuple[jax.Array, list[jax.Array]]:
    """Returns the result and what the way up reads: each layer's output, finest first."""
    outputs = []
    for resnet, transformer in _pairs(self.resnets, self.attentions):
      x_BTHWC = _run(self.remat, resnet, x_BTHWC, emb_BE, image_only=image_only)
      if transformer is not None:
        x_BTHWC = _run(self.remat, transformer, x_BTHWC, contexts, image_only=image_only)
      outputs.append(x_BTHWC)
    if self.downsample is not None:
      x_BTHWC = self.downsample(x_BTHWC)
      x_BTHWC = then_over_time(self.temporal_conv, x_BTHWC, image_only=image_only)
      outputs.append(x_BTHWC)
    return x_BTHWC, outputs


class MidBlock(nnx.Module):
  """The coarsest level: a residual block, a transformer, a residual block."""

  def __init__(self, config: UNetConfig, rngs: Keys):
    width = config.block_out_channels[-1]
    self.resnets, _ = _layers(config, -1, [width, width], 1e-5, rngs, attention=False)
    self.attentions = nnx.List([_transformer(config, -1, rngs)])
    self.remat = remat.of_level(config.remat, -1)

  def __call__(
    self, x_BTHWC: jax.Array, emb_BE: jax.Array, contexts: Contexts, *, image_only: ImageOnly
  ) -> jax.Array:
    """`image_only` skips the temporal layers."""
    x_BTHWC = _run(self.remat, self.resnets[0], x_BTHWC, emb_BE, image_only=image_only)
    x_BTHWC = _run(self.remat, self.attentions[0], x_BTHWC, contexts, image_only=image_only)
    return _run(self.remat, self.resnets[1], x_BTHWC, emb_BE, image_only=image_only)


class UpBlock(nnx.Module):
  """One level on the way up: blocks that also read a skip, then twice the resolution."""

  def __init__(self, config: UNetConfig, level: int, ins: list[int], *, upsample: bool, rngs: Keys):
    self.resnets, self.attentions = _layers(config, level, ins, _up_eps(config), rngs)
    width = config.block_out_channels[level]
    self.upsample = Upsample(width, rngs=rngs) if upsample else None
    self.temporal_conv = temporal_conv(config, width, rngs) if upsample else None
    self.remat = remat.of_level(config.remat, level)

  def __call__(
    self,
    x_BTHWC: jax.Array,
    skips: list[jax.Array],
    emb_BE: jax.Array,
    contexts: Contexts,
    size: tuple[int, int] | None,
    *,
    image_only: ImageOnly,
  ) -> jax.Array:
    """Runs the level.

    Args:
      x_BTHWC: from the coarser level.
      skips: one array for each residual block, in the order of use.
      emb_BE: embedding of the noise level and the condition vector.
      contexts: see `UNet`.
      size: height and width of the result; None at the finest level.
      image_only: see `UNet`.
    """
    layers = _pairs(self.resnets, self.attentions)
    for (resnet, transformer), skip_BTHWC in zip(layers, skips, strict=True):
      x_BTHWC = jnp.concatenate([x_BTHWC, skip_BTHWC], axis=-1)
      x_BTHWC = _run(self.remat, resnet, x_BTHWC, emb_BE, image_only=image_only)
      if transformer is not None:
        x_BTHWC = _run(self.remat, transformer, x_BTHWC, contexts, image_only=image_only)
    if self.upsample is None:
      return x_BTHWC
    return then_over_time(self.temporal_conv, self.upsample(x_BTHWC, size), image_only=image_only)


def temporal_conv(config: UNetConfig, channels: int, rngs: Keys) -> TemporalConv | None:
  """The convolution along time after a spatial one outside residual blocks, if there is one."""
  if config.temporal != "conv1d" or not config.conv1d_outside_resblocks:
    return None
  return TemporalConv(channels, channels, identity_init=True, rngs=rngs)


# Epsilons of the residual blocks' group norms are those of diffusers, where the image model has
# 1e-5 everywhere and SVD's video model 1e-6 in some levels (`unet_3d_blocks.py`).
def _down_eps(config: UNetConfig, level: int) -> float:
  return 1e-6 if config.temporal == "resblock" and config.attention[level] else 1e-5


def _up_eps(config: UNetConfig) -> float:
  return 1e-6 if config.temporal == "resblock" else 1e-5


def _layers(
  config: UNetConfig,
  level: int,
  ins: list[int],
  eps: float,
  rngs: Keys,
  *,
  attention: bool | None = None,
) -> tuple[nnx.List, nnx.List]:
  attention = config.attention[level] if attention is None else attention
  resnets, transformers = [], []
  for in_channels in ins:
    resnets.append(_resnet(config, level, in_channels, eps, rngs))
    if attention:
      transformers.append(_transformer(config, level, rngs))
  return nnx.List(resnets), nnx.List(transformers)


def _resnet(
  config: UNetConfig, level: int, in_channels: int, eps: float, rngs: Keys
) -> VideoResBlock | FactorizedResBlock:
  width, embed_channels = config.block_out_channels[level], 4 * config.block_out_channels[0]
  if config.temporal == "conv1d":
    return FactorizedResBlock(in_channels, width, embed_channels, eps=eps, rngs=rngs)
  temporal = config.temporal == "resblock"
  return VideoResBlock(in_channels, width, embed_channels, eps=eps, temporal=temporal, rngs=rngs)


def _transformer(
  config: UNetConfig, level: int, rngs: Keys
) -> VideoTransformer | FactorizedTransformer:
  shape = (
    config.block_out_channels[level],
    config.num_attention_heads[level],
    config.transformer_layers_per_block[level],
    config.cross_attention_dims,
  )
  if config.temporal == "conv1d":
    positions = config.learned_positions
    return FactorizedTransformer(*shape, learned_positions=positions, rngs=rngs)
  return VideoTransformer(*shape, temporal=config.temporal == "resblock", rngs=rngs)


def _pairs(resnets: nnx.List, attentions: nnx.List) -> list[tuple]:
  return list(zip(resnets, list(attentions) or [None] * len(resnets), strict=True))


def _run(
  policy: str, block: Callable[..., jax.Array], x_BTHWC: jax.Array, *args, image_only: ImageOnly
) -> jax.Array:
  return remat.run(policy, lambda x: block(x, *args, image_only=image_only), x_BTHWC)
