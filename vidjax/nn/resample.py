"""Halving and doubling the height and width of frames.

B batch, T frames, H W height and width, C channels.
"""

from flax import nnx
import jax
import jax.numpy as jnp

from vidjax.nn.conv import Conv


class Downsample(nnx.Module):
  """Strided 3x3 convolution: (B, T, H, W, C) -> (B, T, H/2, W/2, C).

  Args:
    channels: C.
    symmetric: pad both sides by 1 (UNet), or only bottom and right (the autoencoder's encoder).
    rngs: source of the initial values.
  """

  def __init__(self, channels: int, *, symmetric: bool = True, rngs: nnx.Rngs):
    padding = ((1, 1), (1, 1)) if symmetric else ((0, 1), (0, 1))
    self.conv = Conv(channels, channels, stride=2, padding=padding, rngs=rngs)

  def __call__(self, x_BTHWC: jax.Array) -> jax.Array:
    """Halves H and W, rounding up."""
    return self.conv(x_BTHWC)


class Upsample(nnx.Module):
  """Nearest-neighbour doubling, then a 3x3 convolution: (B, T, H, W, C) -> (B, T, 2H, 2W, C)."""

  def __init__(self, channels: int, *, rngs: nnx.Rngs):
    self.conv = Conv(channels, channels, rngs=rngs)

  def __call__(self, x_BTHWC: jax.Array) -> jax.Array:
    """Doubles H and W."""
    return self.conv(nearest_double(x_BTHWC))


def nearest_double(x_BTHWC: jax.Array) -> jax.Array:
  """Repeats each pixel 2 x 2 times."""
  batch, frames, height, width, channels = x_BTHWC.shape
  x_BTHaWbC = jnp.broadcast_to(
    x_BTHWC[:, :, :, None, :, None], (batch, frames, height, 2, width, 2, channels)
  )
  return x_BTHaWbC.reshape(batch, frames, 2 * height, 2 * width, channels)
