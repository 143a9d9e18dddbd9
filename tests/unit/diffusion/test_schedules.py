"""Lists of noise levels, against published values and their own properties."""

import numpy as np
import pytest

from vidjax.diffusion import levels, process, schedules
from vidjax.diffusion.process import DiffusionConfig
from vidjax.diffusion.schedules import Betas


def test_karras_sigmas_are_those_of_svd():
  expected = [700, 545.7292, 421.5691, 322.4537, 244.0231, 182.5471, 134.8544, 98.2671, 70.5408,
              49.8098, 34.5367, 23.4675, 15.59, 10.0971, 6.3543, 3.8697, 2.2691, 1.2732, 0.6781,
              0.3394, 0.1574, 0.0664, 0.0248, 0.0079, 0.002, 0]  # fmt: skip
  np.testing.assert_allclose(schedules.karras(25), expected, rtol=0, atol=5e-5)
  level = levels.added(schedules.karras(25))
  assert level.sigma.dtype == level.c_noise.dtype == np.float32
  assert -1.56 < level.c_noise[-2] < level.c_noise[0] < 1.64


@pytest.mark.parametrize("name", schedules.CONTINUOUS)
def test_continuous_lists_fall_from_end_to_end(name):
  found = schedules.CONTINUOUS[name](9, sigma_min=0.1, sigma_max=80.0)
  np.testing.assert_allclose(found[[0, -2, -1]], [80.0, 0.1, 0.0])
  assert (np.diff(found) < 0).all()
  even = {"karras": found ** (1 / 7), "exponential": np.log(found[:-1]), "uniform": found}[name]
  np.testing.assert_allclose(np.diff(even[:-1] if len(even) == 10 else even, 2), 0, atol=1e-9)


def test_stable_diffusions_schedule():
  alpha_bar = Betas().alpha_bar()
  np.testing.assert_allclose(np.sqrt(alpha_bar[-1]), 0.068265, atol=5e-7)
  np.testing.assert_allclose(Betas().sigmas()[[0, -1]], [0.029167, 14.614641], rtol=2e-5)


@pytest.mark.parametrize("kind", ["scaled_linear", "linear", "cosine"])
def test_zero_terminal_snr_ends_in_pure_noise(kind):
  plain, zero = Betas(kind), Betas(kind, zero_terminal_snr=True)
  level = zero.levels(np.array([0, 999]))
  assert level.alpha[1] == 0.0
  assert level.sigma[1] == 1.0
  np.testing.assert_allclose(level.alpha[0], plain.levels(np.array([0])).alpha[0], rtol=1e-7)
  assert (np.diff(zero.alpha_bar()) < 0).all()
  assert zero.sampling(10, "trailing").alpha[0] == 0.0


def test_shift_moves_every_level_by_one_factor():
  np.testing.assert_allclose(Betas(shift=2.0).sigmas(), 2 * Betas().sigmas(), rtol=1e-9)


def test_time_steps_of_given_sigmas_are_interpolated():
  betas = Betas()
  sigmas = betas.sigmas()
  level = betas.at(np.append(sigmas[[999, 500, 0]], 0.0))
  np.testing.assert_allclose(level.c_noise, [999, 500, 0, 0], atol=1e-4)
  np.testing.assert_allclose(level.sigma[:3] / level.alpha[:3], sigmas[[999, 500, 0]], rtol=1e-5)
  between = betas.at(np.sqrt(sigmas[10:11] * sigmas[11:12]))
  np.testing.assert_allclose(between.c_noise, 10.5, atol=1e-4)


def test_spacings():
  np.testing.assert_array_equal(schedules.spaced(1000, 4, "trailing"), [999, 749, 499, 249])
  np.testing.assert_array_equal(schedules.spaced(1000, 4, "leading", 1), [751, 501, 251, 1])
  np.testing.assert_array_equal(schedules.spaced(1000, 4, "linspace"), [999, 666, 333, 0])


def test_lists_of_a_model_of_time_steps():
  config = DiffusionConfig(levels="discrete", prediction="eps")
  trailing = process.sampling_levels(config, "trailing", 4)
  np.testing.assert_array_equal(trailing.c_noise, [999, 749, 499, 249, 0])
  assert trailing.sigma[-1] == 0.0
  karras = process.sampling_levels(config, "karras", 4)
  s = karras.sigma[:-1] / karras.alpha[:-1]
  np.testing.assert_allclose(s[[0, -1]], [14.614641, 0.029167], rtol=1e-4)
  np.testing.assert_allclose(karras.alpha**2 + karras.sigma**2, 1.0, rtol=1e-6)


def test_wrong_names_and_numbers_are_refused():
  with pytest.raises(ValueError, match="steps=0"):
    schedules.karras(0)
  with pytest.raises(ValueError, match="steps=1001: the model knows 1 to 1000"):
    schedules.spaced(1000, 1001, "trailing")
  with pytest.raises(ValueError, match="spacing 'even'"):
    schedules.spaced(1000, 10, "even")
  with pytest.raises(ValueError, match="beta schedule 'square'"):
    Betas("square")
  with pytest.raises(ValueError, match="schedule 'kerras': choose from karras"):
    process.sampling_levels(DiffusionConfig(), "kerras", 5)
  with pytest.raises(ValueError, match="knows continuous levels"):
    process.sampling_levels(DiffusionConfig(), "trailing", 5)
