"""Resizing as the sources of evaluation protocols do it: one matrix for rows, one for columns.

Each rule is separable and linear, so it is a float64 matrix (new, old) for a dim, made once for a
pair of sizes. Only the `antialiased` rules average over what falls between the new points.
Positions of the others are float32 as in their sources, which moves a pixel by up to 0.01 of 255.

B rows, T frames, H W height and width, h w new height and width, C channels.
"""

from collections.abc import Callable
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

Rule = Callable[[int, int], np.ndarray]  # (old, new) -> (new, old)


def resize(x_BTHWC: jax.Array, size: tuple[int, int], rule: Rule) -> jax.Array:
  """Resizes frames to `size` = (h, w) by one of the rules below, in float32."""
  highest = jax.lax.Precision.HIGHEST
  old = x_BTHWC.shape[2:4]
  if old[0] != size[0]:
    rows_hH = jnp.asarray(rule(old[0], size[0]), jnp.float32)
    x_BTHWC = jnp.einsum("hH,BTHWC->BThWC", rows_hH, x_BTHWC, precision=highest)
  if old[1] != size[1]:
    columns_wW = jnp.asarray(rule(old[1], size[1]), jnp.float32)
    x_BTHWC = jnp.einsum("wW,BTHWC->BTHwC", columns_wW, x_BTHWC, precision=highest)
  return x_BTHWC


@functools.cache
def legacy(old: int, new: int) -> np.ndarray:
  """TensorFlow 1's `resize_bilinear`: point i lies at i * old / new, without the half pixel."""
  return _between(_points(new) * np.float32(old / new), old)


@functools.cache
def half_pixel(old: int, new: int) -> np.ndarray:
  """PyTorch's `interpolate(mode="bilinear", align_corners=False)`, not antialiased."""
  half = np.float32(0.5)
  return _between(np.maximum((_points(new) + half) * np.float32(old / new) - half, 0), old)


@functools.cache
def corners(old: int, new: int) -> np.ndarray:
  """Chainer's `resize_images`, or PyTorch's with align_corners=True: end points stay end points."""
  return _between(_points(new) * np.float32((old - 1) / max(new - 1, 1)), old)


@functools.cache
def antialiased_linear(old: int, new: int) -> np.ndarray:
  """PyTorch's bilinear with antialias=True, and PIL's on floating-point numbers."""
  return _averaged(old, new, lambda x: np.maximum(1 - x, 0), 1)


@functools.cache
def antialiased_cubic(old: int, new: int) -> np.ndarray:
  """PyTorch's bicubic with antialias=True, and PIL's on floating-point numbers (a = -0.5)."""
  return _averaged(old, new, _cubic, 2)


def _points(new: int) -> np.ndarray:
  return np.arange(new, dtype=np.float32)


def _between(position: np.ndarray, old: int) -> np.ndarray:
  """Linear interpolation at positions in [0, old - 1], and the last pixel beyond."""
  low = np.minimum(np.floor(position).astype(int), old - 1)
  share = (position - low.astype(np.float32)).astype(np.float64)
  matrix = np.zeros((len(position), old))
  np.add.at(matrix, (np.arange(len(position)), low), 1 - share)
  np.add.at(matrix, (np.arange(len(position)), np.minimum(low + 1, old - 1)), share)
  return matrix


def _averaged(
  old: int, new: int, kernel: Callable[[np.ndarray], np.ndarray], reach: int
) -> np.ndarray:
  """Each new pixel as the mean of old ones around it, weighed by a kernel as wide as the step."""
  step = old / new
  width = max(step, 1.0)
  matrix = np.zeros((new, old))
  for i in range(new):
    centre = step * (i + 0.5)
    first = max(math.floor(centre - reach * width + 0.5), 0)
    last = min(math.floor(centre + reach * width + 0.5), old)
    weights = kernel(np.abs(np.arange(first, last) + 0.5 - centre) / width)
    matrix[i, first:last] = weights / weights.sum()
  return matrix


def _cubic(distance: np.ndarray) -> np.ndarray:
  """Keys' cubic kernel with a = -0.5."""
  a = -0.5
  near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
  far = a * (((distance - 5) * distance + 8) * distance - 4)
  return np.where(distance < 1, near, np.where(distance < 2, far, 0.0))
