"""Layers of the feature networks: convolution with a scale and offset of each channel, pooling.

All products are float32 at the highest precision: features are compared with published ones, and
small errors survive their means and bias their covariances.

x (B, [T,] H, W, C) with B rows, T frames, H W pixels, C input and D output channels; K taps.
"""

from collections.abc import Sequence
import functools
import math

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np

from vidjax.nn.init import Keys, fan_in_uniform

_HIGHEST = jax.lax.Precision.HIGHEST
_PICTURES, _CLIPS = ("NHWC", "HWIO", "NHWC"), ("NDHWC", "DHWIO", "NDHWC")


class Unit(nnx.Module):
  """Convolution without bias, scale and offset of each channel, ReLU: (..., C) -> (..., D).

  The scale and the offset are those of a batch norm at inference, gamma / sqrt(variance + eps) and
  beta - mean * scale, so that eps belongs to weights and not to a network. A convolution with a
  bias has no scale, and its bias is the offset.

  Args:
    in_channels: C.
    out_channels: D.
    size: of the kernel: three numbers over (T, H, W), or two over (H, W).
    stride: step in all of these dims.
    padding: "SAME" as TensorFlow has it (the larger half after) or "VALID"; kernels over T have
      "SAME".
    scaled: whether there is a scale.
    rngs: source of the initial values.
  """

  def __init__(
    self,
    in_channels: int,
    out_channels: int,
    size: Sequence[int],
    *,
    stride: int = 1,
    padding: str = "SAME",
    scaled: bool = True,
    rngs: Keys,
  ):
    shape = (*size, in_channels, out_channels)
    self.kernel = nnx.Param(fan_in_uniform(rngs.params(), shape), role="conv")
    self.scale = nnx.Param(jnp.ones(out_channels), role="vector") if scaled else None
    self.offset = nnx.Param(jnp.zeros(out_channels), role="vector")
    self.stride = stride
    self.padding = padding

  def __call__(self, x: jax.Array) -> jax.Array:
    """Runs the layer."""
    y = convolve(x, self.kernel[...], self.stride, self.padding)
    if self.scale is not None:
      y *= _channelwise(self.scale, y)
    return jax.nn.relu(y + _channelwise(self.offset, y))


