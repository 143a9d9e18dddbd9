"""Classifier-free guidance around a denoiser; both branches run as one batch."""

import jax
import jax.numpy as jnp


def frame_scales(num_frames: int, min_guidance: float, max_guidance: float) -> jax.Array:
  """SVD's scale per frame, rising linearly over the clip: shape (1, T, 1, 1, 1), float32."""
  scales = jnp.linspace(min_guidance, max_guidance, num_frames, dtype=jnp.float32)
  return scales.reshape(1, num_frames, 1, 1, 1)


def combine(uncond: jax.Array, cond: jax.Array, scale: jax.Array) -> jax.Array:
  """D_u + scale (D_c - D_u) on denoised predictions (2207.12598 eq. 6)."""
  return uncond + scale * (cond - uncond)
