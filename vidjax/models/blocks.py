"""Building blocks of the video UNet.

Each block is a spatial part, which sees one frame at a time and is that of the image model, and a
temporal part, which may be absent. Temporal parts start as the identity: their last layers are
zero. Source: SVD, appendix D; generative-models' `video_model.py` and `video_attention.py`.

B batch, T frames, H W height and width, S positions (H * W), C D channels, E channels of the time
embedding, L context tokens, X channels of a context.
"""

from collections.abc import Sequence

from flax import nnx
import jax
import jax.numpy as jnp

from vidjax.nn import attention
from vidjax.nn.attention import Attention
from vidjax.nn.dense import Dense, FeedForward
from vidjax.nn.embed import EmbeddingMLP, sinusoid
from vidjax.nn.init import Keys
from vidjax.nn.mix import AlphaBlender, ImageOnly, then_over_time
from vidjax.nn.norm import GroupNorm, LayerNorm
from vidjax.nn.resblock import ResBlock

Contexts = tuple[jax.Array, ...]

UNET_MIX = 0.5  # initial logit of every AlphaBlender in the UNet


class VideoResBlock(nnx.Module):
  """A spatial ResBlock, then a temporal one, blended: `x_BTHWC -> y_BTHWD`.

  Args:
    in_channels: C.
    out_channels: D.
    embed_channels: E.
    eps: of the group norms.
    temporal: whether the temporal part exists.
    rngs: source of the initial values.
  """

  def __init__(
    self,
    in_channels: int,
    out_channels: int,
    embed_channels: int,
    *,
    eps: float,
    temporal: bool,
    rngs: Keys,
  ):
    self.spatial = ResBlock(
      in_channels, out_channels, embed_channels, eps=eps, split=True, rngs=rngs
    )
    self.temporal = (
      ResBlock(
        out_channels, out_channels, embed_channels, eps=eps, temporal=True, split=True, rngs=rngs
      )
      if temporal
      else None
    )
    self.time_mixer = AlphaBlender(UNET_MIX) if temporal else None

  def __call__(self, x_BTHWC: jax.Array, emb_BE: jax.Array, *, image_only: ImageOnly) -> jax.Array:
    """`image_only` skips the temporal part."""
    temporal, mixer = self.temporal, self.time_mixer
    x_BTHWD = self.spatial(x_BTHWC, emb_BE)
    if temporal is None or mixer is None:
      return x_BTHWD

    def blended(x_BTHWD: jax.Array) -> jax.Array:
      return mixer(x_BTHWD, temporal(x_BTHWD, emb_BE))

    return then_over_time(blended, x_BTHWD, image_only=image_only)


class CrossAttention(nnx.Module):
  """Residual attention to the tokens of one context: `x_BTSC -> y_BTSC`."""

  def __init__(
    self, channels: int, heads: int, context_channels: int, *, zero_init: bool, rngs: Keys
  ):
    self.norm = LayerNorm(channels)
    self.attn = Attention(
      channels,
      heads,
      context_channels=context_channels,
      zero_init=zero_init,
      split_heads=True,
      rngs=rngs,
    )

  def __call__(self, x_BTSC: jax.Array, context_BLX: jax.Array) -> jax.Array:
    """Adds what the positions read from the tokens of their clip."""
    return x_BTSC + self.attn(self.norm(x_BTSC), context_BLX)


