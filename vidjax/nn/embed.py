"""Numbers to vectors: noise level, frame index, frame rate, motion bucket, token id, a given frame.

B batch, T frames, H W height and width, V numbers of a condition vector, E embedding channels,
C channels.
"""

import math

from flax import nnx
import jax
import jax.numpy as jnp

from vidjax.nn.dense import Dense
from vidjax.nn.init import Keys
from vidjax.parallel import plan


def sinusoid(values: jax.Array, channels: int, *, max_period: float = 10_000.0) -> jax.Array:
  """Sinusoidal embedding, cosines first: (...) -> (..., channels), float32.

  Frequencies fall from 1 to almost 1 / max_period (`timestep_embedding` of generative-models).
  `channels` is even.
  """
  assert channels % 2 == 0, f"odd number of channels {channels}"
  half = channels // 2
  frequencies = jnp.exp(-math.log(max_period) / half * jnp.arange(half, dtype=jnp.float32))
  angles = values.astype(jnp.float32)[..., None] * frequencies.reshape((1,) * values.ndim + (half,))
  return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


class Embedding(nnx.Module):
  """A table of vectors: integer ids (...) -> (..., C), float32."""

  def __init__(self, entries: int, channels: int, *, rngs: Keys):
    table = 0.02 * jax.random.normal(rngs.params(), (entries, channels))
    self.embedding = nnx.Param(table, role="embed")

  def __call__(self, ids: jax.Array) -> jax.Array:
    """Looks `ids` up; the result is sharded as they are."""
    table = plan.gather(self.embedding[...])
    if jax.sharding.get_abstract_mesh().empty:
      return table[ids]
    return table.at[ids].get(out_sharding=jax.P(*jax.typeof(ids).sharding.spec, None))


class MaskEmbedding(nnx.Module):
  """A learned picture (H, W, C) in place of the frames that a mask says are not given.

  Small at first, so that it is near the zeros that stand for a dropped condition. Source: z_m of
  SVD's interpolation model, App. D.5.
  """

  def __init__(self, size: tuple[int, ...], channels: int, *, rngs: Keys):
    height, width = size
    picture = 0.02 * jax.random.normal(rngs.params(), (height, width, channels))
    self.embedding = nnx.Param(picture, role="embed")

  def __call__(self, x_BTHWX: jax.Array) -> jax.Array:
    """Replaces the C channels before the last one where that, the mask, is 0; X > C."""
    picture_HWC = plan.gather(self.embedding[...]).astype(x_BTHWX.dtype)
    mask = x_BTHWX.shape[-1] - 1
    cuts = (mask - picture_HWC.shape[-1], mask)
    rest, given_BTHWC, mask_BTHW1 = jnp.split(x_BTHWX, cuts, axis=-1)
    given_BTHWC = jnp.where(mask_BTHW1 > 0, given_BTHWC, picture_HWC[None, None])
    return jnp.concatenate([rest, given_BTHWC, mask_BTHW1], axis=-1)


class EmbeddingMLP(nnx.Module):
  """Two linear layers with SiLU in between: (..., C) -> (..., D)."""

  def __init__(
    self,
    in_channels: int,
    hidden_channels: int,
    out_channels: int | None = None,
    *,
    zero_init: bool = False,
    rngs: Keys,
  ):
    out_channels = hidden_channels if out_channels is None else out_channels
    self.linear_1 = Dense(in_channels, hidden_channels, rngs=rngs)
    self.linear_2 = Dense(hidden_channels, out_channels, zero_init=zero_init, rngs=rngs)

  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps the last dim."""
    return self.linear_2(jax.nn.silu(self.linear_1(x)))


def embed_vector(vector_BV: jax.Array, channels: int) -> jax.Array:
  """Embeds each number on its own and concatenates: (B, V) -> (B, V * channels), float32."""
  return sinusoid(vector_BV, channels).reshape(vector_BV.shape[0], -1)
