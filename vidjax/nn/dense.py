"""Linear layers and the gated feed-forward.

C input channels, D output channels, F hidden channels; `...` any leading dims, the batch first.
"""

from flax import nnx
import jax
import jax.numpy as jnp

from vidjax.nn.init import Keys, fan_in_uniform, zeros
from vidjax.parallel import plan, remat


class Dense(nnx.Module):
  """`x @ kernel + bias` over the last dim, in the dtype of the input: (..., C) -> (..., D).

  Args:
    in_channels: C.
    out_channels: D.
    bias: whether to add one.
    zero_init: start with a zero kernel, so that the layer adds nothing at first.
    split: "column" if only a "row" layer reads the result, which then may stay divided by channels;
      "gated" likewise, if the result is two halves that are multiplied (`vidjax.parallel.plan`).
    units: the channels come in so many parts (heads) that are never cut; 0 for any cut.
    rngs: source of the initial values.
  """

  def __init__(
    self,
    in_channels: int,
    out_channels: int,
    *,
    bias: bool = True,
    zero_init: bool = False,
    split: str = "",
    units: int = 0,
    rngs: Keys,
  ):
    init = zeros if zero_init else fan_in_uniform
    self.role = f"dense_{split}" if split else "dense"
    self.units = units
    self.kernel = nnx.Param(init(rngs.params(), (in_channels, out_channels)), role=self.role)
    self.bias = nnx.Param(jnp.zeros(out_channels), role="vector") if bias else None

  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps the last dim."""
    y = plan.apply(jnp.matmul, self.role, x, self.kernel[...], units=self.units)
    y = remat.named(y, remat.DENSE)
    if self.bias is None:
      return y
    return y + plan.channelwise(self.bias[...].astype(x.dtype), y)


class FeedForward(nnx.Module):
  """GEGLU feed-forward, hidden width 4C: `out(value * gelu(gate))`; (..., C) -> (..., C).

  Source: Shazeer, "GLU Variants Improve Transformer", eq. 6, with the exact (erf) GELU. `proj`
  holds the value half first, the gate half second, as in diffusers' `activations.py` (GEGLU).
  """

  def __init__(self, channels: int, *, zero_init: bool = False, rngs: Keys):
    self.proj = Dense(channels, 8 * channels, split="gated", rngs=rngs)
    self.out = Dense(4 * channels, channels, zero_init=zero_init, split="row", rngs=rngs)

  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps the last dim."""
    proj = self.proj
    assert proj.bias is not None
    return self.out(plan.apply(_geglu, proj.role, x, proj.kernel[...], proj.bias[...]))


def _geglu(x: jax.Array, kernel_CF: jax.Array, bias_F: jax.Array) -> jax.Array:
  # Two products: halves of one would be cut out of it, and their gradients joined again.
  value, gate = (
    remat.named(x @ kernel, remat.GATED) + bias.reshape((1,) * (x.ndim - 1) + (-1,))
    for kernel, bias in zip(jnp.split(kernel_CF, 2, -1), jnp.split(bias_F, 2), strict=True)
  )
  return value * jax.nn.gelu(gate, approximate=False)