class Linear(nnx.Module):
  """`x @ kernel + bias` over the last dim: (..., C) -> (..., D)."""

  def __init__(self, in_channels: int, out_channels: int, *, rngs: Keys):
    shape = (in_channels, out_channels)
    self.kernel = nnx.Param(fan_in_uniform(rngs.params(), shape), role="dense")
    self.bias = nnx.Param(jnp.zeros(out_channels), role="vector")

  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps the last dim."""
    y = self.unbiased(x)
    return y + _channelwise(self.bias, y)

  def unbiased(self, x: jax.Array) -> jax.Array:
    """The same without the bias."""
    return jnp.matmul(x, self.kernel[...], precision=_HIGHEST)


def convolve(x: jax.Array, kernel: jax.Array, stride: int = 1, padding: str = "SAME") -> jax.Array:
  """Convolution over (H, W), or over (T, H, W) with "SAME" padding, in the layout of this module.

  XLA's convolutions over time reach half the speed of PyTorch's on CPUs, those of single frames
  most of it and matrix products more. On a CPU, clips are therefore convolved frame by frame; on
  accelerators they are left to XLA as they are.
  """
  if max(kernel.shape[:-2]) == 1 and stride == 1:
    return jnp.matmul(x, kernel.reshape(kernel.shape[-2:]), precision=_HIGHEST)
  if kernel.ndim == 4:
    return _convolve(x, kernel, stride, padding)
  assert padding == "SAME", padding
  frames = _in_pairs if kernel.shape[0] == 3 and stride == 1 else _stacked
  return jax.lax.platform_dependent(
    x,
    kernel,
    cpu=functools.partial(frames, stride=stride),
    default=functools.partial(_convolve, stride=stride, padding=padding),
  )


def max_pool(
  x: jax.Array, size: Sequence[int], stride: int | Sequence[int], padding: str = "SAME"
) -> jax.Array:
  """Largest value of each window, over (H, W) or (T, H, W); padding is never the largest.

  Dim by dim, which is ten times faster on CPUs than in one go, and the same.
  """
  dims = len(size)
  strides = (stride,) * dims if isinstance(stride, int) else tuple(stride)
  pads = jax.lax.padtype_to_pads(x.shape[1:-1], size, strides, padding)
  for dim in range(dims):
    window, step, pad = [1] * x.ndim, [1] * x.ndim, [(0, 0)] * x.ndim
    window[1 + dim], step[1 + dim], pad[1 + dim] = size[dim], strides[dim], pads[dim]
    if size[dim] > 1:
      x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, step, pad)
  return x


def mean_pool(x_BHWC: jax.Array, size: int = 3) -> jax.Array:
  """Mean over `size` x `size` windows around each pixel; padding does not count."""
  counts = np.ones((1, *x_BHWC.shape[1:3], 1), np.float32)
  inverse = jnp.asarray(1 / _sums(counts, size, np), x_BHWC.dtype)
  return _sums(x_BHWC, size, jnp) * inverse


def _sums(x_BHWC, size: int, library):
  """Sums over windows around each pixel, of zeros where the window leaves the picture."""
  before, height, width = size // 2, *x_BHWC.shape[1:3]
  pad, none = (before, before), (0, 0)
  rows = library.pad(x_BHWC, (none, pad, none, none))
  rows = sum((rows[:, i : i + height] for i in range(1, size)), start=rows[:, :height])
  columns = library.pad(rows, (none, none, pad, none))
  return sum((columns[:, :, i : i + width] for i in range(1, size)), start=columns[:, :, :width])


def _convolve(x: jax.Array, kernel: jax.Array, stride: int, padding: str) -> jax.Array:
  return jax.lax.conv_general_dilated(
    x,
    kernel,
    (stride,) * (x.ndim - 2),
    padding,
    dimension_numbers=_PICTURES if x.ndim == 4 else _CLIPS,
    precision=_HIGHEST,
  )


def _stacked(x_BTHWC: jax.Array, kernel: jax.Array, *, stride: int) -> jax.Array:
  """The frames under a kernel's taps along T, side by side as channels of one picture."""
  taps, batch, frames = kernel.shape[0], x_BTHWC.shape[0], math.ceil(x_BTHWC.shape[1] / stride)
  (pad,) = jax.lax.padtype_to_pads((x_BTHWC.shape[1],), (taps,), (stride,), "SAME")
  padded = jnp.pad(x_BTHWC, ((0, 0), pad, (0, 0), (0, 0), (0, 0)))
  last = (frames - 1) * stride + 1
  x = jnp.concatenate([padded[:, k : k + last : stride] for k in range(taps)], -1)
  wide_kernel = jnp.concatenate([kernel[k] for k in range(taps)], 2)
  y = _convolve(x.reshape(batch * frames, *x.shape[2:]), wide_kernel, stride, "SAME")
  return y.reshape(batch, frames, *y.shape[1:])


def _in_pairs(x_BTHWC: jax.Array, kernel: jax.Array, *, stride: int) -> jax.Array:
  """Three taps along T at stride 1: two frames from four convolutions of single ones, not six.

  Source: Winograd's F(2, 3), as in Lavin and Gray (arXiv 1509.09308), section 4.1, along T only.
  """
  assert kernel.shape[0] == 3, kernel.shape
  assert stride == 1, stride
  batch, frames = x_BTHWC.shape[:2]
  pairs = math.ceil(frames / 2)
  padded = jnp.pad(x_BTHWC, ((0, 0), (1, 1 + frames % 2), (0, 0), (0, 0), (0, 0)))
  d = [
    padded[:, k : k + 2 * pairs - 1 : 2].reshape(batch * pairs, *x_BTHWC.shape[2:])
    for k in range(4)
  ]
  first, middle, last = kernel[0], kernel[1], kernel[2]
  even, odd = 0.5 * (first + last), 0.5 * middle
  m = [
    _convolve(d[0] - d[2], first, 1, "SAME"),
    _convolve(d[1] + d[2], even + odd, 1, "SAME"),
    _convolve(d[2] - d[1], even - odd, 1, "SAME"),
    _convolve(d[1] - d[3], last, 1, "SAME"),
  ]
  y = jnp.stack([m[0] + m[1] + m[2], m[1] - m[2] - m[3]], 1)
  return y.reshape(batch, 2 * pairs, *y.shape[2:])[:, :frames]


def _channelwise(vector_C: nnx.Param, like: jax.Array) -> jax.Array:
  return vector_C[...].reshape((1,) * (like.ndim - 1) + (-1,))
