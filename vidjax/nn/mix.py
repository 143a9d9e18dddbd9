"""The learned blend of a spatial and a temporal branch."""

from flax import nnx
import jax
import jax.numpy as jnp

from vidjax.parallel import plan


class AlphaBlender(nnx.Module):
  """`a * first + (1 - a) * second` with `a = sigmoid(mix_factor)`, one factor for each layer.

  The UNet passes (spatial, temporal), the temporal decoder of the autoencoder (temporal, spatial).
  Source: SVD, appendix D.2; diffusers' `resnet.py` (AlphaBlender).

  Args:
    mix_factor: initial logit: 0.5 in the UNet, so that 62 % come from the spatial branch; 0 in the
      temporal decoder.
  """

  def __init__(self, mix_factor: float):
    self.mix_factor = nnx.Param(jnp.full(1, mix_factor), role="vector")

  def __call__(self, first: jax.Array, second: jax.Array) -> jax.Array:
    """Blends two arrays of one shape."""
    alpha = jax.nn.sigmoid(plan.gather(self.mix_factor[...])).astype(first.dtype)
    alpha = alpha.reshape((1,) * first.ndim)
    # Written so that equal branches give exactly that value, whatever the factor.
    return second + alpha * (first - second)
