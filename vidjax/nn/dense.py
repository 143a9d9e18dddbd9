"""Linear layers and the gated feed-forward.

C input channels, D output channels, F hidden channels; `...` any leading dims, the batch first.
"""

from flax import nnx
import jax
import jax.numpy as jnp

from vidjax.nn.init import Keys, fan_in_uniform, zeros
from vidjax.parallel import plan, remat


class Dense(nnx.Module):
  """`x @ kernel + bias` over the last dim, in the dtype of the input: (..., C) -> (..., D)."""

  def __init__(
    self,
    in_channels: int,
    out_channels: int,
    *,
    bias: bool = True,
    zero_init: bool = False,
    rngs: Keys,
  ):
    init = zeros if zero_init else fan_in_uniform
    self.kernel = nnx.Param(init(rngs.params(), (in_channels, out_channels)), role="dense")
    self.bias = nnx.Param(jnp.zeros(out_channels), role="vector") if bias else None

  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps the last dim."""
    y = x @ plan.gather(self.kernel[...]).astype(x.dtype)
    y = remat.named(y, remat.DENSE)
    if self.bias is None:
      return y
    bias = plan.gather(self.bias[...]).astype(x.dtype)
    return y + bias.reshape((1,) * (y.ndim - 1) + bias.shape)


class FeedForward(nnx.Module):
  """GEGLU feed-forward, hidden width 4C: `out(value * gelu(gate))`; (..., C) -> (..., C).

  Source: Shazeer, "GLU Variants Improve Transformer", eq. 6, with the exact (erf) GELU. `proj`
  holds the value half first, the gate half second, as in diffusers' `activations.py` (GEGLU).
  """

  def __init__(self, channels: int, *, zero_init: bool = False, rngs: Keys):
    self.proj = Dense(channels, 8 * channels, rngs=rngs)
    self.out = Dense(4 * channels, channels, zero_init=zero_init, rngs=rngs)

  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps the last dim."""
    value_F, gate_F = jnp.split(self.proj(x), 2, axis=-1)
    return self.out(value_F * jax.nn.gelu(gate_F, approximate=False))