class TransformerBlock(nnx.Module):
  """Self-attention, one cross-attention for each context, feed-forward: `x_BTSC -> y_BTSC`.

  Args:
    channels: C.
    heads: number of attention heads.
    context_channels: X of each context.
    temporal: attend over frames instead of positions, with a feed-forward before, as the identity
      at first. The contexts are those of the clip, the same for every frame and position.
    rngs: source of the initial values.
  """

  def __init__(
    self,
    channels: int,
    heads: int,
    context_channels: Sequence[int],
    *,
    temporal: bool = False,
    rngs: Keys,
  ):
    self.norm_in = LayerNorm(channels) if temporal else None
    self.ff_in = FeedForward(channels, zero_init=True, rngs=rngs) if temporal else None
    self.norm1 = LayerNorm(channels)
    self.attn1 = Attention(channels, heads, zero_init=temporal, split_heads=True, rngs=rngs)
    self.cross = nnx.List(
      CrossAttention(channels, heads, width, zero_init=temporal, rngs=rngs)
      for width in context_channels
    )
    self.norm3 = LayerNorm(channels)
    self.ff = FeedForward(channels, zero_init=temporal, rngs=rngs)
    self.temporal = temporal

  def __call__(self, x_BTSC: jax.Array, contexts: Contexts) -> jax.Array:
    """`contexts` has one entry for each cross-attention."""
    if self.ff_in is not None and self.norm_in is not None:
      x_BTSC += self.ff_in(self.norm_in(x_BTSC))
    h_BTSC = self.norm1(x_BTSC)
    x_BTSC += attention.over_time(self.attn1, h_BTSC) if self.temporal else self.attn1(h_BTSC)
    for cross, context_BLX in zip(self.cross, contexts, strict=True):
      x_BTSC = cross(x_BTSC, context_BLX)
    return x_BTSC + self.ff(self.norm3(x_BTSC))


class VideoTransformer(nnx.Module):
  """Spatial transformer blocks, each followed by a temporal one: `x_BTHWC -> y_BTHWC`.

  Args:
    channels: C.
    heads: number of attention heads.
    depth: number of spatial blocks, and of temporal ones.
    context_channels: X of each context.
    temporal: whether the temporal part exists.
    rngs: source of the initial values.
  """

  def __init__(
    self,
    channels: int,
    heads: int,
    depth: int,
    context_channels: Sequence[int],
    *,
    temporal: bool,
    rngs: Keys,
  ):
    self.norm = GroupNorm(channels, eps=1e-6)
    self.proj_in = Dense(channels, channels, rngs=rngs)
    self.blocks = nnx.List(
      TransformerBlock(channels, heads, context_channels, rngs=rngs) for _ in range(depth)
    )
    self.proj_out = Dense(channels, channels, rngs=rngs)
    self.temporal_blocks = nnx.List(
      TransformerBlock(channels, heads, context_channels, temporal=True, rngs=rngs)
      for _ in range(depth if temporal else 0)
    )
    self.time_pos_embed = (
      EmbeddingMLP(channels, 4 * channels, channels, zero_init=True, rngs=rngs)
      if temporal
      else None
    )
    self.time_mixer = AlphaBlender(UNET_MIX) if temporal else None

  def __call__(self, x_BTHWC: jax.Array, contexts: Contexts, *, image_only: ImageOnly) -> jax.Array:
    """`image_only` skips the temporal part."""
    embed, mixer = self.time_pos_embed, self.time_mixer
    batch, frames, height, width, channels = x_BTHWC.shape
    x_BTSC = self.norm(x_BTHWC).reshape(batch, frames, height * width, channels)
    x_BTSC = self.proj_in(x_BTSC)
    if image_only is True or embed is None or mixer is None:
      for block in self.blocks:
        x_BTSC = block(x_BTSC, contexts)
    else:
      index_TC = sinusoid(jnp.arange(frames), channels).astype(x_BTSC.dtype)
      position_TC = embed(index_TC)
      for block, temporal_block in zip(self.blocks, self.temporal_blocks, strict=True):
        x_BTSC = block(x_BTSC, contexts)

        def blended(x_BTSC: jax.Array, layer: TransformerBlock = temporal_block) -> jax.Array:
          return mixer(x_BTSC, layer(x_BTSC + position_TC[None, :, None], contexts))

        x_BTSC = then_over_time(blended, x_BTSC, image_only=image_only)
    return x_BTHWC + self.proj_out(x_BTSC).reshape(x_BTHWC.shape)
