"""The denoising UNet: one model for images and videos, for every conditioning.

Names of spatial parameters are equal with and without temporal layers, so an image model starts a
video model by name. Source: SVD (arXiv 2311.15127), appendix D.2; Stable Diffusion 2.1.

B batch, T frames, H W latent height and width, C channels, E channels of the time embedding,
V numbers of the condition vector, L context tokens, X channels of a context.
"""

from collections.abc import Callable
import dataclasses

from flax import nnx
import jax
import jax.numpy as jnp

from vidjax.models.blocks import Contexts, VideoResBlock, VideoTransformer
from vidjax.nn.conv import Conv
from vidjax.nn.embed import EmbeddingMLP, embed_vector, sinusoid
from vidjax.nn.init import Keys
from vidjax.nn.norm import GroupNorm
from vidjax.nn.resample import Downsample, Upsample


@dataclasses.dataclass(frozen=True)
class UNetConfig:
  """Shape of a UNet. Tuples have one entry for each resolution level, finest first.

  Attributes:
    in_channels: channels of the input, those of the condition included.
    out_channels: channels of the prediction.
    block_out_channels: width of each level; multiples of 32.
    num_attention_heads: heads of each level, also where it has no attention.
    attention: whether the level has transformers.
    layers_per_block: residual blocks on the way down; one more on the way up.
    transformer_layers_per_block: depth of each transformer.
    cross_attention_dims: channels of each context; one cross-attention for each.
    temporal: "resblock" for SVD's temporal layers, "none" for an image model.
    vector_size: numbers in the condition vector (fps_id, motion_bucket_id, noise_aug_strength); 0
      for none.
    vector_embed_dim: channels of the sinusoid of each number.
    remat: recompute each block in the backward pass instead of storing what is inside.
    dtype: of the computation; parameters and statistics are float32.
  """

  in_channels: int = 8
  out_channels: int = 4
  block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
  num_attention_heads: tuple[int, ...] = (5, 10, 20, 20)
  attention: tuple[bool, ...] = (True, True, True, False)
  layers_per_block: int = 2
  transformer_layers_per_block: int = 1
  cross_attention_dims: tuple[int, ...] = (1024,)
  temporal: str = "resblock"
  vector_size: int = 3
  vector_embed_dim: int = 256
  remat: bool = False
  dtype: str = "float32"

  def __post_init__(self):
    levels = len(self.block_out_channels)
    for field in ("num_attention_heads", "attention"):
      if len(getattr(self, field)) != levels:
        raise ValueError(
          f"model.{field}={getattr(self, field)} needs one entry for each of the {levels} levels"
          f" of model.block_out_channels={self.block_out_channels}"
        )
    if self.temporal not in ("none", "resblock"):
      raise ValueError(f"model.temporal={self.temporal!r}: use 'none' or 'resblock'")
    if self.dtype not in ("float32", "bfloat16"):
      raise ValueError(f"model.dtype={self.dtype!r}: use 'float32' or 'bfloat16'")


PRESETS: dict[str, UNetConfig] = {
  "svd": UNetConfig(),
  "svd_t2v": UNetConfig(in_channels=4),
  "svd_interpolation": UNetConfig(in_channels=9),
  "sd21": UNetConfig(in_channels=4, temporal="none", vector_size=0),
  "tiny": UNetConfig(
    in_channels=16,  # the tiny autoencoder has eight channels
    out_channels=8,
    block_out_channels=(64, 64),  # two channels in each of the 32 groups: norms keep some means
    num_attention_heads=(4, 4),
    attention=(False, True),
    layers_per_block=1,
    cross_attention_dims=(64,),
    vector_embed_dim=32,
  ),
}


