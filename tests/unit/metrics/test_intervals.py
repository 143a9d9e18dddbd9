"""Jackknife intervals: against direct leave-one-out, and against the spread over real redraws."""

import math

import numpy as np
import pytest

from vidjax import metrics
from vidjax.metrics import intervals
from vidjax.metrics.groups import groups_of


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


def by_definition(value, left_out, sizes):
  """Busing, Meijer and van der Leeden (1999), as they write it: n samples, m_j in group j."""
  n, groups = sum(sizes), len(sizes)
  h = [n / m for m in sizes]
  estimate = groups * value - sum((1 - m / n) * v for m, v in zip(sizes, left_out, strict=True))
  pseudo = [hj * value - (hj - 1) * v for hj, v in zip(h, left_out, strict=True)]
  return math.sqrt(
    sum((p - estimate) ** 2 / (hj - 1) for p, hj in zip(pseudo, h, strict=True)) / groups
  )


def test_unequal_groups_that_leave_together():
  rng = np.random.default_rng(5)
  real, fake = draw(rng, 90)
  fake = fake[:60]
  labels = rng.choice([0, 1, 2, 5], 90, p=[0.5, 0.2, 0.2, 0.1]), rng.choice([0, 1, 2, 6], 60)
  both = intervals.frechet_and_kid(real, fake, ddof=0, groups=labels)
  used = [0, 1, 2, 5, 6]
  shares = [np.mean(labels[0] == g) / 2 + np.mean(labels[1] == g) / 2 for g in used]
  for name, distance in {"frechet": metrics.frechet_distance, "kid": metrics.kid}.items():
    values = [distance(real[labels[0] != g], fake[labels[1] != g]) for g in used]
    error = by_definition(distance(real, fake), values, shares)
    assert both[name].value == pytest.approx(distance(real, fake), rel=1e-10)
    assert both[name].high - both[name].value == pytest.approx(1.959964 * error, rel=1e-5)


def test_equal_groups_have_the_usual_formula():
  left_out = np.random.default_rng(0).standard_normal(20)
  usual = math.sqrt(19 / 20 * np.square(left_out - left_out.mean()).sum())
  assert intervals.standard_error(0.3, left_out) == pytest.approx(usual, rel=1e-12)
  shares = np.full(20, 0.05)
  assert intervals.standard_error(0.3, left_out, shares) == pytest.approx(usual, rel=1e-12)


def test_clips_of_one_video_widen_the_interval():
  """Six clips of each video that are one clip: the interval is that of one clip per video."""
  rng = np.random.default_rng(6)
  real, fake = draw(rng, 200)
  ids = [f"video{i}" for i in range(200)]
  one = intervals.frechet_and_kid(real, fake, 0, groups=(groups_of(ids), groups_of(ids)))
  six = np.repeat(real, 6, axis=0), np.repeat(fake, 6, axis=0)
  labels = groups_of([name for name in ids for _ in range(6)])
  grouped = intervals.frechet_and_kid(*six, 0, groups=(labels, labels))
  naive = intervals.frechet_and_kid(*six, 0)

  def width(found):
    return found["frechet"].high - found["frechet"].value

  assert width(grouped) == pytest.approx(width(one), rel=1e-9)
  assert width(naive) < 0.6 * width(one)


@pytest.mark.parametrize("groups", [[0] * 30, [0] * 15 + [1] * 15, [0] * 29 + [3]])
def test_too_few_groups_for_an_interval(groups):
  real, fake = draw(np.random.default_rng(7), 30)
  both = intervals.frechet_and_kid(real, fake, 0, groups=(np.array(groups), np.array(groups)))
  for estimate in both.values():
    assert math.isnan(estimate.low)
    assert math.isfinite(estimate.value)


def test_mean_of_videos():
  values = np.array([0.1, 0.4, 0.2, 0.3, 0.35, 0.6])
  estimate = intervals.mean_of(values, "u", lowest=0.3)
  error = values.std(ddof=1) / math.sqrt(6)
  assert estimate.value == pytest.approx(values.mean())
  assert estimate.high - estimate.value == pytest.approx(1.959964 * error, rel=1e-6)
  assert (estimate.low, estimate.unit) == (0.3, "u")
  # One video a group: the jackknife of a mean is sd / sqrt(n).
  alone = intervals.mean_of(values, "u", np.array([7, 0, 1, 3, 2, 9]))
  assert alone.high == pytest.approx(estimate.high, rel=1e-12)
  # Groups of 3, 2 and 1.
  labels = np.array([0, 0, 0, 4, 4, 2])
  left_out = [np.mean(values[labels != g]) for g in (0, 2, 4)]
  grouped = intervals.mean_of(values, "u", labels)
  expected = by_definition(values.mean(), left_out, [3, 1, 2])
  assert grouped.high - grouped.value == pytest.approx(1.959964 * expected, rel=1e-6)
  assert math.isnan(intervals.mean_of(values[:1], "u").low)
  with pytest.raises(ValueError, match=r"\(N,\) finite values, N > 0"):
    intervals.mean_of(np.array([1.0, np.nan]), "u")
