"""Temporal layers in between the spatial ones: convolutions and attention along time.

After each convolution of the image model comes one along time, after each of its transformer blocks
one that attends along time. All start as the identity, so a video model starts as the image model
that its spatial parameters come from. Sources: Gen-1 (arXiv 2302.03011); Emu Video
(2311.10709), sections 3.2-3.3, for identity kernels and zero output layers; PixelDance
(2311.10982), section 3.1.

B batch, T frames, H W height and width, S positions (H * W), C D channels, E channels of the time
embedding, L context tokens, X channels of a context.
"""

from collections.abc import Sequence
import functools

from flax import nnx
import jax
import jax.numpy as jnp

from vidjax.models.blocks import Contexts, TransformerBlock
from vidjax.nn import attention
from vidjax.nn.attention import Attention
from vidjax.nn.conv import TemporalConv
from vidjax.nn.dense import Dense, FeedForward
from vidjax.nn.embed import Embedding, EmbeddingMLP, sinusoid
from vidjax.nn.init import Keys
from vidjax.nn.mix import ImageOnly, then_over_time
from vidjax.nn.norm import GroupNorm, LayerNorm
from vidjax.nn.resblock import ResBlock


class FactorizedResBlock(nnx.Module):
  """A spatial ResBlock, each convolution followed by one along time: `x_BTHWC -> y_BTHWD`.

  Args:
    in_channels: C.
    out_channels: D.
    embed_channels: E.
    eps: of the group norms, which are those of the image model: each frame for itself.
    rngs: source of the initial values.
  """

  def __init__(
    self, in_channels: int, out_channels: int, embed_channels: int, *, eps: float, rngs: Keys
  ):
    self.spatial = ResBlock(
      in_channels, out_channels, embed_channels, eps=eps, split=True, rngs=rngs
    )
    self.temporal_conv1 = TemporalConv(
      out_channels, out_channels, identity_init=True, split="row_scattered", rngs=rngs
    )
    self.temporal_conv2 = TemporalConv(out_channels, out_channels, identity_init=True, rngs=rngs)

  def __call__(self, x_BTHWC: jax.Array, emb_BE: jax.Array, *, image_only: ImageOnly) -> jax.Array:
    """`image_only` skips the temporal part."""
    first, second = (
      functools.partial(then_over_time, conv, image_only=image_only)
      for conv in (self.temporal_conv1, self.temporal_conv2)
    )
    return self.spatial(x_BTHWC, emb_BE, then=(first, second))


class FactorizedTransformer(nnx.Module):
  """Spatial transformer blocks, each followed by one along time: `x_BTHWC -> y_BTHWC`.

  Args:
    channels: C.
    heads: number of attention heads.
    depth: number of spatial blocks, and of temporal ones.
    context_channels: X of each context; the spatial blocks read them.
    learned_positions: frames in the tables of learned positions; 0 for sinusoids.
    rngs: source of the initial values.
  """

  def __init__(
    self,
    channels: int,
    heads: int,
    depth: int,
    context_channels: Sequence[int],
    *,
    learned_positions: int,
    rngs: Keys,
  ):
    self.norm = GroupNorm(channels, eps=1e-6)
    self.proj_in = Dense(channels, channels, rngs=rngs)
    self.blocks = nnx.List(
      TransformerBlock(channels, heads, context_channels, rngs=rngs) for _ in range(depth)
    )
    self.proj_out = Dense(channels, channels, rngs=rngs)
    self.temporal_blocks = nnx.List(
      FrameAttention(channels, heads, learned_positions=learned_positions, rngs=rngs)
      for _ in range(depth)
    )

  def __call__(self, x_BTHWC: jax.Array, contexts: Contexts, *, image_only: ImageOnly) -> jax.Array:
    """`image_only` skips the temporal part."""
    batch, frames, height, width, channels = x_BTHWC.shape
    x_BTSC = self.norm(x_BTHWC).reshape(batch, frames, height * width, channels)
    x_BTSC = self.proj_in(x_BTSC)
    for block, temporal_block in zip(self.blocks, self.temporal_blocks, strict=True):
      x_BTSC = block(x_BTSC, contexts)
      x_BTSC = then_over_time(temporal_block, x_BTSC, image_only=image_only)
    return x_BTHWC + self.proj_out(x_BTSC).reshape(x_BTHWC.shape)


class FrameAttention(nnx.Module):
  """Attention of each position to itself in all frames, then feed-forward: `x_BTSC -> y_BTSC`.

  Positions are added to what attention reads and not to what it is added to, so that image and
  video run through the spatial layers with the same statistics.
  """

  def __init__(self, channels: int, heads: int, *, learned_positions: int, rngs: Keys):
    self.norm1 = LayerNorm(channels)
    self.position = (
      LearnedPosition(learned_positions, channels, rngs)
      if learned_positions
      else SinusoidPosition(channels, rngs)
    )
    self.attn = Attention(channels, heads, zero_init=True, split_heads=True, rngs=rngs)
    self.norm2 = LayerNorm(channels)
    self.ff = FeedForward(channels, zero_init=True, rngs=rngs)

  def __call__(self, x_BTSC: jax.Array) -> jax.Array:
    """Runs the block."""
    position_TC = self.position(x_BTSC.shape[1]).astype(x_BTSC.dtype)
    h_BTSC = self.norm1(x_BTSC) + position_TC[None, :, None]
    x_BTSC += attention.over_time(self.attn, h_BTSC)
    return x_BTSC + self.ff(self.norm2(x_BTSC))


class SinusoidPosition(nnx.Module):
  """Sinusoids of the frame index through an MLP of hidden width 4C, as in SVD: T -> (T, C)."""

  def __init__(self, channels: int, rngs: Keys):
    self.mlp = EmbeddingMLP(channels, 4 * channels, channels, rngs=rngs)
    self.channels = channels

  def __call__(self, frames: int) -> jax.Array:
    """Float32 vectors of the first `frames` frames."""
    return self.mlp(sinusoid(jnp.arange(frames), self.channels))


class LearnedPosition(nnx.Module):
  """A learned vector for each frame, as in Gen-1: T -> (T, C)."""

  def __init__(self, max_frames: int, channels: int, rngs: Keys):
    self.table = Embedding(max_frames, channels, rngs=rngs)
    self.max_frames = max_frames

  def __call__(self, frames: int) -> jax.Array:
    """Float32 vectors of the first `frames` frames.

    Raises:
      ValueError: the table has fewer.
    """
    if frames > self.max_frames:
      raise ValueError(
        f"clips of {frames} frames: model.learned_positions covers {self.max_frames} only"
      )
    return self.table(jnp.arange(frames))
