"""Guidance: one denoiser out of several, D = sum of w_k D_k over branches k of other conditions.

All branches of a clip are evaluated in one batch. What branch stands where, and what w is:

  classifier_free       conditional, unconditional              2207.12598, eq. 6
  image_and_text        image and text, image, neither          Emu Video, 2311.10709, eq. 1;
                                                                InstructPix2Pix, 2211.09800, eq. 3
  temporal_consistency  video with condition, video, frames     Gen-1, 2302.03011, sec. 3.2

Weights are scalars or one for each frame (T,), sum to 1, and are the same for all clips.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from vidjax.diffusion.levels import Level
from vidjax.diffusion.samplers import Denoiser

Scale = jax.Array | np.ndarray  # () or (T,)
Weights = tuple[Scale, ...]


def frame_scales(num_frames: int, min_guidance: float, max_guidance: float) -> np.ndarray:
  """SVD's scale per frame, rising linearly over the clip: shape (T,), float32.

  A single frame is an image, and gets `max_guidance`.
  """
  if num_frames == 1:
    return np.full(1, max_guidance, np.float32)
  return np.linspace(min_guidance, max_guidance, num_frames, dtype=np.float32)


def classifier_free(scale: Scale) -> Weights:
  """D_u + scale (D_c - D_u): weights of (conditional, unconditional). At 1 it is D_c."""
  return scale, 1.0 - scale


def image_and_text(image_scale: Scale, text_scale: Scale) -> Weights:
  """D_0 + w_i (D_i - D_0) + w_t (D_it - D_i): weights of (image and text, image, neither)."""
  return text_scale, image_scale - text_scale, 1.0 - image_scale


def temporal_consistency(temporal_scale: Scale, scale: Scale) -> Weights:
  """D_f + w_t (D_v - D_f) + w (D_vc - D_v): weights of (video with condition, video, frames).

  D_f sees each frame by itself: the temporal layers are off. w_t above 1 makes motion smoother,
  below 1 lets it flicker as drawn by hand.
  """
  return scale, temporal_scale - scale, 1.0 - temporal_scale


def guided(
  denoise: Denoiser,
  weights: Sequence[Scale],
  *,
  interval: tuple[float, float] | None = None,
  rescale: float = 0.0,
) -> Denoiser:
  """A denoiser of B clips out of one of B k: row b k + i is branch i of clip b.

  In turn, and not one branch after the other, so that a batch that is sharded over devices stays
  where it is.

  Args:
    denoise: D of all branches.
    weights: one for each branch, the conditional one first.
    interval: guide only where sigma / alpha is within; outside, D is the first branch
      (2404.07724). None guides everywhere.
    rescale: share of the guided v whose standard deviation in each clip is set to that of the first
      branch, against overexposure (2305.08891, eq. 15-16).
  """
  count = len(weights)

  def combined(x_BTHWC: jax.Array, level: Level) -> jax.Array:
    b, *rest = x_BTHWC.shape
    many = jnp.broadcast_to(x_BTHWC[:, None], (b, count, *rest)).reshape((b * count, *rest))
    out_BK = denoise(many, level).reshape((b, count, *rest))
    first = out_BK[:, 0]
    d = jnp.zeros_like(first)
    for i, weight in enumerate(weights):
      d += jnp.reshape(weight, (1, -1, 1, 1, 1)) * out_BK[:, i]
    if rescale:
      d = _rescaled(d, first, x_BTHWC, level, rescale)
    if interval is not None:
      s = level.sigma / level.alpha
      d = jnp.where((s >= interval[0]) & (s <= interval[1]), d, first)
    return d

  return combined


def _rescaled(
  d: jax.Array, first: jax.Array, x: jax.Array, level: Level, share: float
) -> jax.Array:
  """Moves the standard deviation of v, which D stands for, towards that of the first branch."""
  r = level.norm()
  a, b = level.alpha / r, level.sigma / r
  v, v_first = (a * x / r - d) / b, (a * x / r - first) / b
  dims = tuple(range(1, x.ndim))
  factor = jnp.std(v_first, dims, keepdims=True) / jnp.std(v, dims, keepdims=True)
  return a * x / r - b * v * (share * factor + 1.0 - share)
