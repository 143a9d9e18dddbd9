"""Sampling with guidance: condition and noise -> latents, one compiled program.

Joins the denoiser (`vidjax.denoising`), guidance and a sampler; no files, no encoders.
Shapes: B batch, T frames, H W latent height and width, C channels.
"""

import jax
import jax.numpy as jnp
import numpy as np

from vidjax import denoising
from vidjax.conditioning import condition as conditions
from vidjax.conditioning.condition import Condition
from vidjax.diffusion import guidance, samplers
from vidjax.models import unet
from vidjax.parallel import plan


def sample_latents(
  model: unet.UNet,
  noise_BTHWC: jax.Array,
  condition: Condition,
  scale_T: jax.Array | None,
  sigmas: np.ndarray,
) -> jax.Array:
  """Denoises unit normal noise to latents (scaled, as the UNet is trained on), float32.

  Args:
    model: the bound UNet.
    noise_BTHWC: unit normal; multiplied by the initial sigma here.
    condition: of the conditional branch.
    scale_T: guidance scale of each frame, or None for the conditional branch alone.
    sigmas: (steps + 1,) noise levels.
  """
  start = samplers.initial(noise_BTHWC, float(sigmas[0]))
  # Encoders of single images leave their rows unsharded, where the noise is sharded by clips.
  condition = jax.tree.map(plan.shard_batch, condition)
  if scale_T is None:
    return samplers.euler(lambda x, s: denoising.denoise(model, x, s, condition), start, sigmas)

  empty = conditions.drop(condition, jnp.zeros_like(start[:, 0, 0, 0, 0]))
  both = conditions.interleave(condition, empty)
  scale = scale_T.reshape(1, -1, 1, 1, 1)

  def denoise(x_BTHWC: jax.Array, sigma: jax.Array) -> jax.Array:
    b, *rest = x_BTHWC.shape
    twice = jnp.stack([x_BTHWC, x_BTHWC], axis=1).reshape((2 * b, *rest))
    out = denoising.denoise(model, twice, sigma, both).reshape((b, 2, *rest))
    return guidance.combine(out[:, 1], out[:, 0], scale)

  return samplers.euler(denoise, start, sigmas)
