"""Resizing for the image encoder, as SVD does it: Gaussian blur, then bicubic with aligned corners.

Both are linear and separable, so a resize is one matrix for rows and one for columns. Source:
generative-models' `encoders/modules.py` (kornia's resize with antialias=True).

B batch, H W height and width, h w new height and width, C channels.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

_A = -0.75  # the cubic kernel of PyTorch's bicubic mode


def resize(x_BHWC: jax.Array, size: tuple[int, int]) -> jax.Array:
  """Resizes to `size` = (h, w): `x_BHWC -> y_BhwC`, in the dtype of the input.

  Raises:
    ValueError: the image is smaller than the blur's kernel, which only a very long one is.
  """
  rows_hH = jnp.asarray(_matrix(x_BHWC.shape[1], size[0]), x_BHWC.dtype)
  columns_wW = jnp.asarray(_matrix(x_BHWC.shape[2], size[1]), x_BHWC.dtype)
  return jnp.einsum("hH,BHWC,wW->BhwC", rows_hH, x_BHWC, columns_wW)


@functools.cache
def _matrix(old: int, new: int) -> np.ndarray:
  """The resize of one dim: float64 (new, old)."""
  return _bicubic(old, new) @ _blur(old, max((old / new - 1) / 2, 0.001))


def _blur(n: int, sigma: float) -> np.ndarray:
  """Gaussian blur with kernel of 4 sigma pixels, at least 3, and reflecting borders."""
  taps = int(max(4 * sigma, 3)) // 2 * 2 + 1
  radius = taps // 2
  if radius >= n:
    raise ValueError(f"an image side of {n} pixels is too short for a blur of {taps}: crop first")
  weights = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * sigma**2))
  matrix = np.zeros((n, n))
  for tap, weight in zip(range(-radius, radius + 1), weights / weights.sum(), strict=True):
    source = np.abs(np.arange(n) + tap)
    source = np.where(source < n, source, 2 * (n - 1) - source)
    np.add.at(matrix, (np.arange(n), source), weight)
  return matrix


def _bicubic(old: int, new: int) -> np.ndarray:
  """Cubic interpolation at `new` points that span the old ones end to end."""
  position = np.arange(new) * ((old - 1) / max(new - 1, 1))
  base = np.floor(position).astype(int)
  matrix = np.zeros((new, old))
  for tap in range(-1, 3):
    distance = np.abs(position - (base + tap))
    near = ((_A + 2) * distance - (_A + 3)) * distance**2 + 1
    far = _A * (((distance - 5) * distance + 8) * distance - 4)
    source = np.clip(base + tap, 0, old - 1)
    np.add.at(matrix, (np.arange(new), source), np.where(distance <= 1, near, far))
  return matrix
