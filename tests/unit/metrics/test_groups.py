"""Groups by id, and statistics per group."""

import numpy as np
import pytest

from vidjax.metrics.frechet import FeatureStats
from vidjax.metrics.groups import GroupStats, checked_groups, groups_of

GOLDEN = {"v_Archery_g01_c01": 8, "video7010": 4, "": 17, "ü": 7}


def test_groups_follow_from_the_id_alone():
  """These numbers are in files of finished runs: they never change."""
  ids = ["v_Archery_g01_c01", "video7010", "", "ü", "video7010"]
  assert groups_of(ids).tolist() == [GOLDEN[name] for name in ids]
  assert groups_of(ids[::-1]).tolist() == groups_of(ids).tolist()[::-1]


def test_groups_are_about_equal_and_halve():
  ids = [f"video{i}" for i in range(20_000)]
  sizes = np.bincount(groups_of(ids), minlength=20)
  assert sizes.sum() == 20_000
  assert abs(sizes - 1000).max() < 5 * np.sqrt(1000)
  assert (groups_of(ids, 40) // 2 == groups_of(ids, 20)).all()
  assert (groups_of(ids, 1) == 0).all()


def test_unusable_groups_are_refused():
  with pytest.raises(ValueError, match="count=0: at least 1 group"):
    groups_of(["a"], 0)
  with pytest.raises(ValueError, match=r"ids\[1\] is 7: ids must be text"):
    groups_of(["a", 7])  # pyright: ignore[reportArgumentType]
  with pytest.raises(
    ValueError, match=r"groups of fake: 3 integers are needed.*int64 of shape \(2,"
  ):
    checked_groups(np.array([0, 1]), 3, "fake")
  with pytest.raises(ValueError, match=r"groups of fake: 2 integers are needed.*got float64"):
    checked_groups(np.array([0.0, 1.0]), 2, "fake")
  with pytest.raises(ValueError, match="groups of fake: -1 is below 0"):
    checked_groups(np.array([0, -1]), 2, "fake")


def close(ours: FeatureStats, x_ND: np.ndarray) -> None:
  expected = FeatureStats.of(x_ND)
  assert ours.n == expected.n
  np.testing.assert_allclose(ours.mean, expected.mean, rtol=1e-12)
  np.testing.assert_allclose(ours.m2, expected.m2, rtol=1e-11, atol=1e-11 * expected.m2.max())


@pytest.fixture
def grouped():
  rng = np.random.default_rng(0)
  x_ND = rng.standard_normal((300, 5)) + 1e3
  groups_N = rng.choice([0, 1, 3, 4, 6], 300, p=[0.6, 0.1, 0.1, 0.1, 0.1])
  return x_ND, groups_N, GroupStats.of(x_ND, groups_N, 8)


def test_groups_add_up_to_the_whole(grouped):
  x_ND, groups_N, stats = grouped
  assert stats.n.tolist() == np.bincount(groups_N, minlength=8).tolist()
  close(stats.total(), x_ND)
  for g in range(8):
    close(stats.total(np.arange(8) != g), x_ND[groups_N != g])
  for few in ([0], [1, 2, 6], [0, 1, 3, 4, 5]):
    close(stats.total(np.isin(np.arange(8), few)), x_ND[np.isin(groups_N, few)])


def test_processes_add_their_groups(grouped):
  x_ND, groups_N, _ = grouped
  parts = [GroupStats.of(x_ND[i::3], groups_N[i::3], 8) for i in range(3)]
  merged = parts[2] + parts[0] + parts[1]
  for g in np.flatnonzero(merged.n):
    close(merged.total(np.arange(8) == g), x_ND[groups_N == g])
  close(merged.total(), x_ND)


def test_neighbours_join(grouped):
  x_ND, groups_N, stats = grouped
  joined = stats.joined(2)
  assert len(joined) == 4
  for g in range(4):
    if joined.n[g]:
      close(joined.total(np.arange(4) == g), x_ND[groups_N // 2 == g])
