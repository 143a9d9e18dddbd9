"""What networks predict, the loss on it, and its weights, against their definitions."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidjax.diffusion import levels, noise, precondition, process
from vidjax.diffusion import loss as losses
from vidjax.diffusion.levels import Level
from vidjax.diffusion.schedules import Betas

SIGMAS = jnp.asarray([0.002, 0.1, 1.0, 14.6, 700.0], jnp.float32)
MIXED = jax.tree.map(jnp.asarray, Betas().levels(np.array([0, 100, 400, 800, 999])))
SHAPE = (5, 2, 4, 4, 3)


def normal(seed: int, *shape: int) -> jax.Array:
  return jax.random.normal(jax.random.key(seed), shape, jnp.float32)


@pytest.mark.parametrize("level", [levels.added(SIGMAS), MIXED], ids=["added", "mixed"])
@pytest.mark.parametrize("prediction", precondition.PREDICTIONS)
def test_a_network_that_hits_the_target_denoises_exactly(prediction, level):
  x0, n = normal(0, *SHAPE), normal(1, *SHAPE)
  x = levels.noised(x0, n, level)
  f = precondition.target(prediction, x0, n, level, 0.5)
  d = precondition.denoised(prediction, x, f, level, 0.5)
  s = level.like(x0).sigma / level.like(x0).alpha  # what float32 loses grows with it
  assert (jnp.abs(d - x0) < 1e-5 * (1 + s)).all()


def test_predictions_are_those_of_svd_and_edm():
  """The general form against the papers' own, on added noise."""
  x, f = normal(2, *SHAPE), normal(3, *SHAPE)
  level = levels.added(SIGMAS)
  s = np.asarray(SIGMAS, np.float64).reshape(-1, 1, 1, 1, 1)
  x64, f64 = np.asarray(x, np.float64), np.asarray(f, np.float64)
  for prediction, data, c_skip, c_out in (
    ("v", 1.0, 1 / (s**2 + 1), -s / np.sqrt(s**2 + 1)),  # SVD eq. 11-12
    ("eps", 1.0, 1.0, -s),  # SVD eq. 6-7
    ("edm", 0.5, 0.25 / (s**2 + 0.25), 0.5 * s / np.sqrt(s**2 + 0.25)),  # EDM tab. 1
  ):
    d = precondition.denoised(prediction, x, f, level, data)
    np.testing.assert_allclose(d, c_skip * x64 + c_out * f64, rtol=2e-5, atol=1e-5)
    c_in = precondition.network_input(x, level, data)
    np.testing.assert_allclose(c_in, x64 / np.sqrt(s**2 + data**2), rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(level.c_noise, np.log(s.reshape(-1)) / 4, rtol=1e-5)


@pytest.mark.parametrize("level", [levels.added(SIGMAS), MIXED], ids=["added", "mixed"])
@pytest.mark.parametrize("prediction", precondition.PREDICTIONS)
@pytest.mark.parametrize("weighting", losses.WEIGHTINGS)
def test_loss_on_f_is_the_weighted_loss_on_d(weighting, prediction, level):
  """E[w ||D - x0||^2] in float64: at sigma = 0.002 SVD's weight is 250,000."""
  x0, n, f = (normal(seed, *SHAPE) for seed in range(3))
  data = 0.5 if prediction == "edm" else 1.0
  alpha, sigma = (
    np.asarray(v, np.float64).reshape(-1, 1, 1, 1, 1) for v in (level.alpha, level.sigma)
  )
  s, r = sigma / alpha, np.sqrt(alpha**2 + sigma**2)
  x0_64, n_64, f_64 = (np.asarray(a, np.float64) for a in (x0, n, f))
  x = alpha * x0_64 + sigma * n_64
  d, of_unit = {
    "v": ((alpha * x / r - sigma * f_64) / r, (1 + s**2) / s**2),  # SVD's lambda
    "eps": ((x - sigma * f_64) / alpha, 1 / s**2),
    "x0": (f_64, np.ones_like(s)),
    "edm": (
      data**2 / (s**2 + data**2) * x / alpha + s * data / np.sqrt(s**2 + data**2) * f_64,
      (s**2 + data**2) / (s * data) ** 2,
    ),
  }[prediction]
  w = {
    "unit": of_unit,
    "edm": (s**2 + data**2) / (s * data) ** 2,
    "min_snr": np.minimum(1 / s**2, 5.0),
  }[weighting]
  expected = (w * (d - x0_64) ** 2).mean(axis=(1, 2, 3, 4))
  found = losses.denoising_loss(
    prediction, f, x0, n, level, weighting=weighting, gamma=5.0, sigma_data=data
  )
  np.testing.assert_allclose(found, expected, rtol=3e-4)


def test_pure_noise_has_a_loss_in_v():
  level = Level(jnp.zeros(1), jnp.ones(1), jnp.full(1, 999.0))
  x0, n = normal(4, 1, 2, 4, 4, 3), normal(5, 1, 2, 4, 4, 3)
  np.testing.assert_array_equal(precondition.target("v", x0, n, level), -x0)
  for weighting in losses.WEIGHTINGS:
    assert np.isfinite(losses.weight(weighting, "v", level)).all()


def test_loss_bins_hold_every_sample_once():
  sigma = jnp.exp(jnp.asarray([-9.0, -2.5, -0.5, 0.5, 0.6, 7.0], jnp.float32))
  value = jnp.arange(1.0, 7.0, dtype=jnp.float32)
  sums, counts = losses.per_sigma_bin(value, levels.added(sigma))
  np.testing.assert_array_equal(counts, [1, 1, 0, 1, 2, 0, 1])
  np.testing.assert_array_equal(sums, [1, 2, 0, 3, 9, 0, 6])
  mixed = Level(1 / jnp.sqrt(1 + sigma**2), sigma / jnp.sqrt(1 + sigma**2), sigma)
  np.testing.assert_array_equal(losses.per_sigma_bin(value, mixed)[1], counts)


# --- Noise and levels of training -----------------------------------------------------------------


def keys(count: int) -> jax.Array:
  return noise.sample_keys(0, jnp.arange(count, dtype=jnp.uint32))


def test_noise_of_a_sample_does_not_depend_on_its_batch():
  whole = noise.normal(noise.sample_keys(7, jnp.arange(8, dtype=jnp.uint32)), (3,))
  part = noise.normal(noise.sample_keys(7, jnp.arange(4, 8, dtype=jnp.uint32)), (3,))
  np.testing.assert_array_equal(whole[4:], part)
  assert len(np.unique(np.asarray(whole))) == whole.size


def test_log_normal_levels_have_the_asked_moments():
  config = process.DiffusionConfig(p_mean=0.7, p_std=1.6, resolution_shift=2.0)
  level = process.training_levels(config, keys(20000))
  log = np.log(level.sigma)
  assert abs(log.mean() - 0.7 - np.log(2)) < 0.05
  assert abs(log.std() - 1.6) < 0.05
  np.testing.assert_allclose(level.c_noise, log / 4, atol=1e-6)
  np.testing.assert_array_equal(level.alpha, 1.0)


def test_log_uniform_levels_fill_the_range():
  config = process.DiffusionConfig(levels="log_uniform", sigma_min=0.01, sigma_max=100.0)
  log = np.log10(process.training_levels(config, keys(20000)).sigma)
  assert -2.0 <= log.min() < -1.99
  assert 1.99 < log.max() <= 2.0
  np.testing.assert_allclose(np.histogram(log, 4)[0], 5000, rtol=0.05)


def test_discrete_levels_are_the_schedule():
  config = process.DiffusionConfig(levels="discrete", betas=Betas(steps=50))
  level = process.training_levels(config, keys(20000))
  t = np.asarray(level.c_noise).astype(int)
  np.testing.assert_allclose(np.bincount(t, minlength=50), 400, rtol=0.3)
  expected = Betas(steps=50).levels(t)
  np.testing.assert_array_equal(level.alpha, expected.alpha)
  np.testing.assert_array_equal(level.sigma, expected.sigma)


def test_offset_noise_is_the_same_all_over_a_clip():
  base = noise.normal(keys(2000), (2, 3, 3, 4))
  added = noise.offset(noise.stream(keys(2000), 1), base, 0.1) - base
  np.testing.assert_allclose(added, np.broadcast_to(added[:, :1, :1, :1], added.shape), atol=1e-6)
  assert abs(float(jnp.std(added)) - 0.1) < 0.005
  assert abs(np.corrcoef(added[:, 0, 0, 0].T)[0, 1]) < 0.1  # channels differ


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"prediction": "noise"}, "diffusion.prediction='noise'.*v, eps, x0, edm"),
    ({"levels": "normal"}, "diffusion.levels='normal'"),
    ({"weighting": "snr"}, "diffusion.weighting='snr'"),
    ({"sigma_min": 1.0, "sigma_max": 0.5}, "sigma_min < sigma_max"),
    ({"p_std": 0.0}, "diffusion.p_std=0.0"),
    (
      {"levels": "discrete", "prediction": "eps", "betas": Betas(zero_terminal_snr=True)},
      "zero_terminal_snr",
    ),
  ],
)
def test_configs_without_meaning_are_refused(fields, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(process.DiffusionConfig(), **fields)
