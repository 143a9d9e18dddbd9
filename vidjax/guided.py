"""Sampling with guidance: conditions and noise -> latents, one compiled program.

Joins the denoiser (`vidjax.denoising`), guidance and a sampler; no files, no encoders.
Shapes: B batch, T frames, H W latent height and width, C channels.
"""

from collections.abc import Callable, Sequence
import dataclasses
import functools

import jax

from vidjax import denoising
from vidjax.conditioning import condition as conditions
from vidjax.conditioning.condition import Condition
from vidjax.diffusion import guidance, levels, noise, samplers
from vidjax.diffusion.levels import Level
from vidjax.diffusion.process import DiffusionConfig
from vidjax.models import unet
from vidjax.parallel import plan


@dataclasses.dataclass(frozen=True)
class Sampling:
  """What a compiled sampling program is made for; all else are its arguments.

  Attributes:
    sampler: a name in `samplers.SAMPLERS`.
    levels: (steps + 1,) noise levels, host arrays.
    interval: range of sigma / alpha with guidance, or None for all.
    rescale: see `guidance.guided`.
  """

  sampler: str
  levels: Level
  interval: tuple[float, float] | None = None
  rescale: float = 0.0


def sample_latents(
  diffusion: DiffusionConfig,
  model: unet.UNet,
  noise_BTHWC: jax.Array,
  keys_B: jax.Array,
  branches: Sequence[Condition],
  weights: Sequence[guidance.Scale],
  sampling: Sampling,
) -> jax.Array:
  """Denoises unit normal noise to latents (scaled, as the UNet is trained on), float32.

  Args:
    diffusion: process of the model.
    model: the bound UNet.
    noise_BTHWC: unit normal; scaled to the first level here.
    keys_B: one key for each clip: of the noise that some samplers put back.
    branches: conditions that guidance weighs, the conditional one first; one is no guidance.
    weights: weight of each branch (`vidjax.diffusion.guidance`); unused for a single one.
    sampling: how.
  """
  start = levels.initial(noise_BTHWC, jax.tree.map(lambda value: value[0], sampling.levels))
  # Encoders of single images leave their rows unsharded, where the noise is sharded by clips.
  condition = jax.tree.map(plan.shard_batch, conditions.interleave(branches))

  def of_branches(x: jax.Array, level: Level) -> jax.Array:
    return denoising.denoise(diffusion, model, x, level, condition)

  denoise: samplers.Denoiser = of_branches
  if len(branches) > 1:
    denoise = guidance.guided(
      of_branches, weights, interval=sampling.interval, rescale=sampling.rescale
    )

  def fresh(step: jax.Array) -> jax.Array:
    keys_of_step_B = jax.vmap(lambda key: jax.random.fold_in(key, step))(keys_B)
    return noise.normal(keys_of_step_B, noise_BTHWC.shape[1:])

  sampler, stochastic = samplers.SAMPLERS[sampling.sampler]
  run: Callable[..., jax.Array] = functools.partial(sampler, noise=fresh) if stochastic else sampler
  return run(denoise, start, sampling.levels)
