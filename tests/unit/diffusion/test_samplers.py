"""Samplers on problems whose solution is known: Gaussian data, and data in one point.

For data N(m, c^2), with t^2 = alpha^2 c^2 + sigma^2, the denoiser is D = m + alpha c^2 / t^2
(x - alpha m), and the ODE's solution keeps x - alpha m in proportion to t.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidjax.diffusion import levels, samplers, schedules
from vidjax.diffusion.levels import Level
from vidjax.diffusion.schedules import Betas

MEAN, C = 0.7, 0.5


def normal(seed: int, *shape: int) -> jax.Array:
  return jax.random.normal(jax.random.key(seed), shape, jnp.float32)


def gaussian(x: jax.Array, level: Level) -> jax.Array:
  alpha, sigma = level.alpha, level.sigma
  return MEAN + alpha * C**2 / ((alpha * C) ** 2 + sigma**2) * (x - alpha * MEAN)


def solution(x: np.ndarray, level: Level) -> np.ndarray:
  alpha, sigma = float(level.alpha[0]), float(level.sigma[0])
  return MEAN + C * (x - alpha * MEAN) / np.sqrt((alpha * C) ** 2 + sigma**2)


def fresh(seed: int, shape: tuple[int, ...]):
  key = jax.random.key(seed)
  return lambda step: jax.random.normal(jax.random.fold_in(key, step), shape, jnp.float32)


def run(name: str, denoise, x: jax.Array, level: Level, seed: int = 0) -> jax.Array:
  sampler, stochastic = samplers.SAMPLERS[name]
  kwargs = {"noise": fresh(seed, x.shape)} if stochastic else {}
  return jax.jit(lambda x: sampler(denoise, x, level, **kwargs))(x)


def mixed(sigmas: np.ndarray) -> Level:
  return Betas().at(sigmas)


SECOND_ORDER = ("heun", "dpmpp_2m", "dpmpp_2m_sde", "unipc")


@pytest.mark.parametrize("make", [levels.added, mixed])
@pytest.mark.parametrize("name", samplers.SAMPLERS)
def test_mean_and_covariance_of_gaussian_data(name, make):
  level = make(schedules.karras(40 if name in SECOND_ORDER else 400, sigma_max=80.0))
  start = levels.initial(normal(1, 20000, 2), jax.tree.map(lambda v: v[0], level))
  x = np.asarray(run(name, gaussian, start, level))
  np.testing.assert_allclose(x.mean(axis=0), MEAN, atol=0.02)
  np.testing.assert_allclose(np.cov(x.T), C**2 * np.eye(2), atol=0.02)


@pytest.mark.parametrize("make", [levels.added, mixed])
@pytest.mark.parametrize("name", samplers.SAMPLERS)
def test_data_in_one_point_is_reached_exactly(name, make):
  """D is that point, and the ODE's solution a straight line."""
  level = make(schedules.karras(10, sigma_max=80.0))
  point = normal(3, 4, 4)
  start = levels.initial(normal(4, 4, 4), jax.tree.map(lambda v: v[0], level))
  x = run(name, lambda x, level: point, start, level)
  np.testing.assert_allclose(x, point, atol=1e-5)


@pytest.mark.parametrize(
  ("name", "order"), [("euler", 1), ("ddim", 1), ("heun", 2), ("dpmpp_2m", 2), ("unipc", 2)]
)
@pytest.mark.parametrize("kind", ["added", "mixed"])
def test_order_of_convergence(name, order, kind):
  """The error of the solution falls as steps^-order, between levels with noise left in the last."""
  start = normal(5, 64)

  def error(steps: int) -> float:
    s = np.exp(np.linspace(np.log(10.0), np.log(0.05), steps + 1))
    level = levels.added(s) if kind == "added" else mixed(s)
    x = levels.initial(start, jax.tree.map(lambda v: v[0], level))
    found = np.asarray(run(name, gaussian, x, level), np.float64)
    last = jax.tree.map(lambda v: v[-1:], level)
    exact = float(last.alpha[0]) * MEAN + (solution(np.asarray(x), level) - MEAN) / C * np.sqrt(
      (float(last.alpha[0]) * C) ** 2 + float(last.sigma[0]) ** 2
    )
    return float(np.abs(found - exact).max())

  coarse, fine = error(32), error(64)
  assert fine < 0.05
  assert order - 0.4 < np.log2(coarse / fine) < order + 1.2


@pytest.mark.parametrize("name", ["euler", "heun", "dpmpp_2m", "unipc", "dpmpp_2m_sde", "ddpm"])
def test_added_and_mixed_noise_are_the_same_path(name):
  sigmas = schedules.karras(12, sigma_max=14.0, sigma_min=0.05)
  one, other = levels.added(sigmas), mixed(sigmas)
  base = normal(6, 5, 5)
  starts = [levels.initial(base, jax.tree.map(lambda v: v[0], level)) for level in (one, other)]
  a, b = (run(name, gaussian, x, level) for x, level in zip(starts, (one, other), strict=True))
  np.testing.assert_allclose(a, b, atol=1e-5)


def test_ddim_starts_in_pure_noise():
  """With zero terminal SNR the first level holds no data."""
  level = Betas(zero_terminal_snr=True).sampling(250, "trailing")
  assert level.alpha[0] == 0.0
  for name in ("ddim", "ddpm"):
    x = np.asarray(run(name, gaussian, normal(7, 20000), level))
    np.testing.assert_allclose([x.mean(), x.std()], [MEAN, C], atol=0.03)
  for name in ("heun", "dpmpp_2m", "unipc"):
    with pytest.raises(ValueError, match="some data"):
      run(name, gaussian, normal(7, 4), level)


def test_noise_is_needed_where_it_is_put_back():
  with pytest.raises(ValueError, match="source of noise"):
    samplers.ddim(gaussian, normal(8, 4), levels.added(schedules.karras(3)), eta=0.5)


@pytest.mark.parametrize("name", samplers.SAMPLERS)
def test_one_step_is_the_denoiser(name):
  level = dataclasses.replace(levels.added(schedules.karras(1, sigma_max=10.0)))
  x = levels.initial(normal(9, 8), jax.tree.map(lambda v: v[0], level))
  first = jax.tree.map(lambda v: jnp.asarray(v[0]), level)
  np.testing.assert_allclose(run(name, gaussian, x, level), gaussian(x, first), atol=2e-6)
