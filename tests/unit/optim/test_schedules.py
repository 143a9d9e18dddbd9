"""Learning rates at given numbers of samples."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from vidjax.config import SCHEDULES, OptimizerConfig, TrainConfig
from vidjax.data.config import DataConfig
from vidjax.optim import schedules

BASE = OptimizerConfig(learning_rate=2.0, warmup_samples=100, final_fraction=0.1)


def rate(config: OptimizerConfig, samples: int, total: int = 1100) -> float:
  return float(schedules.learning_rate(config, total, jnp.uint32(samples)))


@pytest.mark.parametrize("name", SCHEDULES)
def test_warm_up_is_a_ramp(name):
  config = dataclasses.replace(BASE, schedule=name)
  for samples in (0, 40, 99):
    np.testing.assert_allclose(rate(config, samples), 2.0 * (samples + 1) / 101, rtol=1e-6)
  np.testing.assert_allclose(rate(config, 100), 2.0, rtol=1e-6)


@pytest.mark.parametrize(
  ("name", "values"),
  [
    ("constant", {600: 2.0, 1100: 2.0, 5000: 2.0}),
    ("cosine", {350: 2 * (0.1 + 0.9 * 0.8535534), 600: 1.1, 1100: 0.2, 5000: 0.2}),
    ("linear", {350: 1.55, 600: 1.1, 1100: 0.2, 5000: 0.2}),
    ("rsqrt", {400: 1.0, 1600: 0.5, 10_000: 0.2, 40_000: 0.2}),
  ],
)
def test_what_follows_the_warm_up(name, values):
  for samples, expected in values.items():
    config = dataclasses.replace(BASE, schedule=name)
    np.testing.assert_allclose(rate(config, samples), expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["cosine", "linear"])
def test_a_decay_of_its_own_length(name):
  config = dataclasses.replace(BASE, schedule=name, decay_samples=400)
  np.testing.assert_allclose(rate(config, 300), 1.1, rtol=1e-5)
  np.testing.assert_allclose([rate(config, n) for n in (500, 1000)], 0.2, rtol=1e-5)


@pytest.mark.parametrize("name", SCHEDULES)
def test_four_billion_samples(name):
  config = dataclasses.replace(BASE, schedule=name, warmup_samples=1_000_000)
  rates = [rate(config, n, 4_200_000_000) for n in (0, 2**31, 2**31 + 10**6, 4_199_999_999)]
  assert rates[1] >= rates[2] >= rates[3] >= 0.2 * 0.999
  assert rates[0] < 1e-5
  if name in ("cosine", "linear"):
    np.testing.assert_allclose(rates[3], 0.2, rtol=1e-3)


@pytest.mark.parametrize(
  ("values", "message"),
  [
    ({"schedule": "rsqrt"}, "set optimizer.warmup_samples"),
    ({"decay_samples": 5}, "optimizer.decay_samples=5 has no meaning with .*'constant'"),
    ({"schedule": "linear", "warmup_samples": 50}, "leaves none of total_samples=50"),
    ({"warmup_samples": -1}, "'optimizer.warmup_samples' must not be negative"),
  ],
)
def test_what_makes_no_schedule_is_refused(values, message):
  with pytest.raises(ValueError, match=message):
    TrainConfig(total_samples=50, data=DataConfig(path="none"), optimizer=OptimizerConfig(**values))
