"""Convolutions over video: within a frame, and along time.

B batch, T frames, H W height and width, C input channels, D output channels, K taps.
"""

from collections.abc import Sequence

from flax import nnx
import jax
import jax.numpy as jnp

from vidjax.nn.init import Keys, fan_in_uniform, middle_tap, zeros
from vidjax.parallel import plan, remat


class Conv(nnx.Module):
  """2D convolution of each frame: `x_BTHWC -> y_BTHWD`, in the dtype of the input.

  Args:
    in_channels: C.
    out_channels: D.
    size: side of the square kernel.
    stride: step in height and width.
    padding: (before, after) in height and in width; by default what keeps the size at stride 1.
    bias: whether to add one.
    zero_init: start with a zero kernel, so that the layer adds nothing at first.
    split: "column" if only a "row" layer reads the result, which then may stay divided by channels.
    rngs: source of the initial values.
  """

  def __init__(
    self,
    in_channels: int,
    out_channels: int,
    size: int = 3,
    *,
    stride: int = 1,
    padding: Sequence[tuple[int, int]] | None = None,
    bias: bool = True,
    zero_init: bool = False,
    split: str = "",
    rngs: Keys,
  ):
    init = zeros if zero_init else fan_in_uniform
    shape = (size, size, in_channels, out_channels)
    self.role = f"conv_{split}" if split else "conv"
    self.kernel = nnx.Param(init(rngs.params(), shape), role=self.role)
    self.bias = nnx.Param(jnp.zeros(out_channels), role="vector") if bias else None
    self.stride = stride
    self.padding = tuple(padding) if padding else ((size // 2, size // 2),) * 2

  def __call__(self, x_BTHWC: jax.Array) -> jax.Array:
    """Convolves each frame."""
    assert not plan.is_split(x_BTHWC, 2, 3), "frames must be whole"
    y_BTHWD = plan.apply(self._convolve, self.role, x_BTHWC, self.kernel[...])
    y_BTHWD = remat.named(y_BTHWD, remat.CONV)
    return y_BTHWD if self.bias is None else y_BTHWD + _bias(self.bias, y_BTHWD)

  def _convolve(self, x_BTHWC: jax.Array, kernel: jax.Array) -> jax.Array:
    batch, frames, *shape = x_BTHWC.shape
    convolve = _as_product if min(shape[:2]) < len(kernel) else _convolution
    x_NHWC = x_BTHWC.reshape(batch * frames, *shape)
    y_NHWD = convolve(x_NHWC, kernel, self.stride, self.padding)
    return y_NHWD.reshape(batch, frames, *y_NHWD.shape[1:])


def _convolution(
  x_NHWC: jax.Array, kernel: jax.Array, stride: int, padding: tuple[tuple[int, int], ...]
) -> jax.Array:
  return jax.lax.conv_general_dilated(
    x_NHWC,
    kernel,
    window_strides=(stride, stride),
    padding=padding,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )


def _as_product(
  x_NHWC: jax.Array, kernel: jax.Array, stride: int, padding: tuple[tuple[int, int], ...]
) -> jax.Array:
  """The same, of frames that are smaller than the kernel, as one matrix product.

  XLA's CPU convolution has no fast way for such frames, the coarsest of small models: with its
  gradients it takes sixteen times as long (benchmarks/results/cpu.md).
  """
  size, _, channels, _ = kernel.shape
  padded = jnp.pad(x_NHWC, ((0, 0), *padding, (0, 0)))
  height, width = ((n - size) // stride + 1 for n in padded.shape[1:3])
  patches = jnp.concatenate(
    [
      padded[:, i : i + stride * height : stride, j : j + stride * width : stride]
      for i in range(size)
      for j in range(size)
    ],
    axis=-1,
  )
  return patches @ kernel.reshape(size * size * channels, -1)


class TemporalConv(nnx.Module):
  """Convolution along time at each position: `x_BTHWC -> y_BTHWD`, zero padded, K = 3.

  A 3 x 1 x 1 convolution, done as three shifted matrix products: the gradient of the kernel is then
  a matrix product, too, which XLA's CPU convolution makes three times slower.

  Args:
    in_channels: C.
    out_channels: D.
    zero_init: start with a zero kernel, so that the layer adds nothing at first.
    identity_init: start with a kernel that passes the middle frame, C = D.
    split: as in `Conv`; "row_scattered" reads divided channels and divides its own.
    rngs: source of the initial values.
  """

  def __init__(
    self,
    in_channels: int,
    out_channels: int,
    *,
    zero_init: bool = False,
    identity_init: bool = False,
    split: str = "",
    rngs: Keys,
  ):
    assert not (zero_init and identity_init)
    init = zeros if zero_init else middle_tap if identity_init else fan_in_uniform
    self.role = f"conv_{split}" if split else "conv"
    self.kernel = nnx.Param(init(rngs.params(), (3, in_channels, out_channels)), role=self.role)
    self.bias = nnx.Param(jnp.zeros(out_channels), role="vector")

  def __call__(self, x_BTHWC: jax.Array) -> jax.Array:
    """Convolves along T."""
    assert not plan.is_split(x_BTHWC, 1), "clips must be whole: see `then_over_time`"
    y_BTHWD = plan.apply(_convolve_time, self.role, x_BTHWC, self.kernel[...])
    y_BTHWD = remat.named(y_BTHWD, remat.CONV)
    return y_BTHWD + _bias(self.bias, y_BTHWD)


def _convolve_time(x_BTHWC: jax.Array, kernel_KCD: jax.Array) -> jax.Array:
  frames = x_BTHWC.shape[1]
  padded = jnp.pad(x_BTHWC, ((0, 0), (1, 1), (0, 0), (0, 0), (0, 0)))
  taps = [padded[:, k : k + frames] @ kernel_KCD[k] for k in range(3)]
  return taps[0] + taps[1] + taps[2]


def _bias(bias: nnx.Param, like: jax.Array) -> jax.Array:
  return plan.channelwise(bias[...].astype(like.dtype), like)
