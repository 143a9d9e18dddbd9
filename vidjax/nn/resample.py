"""Halving and doubling the height and width of frames.

B batch, T frames, H W height and width, C channels.
"""

from flax import nnx
import jax
import jax.numpy as jnp

from vidjax.nn.conv import Conv
from vidjax.nn.init import Keys


class Downsample(nnx.Module):
  """Strided 3x3 convolution: (B, T, H, W, C) -> (B, T, H/2, W/2, C).

  Args:
    channels: C.
    symmetric: pad both sides by 1 (UNet), or only bottom and right (the autoencoder's encoder).
    rngs: source of the initial values.
  """

  def __init__(self, channels: int, *, symmetric: bool = True, rngs: Keys):
    padding = ((1, 1), (1, 1)) if symmetric else ((0, 1), (0, 1))
    self.conv = Conv(channels, channels, stride=2, padding=padding, rngs=rngs)

  def __call__(self, x_BTHWC: jax.Array) -> jax.Array:
    """Halves H and W, rounding up."""
    return self.conv(x_BTHWC)


class Upsample(nnx.Module):
  """Nearest-neighbour doubling, then a 3x3 convolution: (B, T, H, W, C) -> (B, T, 2H, 2W, C).

  Args:
    channels: C.
    rngs: source of the initial values.
  """

  def __init__(self, channels: int, *, rngs: Keys):
    self.conv = Conv(channels, channels, rngs=rngs)

  def __call__(self, x_BTHWC: jax.Array, size: tuple[int, int] | None = None) -> jax.Array:
    """Doubles H and W, cut to `size` before the convolution where halving had rounded up."""
    x_BTHWC = nearest_double(x_BTHWC)
    if size is not None:
      x_BTHWC = x_BTHWC[:, :, : size[0], : size[1]]
    return self.conv(x_BTHWC)


def nearest_double(x_BTHWC: jax.Array) -> jax.Array:
  """Repeats each pixel 2 x 2 times."""
  # One dim at a time: a reshape that merges two pairs at once has no sharding rule.
  batch, frames, height, width, channels = x_BTHWC.shape
  tall = jnp.broadcast_to(x_BTHWC[:, :, :, None], (batch, frames, height, 2, width, channels))
  tall = tall.reshape(batch, frames, 2 * height, width, channels)
  both = jnp.broadcast_to(tall[:, :, :, :, None], (*tall.shape[:4], 2, channels))
  return both.reshape(batch, frames, 2 * height, 2 * width, channels)
