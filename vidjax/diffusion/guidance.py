"""Classifier-free guidance around a denoiser; both branches run as one batch."""

import jax
import numpy as np


def frame_scales(num_frames: int, min_guidance: float, max_guidance: float) -> np.ndarray:
  """SVD's scale per frame, rising linearly over the clip: shape (T,), float32."""
  return np.linspace(min_guidance, max_guidance, num_frames, dtype=np.float32)


def combine(uncond: jax.Array, cond: jax.Array, scale: jax.Array) -> jax.Array:
  """D_u + scale (D_c - D_u) on denoised predictions (2207.12598 eq. 6)."""
  return uncond + scale * (cond - uncond)
