"""Samplers against diffusers' schedulers, from the same noise with the same random network.

`EulerDiscreteScheduler` and its like add noise to the data, the others mix the two. Ours take both
kinds of levels: most are run with both, and compared where theirs are.
"""

import dataclasses

import diffusers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from tests.parity.compare import draw
from vidjax.diffusion import levels as noise_levels
from vidjax.diffusion import precondition, samplers
from vidjax.diffusion.levels import Level
from vidjax.diffusion.process import DiffusionConfig
from vidjax.diffusion.schedules import Betas, karras
from vidjax.interop import schedulers

SHAPE = (2, 3, 4, 4, 3)
STEP = 1e-5  # largest |ours - theirs| of x at any level, as a share of the largest |theirs|
SD21 = {
  "beta_start": 0.00085,
  "beta_end": 0.012,
  "beta_schedule": "scaled_linear",
  "num_train_timesteps": 1000,
}

# diffusers' schedulers give torch tensors to numpy in a way that numpy 2 finds old.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def network(x, b, xp):
  """A smooth function of the scaled input and of b = sigma / sqrt(alpha^2 + sigma^2)."""
  return 0.5 * xp.sin(x + 3.0 * b) + 0.3 * x


def ours(sampler, prediction, levels: Level, start, **kwargs) -> list[np.ndarray]:
  """x at every level at which the network is evaluated, and at the end."""
  seen = []

  def denoise(x, level):
    jax.debug.callback(lambda value: seen.append(np.asarray(value)), x, ordered=True)
    r = level.norm()
    f = network(x / r, level.sigma / r, jnp)
    return precondition.denoised(prediction, x, f, level)

  x = noise_levels.initial(start, jax.tree.map(lambda v: v[0], levels))
  end = jax.jit(lambda x: sampler(denoise, x, levels, **kwargs))(x)
  jax.effects_barrier()
  return [*seen, np.asarray(end)]


def theirs(scheduler, start, **kwargs) -> list[np.ndarray]:
  """What `ours` returns, of diffusers."""
  x = torch.tensor(start) * scheduler.init_noise_sigma
  seen = []
  for i, t in enumerate(scheduler.timesteps):
    seen.append(x.numpy())
    if hasattr(scheduler, "sigmas"):  # of added noise, whatever x is
      b = scheduler.sigmas[i] / (1 + scheduler.sigmas[i] ** 2) ** 0.5
    else:
      b = (1 - scheduler.alphas_cumprod[int(t)]) ** 0.5
    f = network(scheduler.scale_model_input(x, t), b, torch)
    x = scheduler.step(f, t, x, **kwargs).prev_sample
  return [*seen, x.numpy()]


def start_of(scheduler, start) -> np.ndarray:
  """For schedulers that start with variance sigma^2 where ours has 1 + sigma^2."""
  top = float(scheduler.sigmas[0])
  return start * np.float32(float(scheduler.init_noise_sigma) / (1 + top**2) ** 0.5)


def compare(record, what, found, expected, factors=None):
  assert len(found) == len(expected)
  for i, (a, b) in enumerate(zip(found, expected, strict=True)):
    record.check(f"sampler: {what}", a * (1.0 if factors is None else factors[i]), b, STEP)


def mixed_levels(sigmas) -> Level:
  """Of a list of sigma / alpha that ends in 0."""
  return Betas().at(np.asarray(sigmas, np.float64))


def as_added(levels: Level) -> Level:
  return dataclasses.replace(
    levels, alpha=np.ones_like(levels.alpha), sigma=levels.sigma / levels.alpha
  )


def generator_noise(seed, count):
  """What a scheduler draws from a generator of this seed, step by step."""
  generator = torch.Generator().manual_seed(seed)
  return jnp.stack([jnp.asarray(torch.randn(SHAPE, generator=generator)) for _ in range(count)])


def test_svd_euler(record):
  scheduler = diffusers.EulerDiscreteScheduler.from_config(schedulers.to_json(DiffusionConfig()))
  scheduler.set_timesteps(25)
  levels = noise_levels.added(karras(25))
  record.check("schedule: SVD sigmas", levels.sigma, scheduler.sigmas.numpy(), STEP)
  record.check("schedule: SVD c_noise", levels.c_noise[:-1], scheduler.timesteps.numpy(), STEP)
  start = draw([record.seed, 0], *SHAPE)
  expected = theirs(scheduler, start)
  compare(record, "Euler, SVD", ours(samplers.ddim, "v", levels, start), expected)


# Pure noise says nothing about eps, and "leading" does not begin there. With "linspace", theirs
# steps by T / steps all the same and leaves its own list: only the list is compared.
DDIM_CASES = [
  (prediction, zero_snr, spacing)
  for prediction in ("epsilon", "v_prediction", "sample")
  for zero_snr in (False, True)
  for spacing in ("leading", "trailing", "linspace")
  if not zero_snr or (prediction != "epsilon" and spacing != "leading")
]


@pytest.mark.parametrize(("prediction", "zero_snr", "spacing"), DDIM_CASES)
def test_ddim(record, prediction, zero_snr, spacing):
  offset = int(spacing == "leading")
  scheduler = diffusers.DDIMScheduler(
    **SD21,
    prediction_type=prediction,
    clip_sample=False,
    set_alpha_to_one=spacing == "trailing",
    steps_offset=offset,
    timestep_spacing=spacing,
    rescale_betas_zero_snr=zero_snr,
  )
  scheduler.set_timesteps(10)
  betas = Betas(zero_terminal_snr=zero_snr)
  expected = scheduler.alphas_cumprod.numpy()
  record.check("schedule: alpha_bar", betas.alpha_bar(), expected, 2e-5)
  final = spacing == "trailing"
  levels = betas.sampling(10, spacing, offset=offset, final_alpha_one=final)
  np.testing.assert_array_equal(levels.c_noise[:-1], scheduler.timesteps.numpy())
  if spacing == "linspace":
    return
  start = draw([record.seed, 1], *SHAPE)
  name = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}[prediction]
  found = ours(samplers.ddim, name, levels, start)
  compare(record, f"DDIM, {name}", found, theirs(scheduler, start))


