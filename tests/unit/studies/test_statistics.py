"""Decisions on made-up effects: planted ones are found, and chance is not."""

import numpy as np
import pytest

from benchmarks.studies import statistics

X = (0.0, 20.0, 50.0, 90.0, 150.0, 240.0)


def test_the_interval_is_students():
  found = statistics.effect([1.0, 2.0, 3.0])
  # t of 97.5 % at two degrees of freedom, times 1 / sqrt(3).
  assert found.value == 2.0
  assert found.high - found.value == pytest.approx(4.302653 / np.sqrt(3), rel=1e-6)
  assert found.low == pytest.approx(2 * found.value - found.high)


def test_a_planted_difference_is_found_and_has_a_sign():
  rng = np.random.default_rng(0)
  level = rng.normal(1.0, 0.3, 4)  # seeds differ more than arms: pairing takes that out
  better, worse = level, level + 0.05 + rng.normal(0, 0.005, 4)
  low = statistics.paired(better.tolist(), worse.tolist(), lower_is_better=True)
  assert statistics.effect(low).decision == statistics.SUPPORTS
  high = statistics.paired(better.tolist(), worse.tolist(), lower_is_better=False)
  assert statistics.effect(high).decision == statistics.CONTRADICTS
  assert statistics.effect(low).value == pytest.approx(0.05, abs=0.01)


def test_chance_is_no_difference_as_often_as_the_level_says():
  rng = np.random.default_rng(1)
  decisions = [statistics.effect(rng.normal(0, 1, 4).tolist()).decision for _ in range(2000)]
  share = decisions.count(statistics.UNDECIDED) / len(decisions)
  assert 0.93 < share < 0.97


@pytest.mark.parametrize("values", [[1.0], [], [1.0, float("nan")]])
def test_too_little_is_refused(values):
  with pytest.raises(ValueError, match="two finite effects or more"):
    statistics.effect(values)


def test_ranks_within_clips():
  offsets = np.array([0.0, 100.0, -50.0])  # clips differ by far more than what is asked moves them
  rising = np.sqrt(np.array(X))[:, None] + offsets
  assert statistics.rank_correlation(X, rising, rises=True) == pytest.approx(1.0)
  assert statistics.rank_correlation(X, rising, rises=False) == pytest.approx(-1.0)
  assert statistics.rank_correlation(X, -rising, rises=False) == pytest.approx(1.0)
  one_still = np.concatenate([rising, np.zeros((6, 1))], axis=1)
  assert statistics.rank_correlation(X, one_still, rises=True) == pytest.approx(0.75)


def test_ranks_agree_with_scipy():
  from scipy import stats

  rng = np.random.default_rng(2)
  measured = rng.integers(0, 4, (6, 5)).astype(float)  # with ties
  expected = np.mean([stats.spearmanr(X, column).statistic for column in measured.T])
  assert statistics.rank_correlation(X, measured, rises=True) == pytest.approx(expected)


def test_a_weak_planted_trend_is_found_over_seeds_and_noise_is_not():
  rng = np.random.default_rng(3)

  def seeds(slope: float) -> list[float]:
    trend = slope * np.arange(6)[:, None]
    return [
      statistics.rank_correlation(X, trend + rng.normal(0, 1, (6, 16)), rises=True)
      for _ in range(4)
    ]

  assert statistics.effect(seeds(0.4)).decision == statistics.SUPPORTS
  assert statistics.effect(seeds(-0.4)).decision == statistics.CONTRADICTS
  null = [statistics.effect(seeds(0.0)).decision for _ in range(300)]
  assert null.count(statistics.UNDECIDED) / len(null) > 0.9


def test_together():
  yes, no, none = statistics.SUPPORTS, statistics.CONTRADICTS, statistics.UNDECIDED
  assert statistics.together([yes, yes]) == yes
  assert statistics.together([yes, none]) == none
  assert statistics.together([yes, no]) == no
  assert statistics.together([none, no]) == no
