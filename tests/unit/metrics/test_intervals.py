"""Jackknife intervals: against direct leave-one-out, and against the spread over real redraws."""

import math

import numpy as np
import pytest

from vidjax import metrics
from vidjax.metrics import intervals


def draw(rng, n):
  return rng.standard_normal((n, 6)), rng.standard_normal((n, 6)) * 1.2 + 0.3


def test_values_are_those_of_the_plain_distances():
  real, fake = draw(np.random.default_rng(0), 200)
  both = intervals.frechet_and_kid(real, fake, ddof=1)
  assert both["frechet"].value == pytest.approx(
    metrics.frechet_distance(real, fake, ddof=1), rel=1e-12
  )
  assert both["kid"].value == pytest.approx(metrics.kid(real, fake), rel=1e-12)
  for estimate in both.values():
    assert estimate.low < estimate.value < estimate.high


def test_leaving_a_group_out_is_what_it_says():
  real, fake = draw(np.random.default_rng(1), 40)
  both = intervals.frechet_and_kid(real, fake, ddof=0)
  for name, distance in {"frechet": metrics.frechet_distance, "kid": metrics.kid}.items():
    rest = [np.arange(40) % 20 != g for g in range(20)]
    values = np.array([distance(real[keep], fake[keep]) for keep in rest])
    se = math.sqrt(19 / 20 * np.square(values - values.mean()).sum())
    assert both[name].high - both[name].value == pytest.approx(1.96 * se, rel=1e-4)


def test_standard_error_matches_the_spread_of_redraws():
  rng = np.random.default_rng(2)
  runs = [intervals.frechet_and_kid(*draw(rng, 300), ddof=0) for _ in range(40)]
  for name in ("frechet", "kid"):
    spread = np.std([run[name].value for run in runs], ddof=1)
    claimed = np.mean([(run[name].high - run[name].value) / 1.96 for run in runs])
    assert 0.7 < claimed / spread < 1.5


@pytest.mark.filterwarnings("ignore:N=2 samples")
def test_too_few_samples_for_an_interval():
  real, fake = draw(np.random.default_rng(3), 2)
  estimate = intervals.frechet_and_kid(real, fake, ddof=0)["frechet"]
  assert estimate.to_json()["low"] is None
  assert estimate.to_json()["value"] == estimate.value


@pytest.mark.filterwarnings("ignore:N=")
def test_frechet_interval_stays_at_or_above_zero():
  real, fake = draw(np.random.default_rng(4), 5)
  assert intervals.frechet_and_kid(real, fake, ddof=0)["frechet"].low >= 0