def test_ddim_with_noise(record):
  scheduler = diffusers.DDIMScheduler(
    **SD21, prediction_type="v_prediction", clip_sample=False, timestep_spacing="trailing"
  )
  scheduler.set_timesteps(10)
  start = draw([record.seed, 2], *SHAPE)
  generator = torch.Generator().manual_seed(3)
  expected = theirs(scheduler, start, eta=0.7, generator=generator)
  noise = generator_noise(3, 10)
  levels = Betas().sampling(10, "trailing")
  found = ours(samplers.ddim, "v", levels, start, eta=0.7, noise=lambda i: noise[i])
  compare(record, "DDIM, eta 0.7", found, expected)


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_ddpm(record, spacing):
  scheduler = diffusers.DDPMScheduler(
    **SD21,
    prediction_type="epsilon",
    clip_sample=False,
    variance_type="fixed_small",
    timestep_spacing=spacing,
  )
  scheduler.set_timesteps(20)
  start = draw([record.seed, 4], *SHAPE)
  generator = torch.Generator().manual_seed(5)
  expected = theirs(scheduler, start, generator=generator)
  noise = generator_noise(5, 20)
  levels = Betas().sampling(20, spacing)
  found = ours(samplers.ancestral, "eps", levels, start, noise=lambda i: noise[i])
  compare(record, "DDPM", found, expected)


@pytest.mark.parametrize("kind", ["added", "mixed"])
def test_euler_ancestral(record, kind):
  scheduler = diffusers.EulerAncestralDiscreteScheduler(
    **SD21, prediction_type="v_prediction", timestep_spacing="trailing"
  )
  scheduler.set_timesteps(12)
  start = draw([record.seed, 6], *SHAPE)
  generator = torch.Generator().manual_seed(7)
  expected = theirs(scheduler, start, generator=generator)
  noise = generator_noise(7, 12)
  levels = mixed_levels(scheduler.sigmas.numpy())
  factors = 1 / levels.alpha
  if kind == "added":
    levels, factors = as_added(levels), None
  found = ours(
    samplers.ancestral, "v", levels, start_of(scheduler, start), noise=lambda i: noise[i]
  )
  compare(record, f"Euler ancestral, noise {kind}", found, expected, factors)


@pytest.mark.parametrize("kind", ["added", "mixed"])
@pytest.mark.parametrize("karras_levels", [False, True], ids=["", "karras"])
def test_heun(record, kind, karras_levels):
  scheduler = diffusers.HeunDiscreteScheduler(
    **SD21, prediction_type="v_prediction", use_karras_sigmas=karras_levels
  )
  scheduler.set_timesteps(8)
  sigmas = scheduler.sigmas.numpy()  # s0 s1 s1 s2 s2 ... 0
  start = draw([record.seed, 8], *SHAPE)
  expected = theirs(scheduler, start)
  single = np.append(sigmas[0:-1:2], 0.0)
  levels = mixed_levels(single)
  read = np.repeat(np.arange(8), 2)[:-1] + (np.arange(15) % 2)
  factors = np.append(1 / levels.alpha[read], 1.0)
  if kind == "added":
    levels, factors = as_added(levels), None
  found = ours(samplers.heun, "v", levels, start_of(scheduler, start))
  compare(record, f"Heun, noise {kind}", found, expected, factors)


@pytest.mark.parametrize("kind", ["added", "mixed"])
@pytest.mark.parametrize("algorithm", ["dpmsolver++", "sde-dpmsolver++"])
@pytest.mark.parametrize("karras_levels", [False, True], ids=["", "karras"])
def test_dpm_solver(record, kind, algorithm, karras_levels):
  scheduler = diffusers.DPMSolverMultistepScheduler(
    **SD21,
    prediction_type="v_prediction",
    algorithm_type=algorithm,
    solver_order=2,
    use_karras_sigmas=karras_levels,
  )
  scheduler.set_timesteps(20)
  start = draw([record.seed, 9], *SHAPE)
  generator = torch.Generator().manual_seed(11)
  expected = theirs(scheduler, start, generator=generator)
  kwargs = {}
  if algorithm == "sde-dpmsolver++":
    noise = generator_noise(11, 20)
    kwargs["noise"] = lambda i: noise[i]
  levels, factors = mixed_levels(scheduler.sigmas.numpy()), None
  if kind == "added":
    factors = levels.alpha
    levels = as_added(levels)
  found = ours(samplers.dpmpp_2m, "v", levels, start, **kwargs)
  compare(record, f"{algorithm} 2M, noise {kind}", found, expected, factors)


@pytest.mark.parametrize("kind", ["added", "mixed"])
@pytest.mark.parametrize("steps", [3, 12])
def test_unipc(record, kind, steps):
  scheduler = diffusers.UniPCMultistepScheduler(
    **SD21, prediction_type="v_prediction", solver_order=2, solver_type="bh2"
  )
  scheduler.set_timesteps(steps)
  start = draw([record.seed, 12], *SHAPE)
  expected = theirs(scheduler, start)
  levels, factors = mixed_levels(scheduler.sigmas.numpy()), None
  if kind == "added":
    factors = levels.alpha
    levels = as_added(levels)
  found = ours(samplers.unipc, "v", levels, start)
  compare(record, f"UniPC, noise {kind}", found, expected, factors)
