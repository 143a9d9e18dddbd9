"""Features of video from a small network with fixed random weights.

For runs that have no pretrained network at hand.

Two branches, each three strided convolutions and a mean over space:

* appearance: every frame by itself;
* motion: differences of consecutive frames, exactly 0 where nothing moves.

NOT comparable across papers, and blind to much of what a person sees: nothing here has been trained
on anything. It tells noise from pictures, one colour from a scene, moving from frozen; that is what
a first run can be asked. It does not tell flicker from true motion well: a frozen frame under faint
noise scores between frozen and real. Published numbers need the networks they were published with.

Legend: T frames, H W pixels, C channels, K features, P = T - 1 pairs.
"""

from collections.abc import Callable
import functools

import jax
import jax.numpy as jnp
import numpy as np

NAME = "random-conv-1"  # changes whenever a number below changes
SIZE = (32, 48)  # height, width that frames are scaled to, antialiased
_SEED = 20231125
_WIDTHS = (16, 32, 32)
_KERNELS = (5, 3, 3)
# Brings both branches to one scale: real video is about 2 away from its own mean frame in either.
_APPEARANCE_GAIN = 3.0
# Speeds differ by orders of magnitude between clips: without the square root the few fastest ones
# would decide everything. The offset keeps its slope finite at rest.
_MOTION_OFFSET = 1e-4


def features(video_THWC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Appearance (T, K) and motion (P, K) features of one clip, float32.

  Args:
    video_THWC: float32 RGB in [0, 1], at least 2 frames of any size.
  """
  assert video_THWC.ndim == 4, video_THWC.shape
  assert len(video_THWC) > 1, "one frame has no motion"
  appearance_TK, motion_PK = _features(
    jnp.asarray(video_THWC, jnp.float32), jax.tree.map(jnp.asarray, _weights())
  )
  return np.asarray(appearance_TK), np.asarray(motion_PK)


@jax.jit
def _features(video_THWC: jax.Array, weights: dict[str, list[jax.Array]]) -> tuple:
  small_THWC = jax.image.resize(video_THWC, (len(video_THWC), *SIZE, 3), "linear", antialias=True)
  appearance_TK = _network(small_THWC - 0.5, weights["appearance"], jax.nn.relu)
  difference_PHWC = small_THWC[1:] - small_THWC[:-1]
  # |.| and not max(., 0): a brightening edge moves as much as a darkening one.
  energy_PK = _network(difference_PHWC, weights["motion"], jnp.abs)
  motion_PK = jnp.sqrt(energy_PK + _MOTION_OFFSET) - jnp.sqrt(_MOTION_OFFSET)
  return _APPEARANCE_GAIN * appearance_TK, motion_PK


def _network(
  x_THWC: jax.Array, kernels: list[jax.Array], activation: Callable[[jax.Array], jax.Array]
) -> jax.Array:
  for kernel in kernels:
    x_THWC = jax.lax.conv_general_dilated(
      x_THWC,
      kernel,
      window_strides=(2, 2),
      padding="SAME",
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
      precision="highest",  # TPUs multiply in bfloat16 otherwise
    )
    x_THWC = activation(x_THWC)
  return x_THWC.mean(axis=(1, 2))


@functools.cache
def _weights() -> dict[str, list[np.ndarray]]:
  """He-scaled normal kernels. NumPy's PCG64 stream is the same on every machine and version."""
  rng = np.random.Generator(np.random.PCG64(_SEED))
  return {branch: _kernels(rng) for branch in ("appearance", "motion")}


def _kernels(rng: np.random.Generator) -> list[np.ndarray]:
  kernels, channels = [], 3
  for width, size in zip(_WIDTHS, _KERNELS, strict=True):
    scale = np.sqrt(2.0 / (size * size * channels))
    kernel = rng.standard_normal((size, size, channels, width)) * scale
    kernels.append(kernel.astype(np.float32))
    channels = width
  return kernels
