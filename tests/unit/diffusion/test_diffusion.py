"""The diffusion math against its definitions and against values of SVD's released sampler."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidjax.diffusion import guidance, noise, precondition, samplers
from vidjax.diffusion import loss as losses

SIGMAS = jnp.asarray([0.002, 0.1, 1.0, 14.6, 700.0], jnp.float32)


def normal(seed: int, *shape: int) -> jax.Array:
  return jax.random.normal(jax.random.key(seed), shape, jnp.float32)


def test_karras_sigmas_are_those_of_svd():
  expected = [700, 545.7292, 421.5691, 322.4537, 244.0231, 182.5471, 134.8544, 98.2671, 70.5408,
              49.8098, 34.5367, 23.4675, 15.59, 10.0971, 6.3543, 3.8697, 2.2691, 1.2732, 0.6781,
              0.3394, 0.1574, 0.0664, 0.0248, 0.0079, 0.002, 0]  # fmt: skip
  np.testing.assert_allclose(samplers.karras_sigmas(25), expected, rtol=1e-4, atol=5e-5)


def test_steps_must_be_positive():
  with pytest.raises(ValueError, match="steps=0"):
    samplers.karras_sigmas(0)


def test_network_that_hits_the_target_denoises_exactly():
  x0, n = normal(0, 5, 2, 4, 4, 3), normal(1, 5, 2, 4, 4, 3)
  sigma = noise.per_sample(SIGMAS[:4], x0[:4])
  x0, n = x0[:4], n[:4]
  f = precondition.target(x0, n, sigma)
  np.testing.assert_allclose(precondition.denoised(x0 + sigma * n, f, sigma), x0, atol=2e-5)


def test_loss_equals_the_weighted_form_of_the_paper():
  x0, n, f = (normal(seed, 5, 2, 4, 4, 3) for seed in range(3))
  sigma = noise.per_sample(SIGMAS, x0)
  # lambda(sigma) ||D - x0||^2 in float64: at sigma = 0.002 the weight is 250,000.
  x0_64, n_64, f_64, s = (np.asarray(a, np.float64) for a in (x0, n, f, sigma))
  d = (x0_64 + s * n_64) / (s**2 + 1) - s / np.sqrt(s**2 + 1) * f_64
  weighted = ((1 + s**2) / s**2 * (d - x0_64) ** 2).mean(axis=(1, 2, 3, 4))
  np.testing.assert_allclose(losses.denoising_loss(f, x0, n, SIGMAS), weighted, rtol=1e-4)


def test_loss_bins_hold_every_sample_once():
  sigma = jnp.exp(jnp.asarray([-9.0, -2.5, -0.5, 0.5, 0.6, 7.0], jnp.float32))
  value = jnp.arange(1.0, 7.0, dtype=jnp.float32)
  sums, counts = losses.per_sigma_bin(value, sigma)
  np.testing.assert_array_equal(counts, [1, 1, 0, 1, 2, 0, 1])
  np.testing.assert_array_equal(sums, [1, 2, 0, 3, 9, 0, 6])


def test_euler_reaches_the_mean_of_a_point_distribution_exactly():
  """With all data in one point, D is that point and the ODE's solution is a straight line."""
  point = normal(3, 1, 2, 4, 4, 3)
  start = samplers.initial(normal(4, 1, 2, 4, 4, 3), 700.0)
  result = samplers.euler(lambda x, sigma: point, start, samplers.karras_sigmas(7))
  np.testing.assert_allclose(result, point, atol=1e-4)


def test_euler_converges_to_the_solution_for_gaussian_data():
  """For N(0, c^2) data D = c^2 / (c^2 + sigma^2) x, and x(0) = c x(s) / sqrt(c^2 + s^2)."""
  c, top = 0.5, 80.0
  start = samplers.initial(normal(5, 4, 4), top)

  def error(steps: int) -> float:
    sigmas = samplers.karras_sigmas(steps, sigma_max=top)
    x = samplers.euler(lambda x, s: c**2 / (c**2 + s**2) * x, start, sigmas)
    return float(jnp.max(jnp.abs(x - c * start / np.sqrt(c**2 + top**2))))

  assert error(400) < 0.02
  assert error(400) < 0.6 * error(200) < 0.36 * error(100)  # first order


def test_noise_of_a_sample_does_not_depend_on_its_batch():
  whole = noise.normal(noise.sample_keys(7, jnp.arange(8, dtype=jnp.uint32)), (3,))
  part = noise.normal(noise.sample_keys(7, jnp.arange(4, 8, dtype=jnp.uint32)), (3,))
  np.testing.assert_array_equal(whole[4:], part)
  assert len(np.unique(np.asarray(whole))) == whole.size


def test_log_normal_sigma_has_the_asked_moments():
  keys = noise.sample_keys(0, jnp.arange(20000, dtype=jnp.uint32))
  log = np.log(noise.log_normal_sigma(keys, 0.7, 1.6))
  assert abs(log.mean() - 0.7) < 0.05
  assert abs(log.std() - 1.6) < 0.05


def test_guidance_rises_over_the_frames():
  np.testing.assert_allclose(guidance.frame_scales(5, 1.0, 3.0), [1.0, 1.5, 2.0, 2.5, 3.0])
  np.testing.assert_allclose(guidance.combine(jnp.ones(2), jnp.zeros(2), jnp.float32(3.0)), -2.0)