class UNet(nnx.Module):
  """Predicts from a noisy clip and its condition: `(x_BTHWC, ...) -> y_BTHWD`, D = out_channels.

  Args:
    config: shape of the model.
    rngs: source of the initial values. The output layer is zero at first, and so is the prediction.
  """

  def __init__(self, config: UNetConfig, rngs: Keys):
    self.config = config
    widths = config.block_out_channels
    embed_channels = 4 * widths[0]
    self.conv_in = Conv(config.in_channels, widths[0], rngs=rngs)
    self.time_embedding = EmbeddingMLP(widths[0], embed_channels, rngs=rngs)
    vector_channels = config.vector_size * config.vector_embed_dim
    self.add_embedding = (
      EmbeddingMLP(vector_channels, embed_channels, rngs=rngs) if vector_channels else None
    )

    down_blocks, skips, width = [], [widths[0]], widths[0]
    for level, level_width in enumerate(widths):
      ins = [width] + [level_width] * (config.layers_per_block - 1)
      has_end = level < len(widths) - 1
      down_blocks.append(DownBlock(config, level, ins, downsample=has_end, rngs=rngs))
      skips += [level_width] * (config.layers_per_block + has_end)
      width = level_width
    self.down_blocks = nnx.List(down_blocks)

    self.mid_block = MidBlock(config, rngs)

    up_blocks = []
    for level in reversed(range(len(widths))):
      ins = []
      for _ in range(config.layers_per_block + 1):
        ins.append(width + skips.pop())
        width = widths[level]
      up_blocks.append(UpBlock(config, level, ins, upsample=level > 0, rngs=rngs))
    assert not skips
    self.up_blocks = nnx.List(up_blocks)

    self.conv_norm_out = GroupNorm(widths[0], eps=1e-5)
    self.conv_out = Conv(widths[0], config.out_channels, zero_init=True, rngs=rngs)

  def __call__(
    self,
    x_BTHWC: jax.Array,
    c_noise_B: jax.Array,
    contexts: Contexts,
    vector_BV: jax.Array | None = None,
    *,
    image_only: bool = False,
  ) -> jax.Array:
    """Runs the model.

    Args:
      x_BTHWC: scaled noisy latents, with the latents of the condition after them on C.
      c_noise_B: noise level as the preconditioning gives it, e.g. 0.25 ln sigma.
      contexts: tokens (B, L, X) for each cross-attention, the same for all frames of a clip.
      vector_BV: raw numbers of the condition vector; None for a model without.
      image_only: skip all temporal layers, so that frames are independent images.

    Returns:
      y_BTHWD in float32.

    Raises:
      ValueError: the input or the condition does not fit the model's config.
    """
    config = self.config
    _check_inputs(config, x_BTHWC, contexts, vector_BV)
    dtype = jnp.dtype(config.dtype)
    contexts = tuple(context.astype(dtype) for context in contexts)

    # Embeddings.
    emb_BE = self.time_embedding(sinusoid(c_noise_B, config.block_out_channels[0]).astype(dtype))
    if self.add_embedding is not None:
      assert vector_BV is not None
      emb_BE += self.add_embedding(embed_vector(vector_BV, config.vector_embed_dim).astype(dtype))

    # Encoder.
    h = self.conv_in(x_BTHWC.astype(dtype))
    skips = [h]
    for block in self.down_blocks:
      h, outputs = block(h, emb_BE, contexts, image_only=image_only)
      skips += outputs

    # Decoder.
    h = self.mid_block(h, emb_BE, contexts, image_only=image_only)
    for block in self.up_blocks:
      taken = [skips.pop() for _ in block.resnets]
      size = skips[-1].shape[2:4] if skips else None
      h = block(h, taken, emb_BE, contexts, size, image_only=image_only)
    return self.conv_out(jax.nn.silu(self.conv_norm_out(h))).astype(jnp.float32)


class DownBlock(nnx.Module):
  """One level on the way down: residual blocks, transformers, then half the resolution."""

  def __init__(
    self, config: UNetConfig, level: int, ins: list[int], *, downsample: bool, rngs: Keys
  ):
    self.resnets, self.attentions = _layers(config, level, ins, _down_eps(config, level), rngs)
    width = config.block_out_channels[level]
    self.downsample = Downsample(width, rngs=rngs) if downsample else None
    self.remat = config.remat

  def __call__(
    self, x_BTHWC: jax.Array, emb_BE: jax.Array, contexts: Contexts, *, image_only: bool
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
      outputs.append(x_BTHWC)
    return x_BTHWC, outputs


class MidBlock(nnx.Module):
  """The coarsest level: a residual block, a transformer, a residual block."""

  def __init__(self, config: UNetConfig, rngs: Keys):
    width = config.block_out_channels[-1]
    self.resnets, _ = _layers(config, -1, [width, width], 1e-5, rngs, attention=False)
    self.attentions = nnx.List([_transformer(config, -1, rngs)])
    self.remat = config.remat

  def __call__(
    self, x_BTHWC: jax.Array, emb_BE: jax.Array, contexts: Contexts, *, image_only: bool
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
    self.remat = config.remat

  def __call__(
    self,
    x_BTHWC: jax.Array,
    skips: list[jax.Array],
    emb_BE: jax.Array,
    contexts: Contexts,
    size: tuple[int, int] | None,
    *,
    image_only: bool,
  ) -> jax.Array:
    """Runs the level.

    Args:
      x_BTHWC: from the coarser level.
      skips: one array for each residual block, in the order of use.
      emb_BE: embedding of the noise level and the condition vector.
      contexts: see `UNet`.
      size: height and width of the result; None at the finest level.
      image_only: skips the temporal layers.
    """
    layers = _pairs(self.resnets, self.attentions)
    for (resnet, transformer), skip_BTHWC in zip(layers, skips, strict=True):
      x_BTHWC = jnp.concatenate([x_BTHWC, skip_BTHWC], axis=-1)
      x_BTHWC = _run(self.remat, resnet, x_BTHWC, emb_BE, image_only=image_only)
      if transformer is not None:
        x_BTHWC = _run(self.remat, transformer, x_BTHWC, contexts, image_only=image_only)
    return x_BTHWC if self.upsample is None else self.upsample(x_BTHWC, size)


# Epsilons of the residual blocks' group norms are those of diffusers, where the image model has
# 1e-5 everywhere and the video model 1e-6 in some levels (`unet_3d_blocks.py`).
def _down_eps(config: UNetConfig, level: int) -> float:
  return 1e-6 if config.temporal != "none" and config.attention[level] else 1e-5


def _up_eps(config: UNetConfig) -> float:
  return 1e-6 if config.temporal != "none" else 1e-5


def _layers(
  config: UNetConfig,
  level: int,
  ins: list[int],
  eps: float,
  rngs: Keys,
  *,
  attention: bool | None = None,
) -> tuple[nnx.List, nnx.List]:
  width = config.block_out_channels[level]
  attention = config.attention[level] if attention is None else attention
  resnets, transformers = [], []
  for in_channels in ins:
    resnets.append(
      VideoResBlock(
        in_channels,
        width,
        4 * config.block_out_channels[0],
        eps=eps,
        temporal=config.temporal != "none",
        rngs=rngs,
      )
    )
    if attention:
      transformers.append(_transformer(config, level, rngs))
  return nnx.List(resnets), nnx.List(transformers)


def _transformer(config: UNetConfig, level: int, rngs: Keys) -> VideoTransformer:
  return VideoTransformer(
    config.block_out_channels[level],
    config.num_attention_heads[level],
    config.transformer_layers_per_block,
    config.cross_attention_dims,
    temporal=config.temporal != "none",
    rngs=rngs,
  )


def _pairs(resnets: nnx.List, attentions: nnx.List) -> list[tuple]:
  return list(zip(resnets, list(attentions) or [None] * len(resnets), strict=True))


def _run(remat: bool, block: Callable[..., jax.Array], *args, image_only: bool) -> jax.Array:
  """Calls `block`, keeping only its inputs for the backward pass if `remat`."""

  def call(block, *args):
    return block(*args, image_only=image_only)

  return (jax.checkpoint(call) if remat else call)(block, *args)


def _check_inputs(
  config: UNetConfig, x_BTHWC: jax.Array, contexts: Contexts, vector_BV: jax.Array | None
) -> None:
  if x_BTHWC.ndim != 5 or x_BTHWC.shape[-1] != config.in_channels:
    raise ValueError(
      f"the UNet takes (B, T, H, W, {config.in_channels}), not {x_BTHWC.shape}:"
      " check model.in_channels against latents plus condition"
    )
  widths = tuple(context.shape[-1] for context in contexts)
  if widths != config.cross_attention_dims:
    raise ValueError(
      f"contexts have widths {widths}, model.cross_attention_dims is {config.cross_attention_dims}"
    )
  size = 0 if vector_BV is None else vector_BV.shape[-1]
  if size != config.vector_size:
    raise ValueError(
      f"the condition vector has {size} numbers, model.vector_size is {config.vector_size}"
    )
