"""Samples in groups: who leaves together when an interval is computed, and statistics per group.

Clips of one video are not independent, so they share a group. The group follows from the video's
id alone: every process, and every later run, comes to the same groups, and the statistics per group
are all that Fréchet distances, their intervals and their extrapolation need.

Legend: N samples, D feature dimensions, G groups.
"""

from collections.abc import Sequence
import dataclasses
import functools
import hashlib

import numpy as np

from vidjax.metrics.frechet import FeatureStats

GROUPS = 20


def groups_of(ids: Sequence[str], count: int = GROUPS) -> np.ndarray:
  """The group of each id: equal ids have equal groups, on every machine and in every run.

  The first 8 bytes of the id's SHA-256 as a fraction of 2^64, times `count`, rounded down. Twice
  the count cuts every group in two: `groups_of(ids, 2 * G) // 2` is `groups_of(ids, G)`.

  Args:
    ids: the video that each sample is from; samples of one video share its id.
    count: number of groups; some may stay empty.

  Returns:
    (N,) int64 in [0, count).

  Raises:
    ValueError: `count` is below 1, or an id is no text.
  """
  if count < 1:
    raise ValueError(f"count={count}: at least 1 group is needed")
  known: dict[str, int] = {}
  for i, name in enumerate(ids):
    if not isinstance(name, str):
      raise ValueError(f"ids[{i}] is {name!r:.60}: ids must be text, one for each sample")
    if name not in known:
      digest = hashlib.sha256(name.encode()).digest()
      known[name] = int.from_bytes(digest[:8], "big") * count >> 64
  return np.array([known[name] for name in ids], np.int64)


def in_turn(n: int, count: int) -> np.ndarray:
  """(n,) int64 groups of samples without ids, which are dealt out to `count` groups in turn."""
  return np.arange(n) % count


def checked_groups(groups_N: np.ndarray, n: int, name: str) -> np.ndarray:
  """Returns groups as int64.

  Raises:
    ValueError: they are not `n` integers from 0; `name` says whose groups they are.
  """
  groups = np.asarray(groups_N)
  if groups.shape != (n,) or not np.issubdtype(groups.dtype, np.integer):
    raise ValueError(
      f"groups of {name}: {n} integers are needed, one for each sample, got {groups.dtype} of"
      f" shape {groups.shape}"
    )
  if groups.min(initial=0) < 0:
    raise ValueError(f"groups of {name}: {groups.min()} is below 0, groups are counted from 0")
  return groups.astype(np.int64)


@dataclasses.dataclass(frozen=True)
class GroupStats:
  """Statistics of each group of one set of features; a group may be empty.

  Attributes:
    n: (G,) int64 samples.
    mean: (G, D) float64 means, 0 in empty groups.
    m2: (G, D, D) float64 sums of (x - mean)(x - mean)^T.
  """

  n: np.ndarray
  mean: np.ndarray
  m2: np.ndarray

  @classmethod
  def of(cls, features_ND: np.ndarray, groups_N: np.ndarray, count: int) -> "GroupStats":
    """Statistics of features whose groups are below `count`."""
    dims = features_ND.shape[1]
    stats = cls(
      np.bincount(groups_N, minlength=count),
      np.zeros((count, dims)),
      np.zeros((count, dims, dims)),
    )
    order_N = np.argsort(groups_N, kind="stable")
    ends_G = np.cumsum(stats.n)
    for g in np.flatnonzero(stats.n):
      part = FeatureStats.of(features_ND[order_N[ends_G[g] - stats.n[g] : ends_G[g]]])
      stats.mean[g], stats.m2[g] = part.mean, part.m2
    return stats

  def __len__(self) -> int:
    return len(self.n)

  def __add__(self, other: "GroupStats") -> "GroupStats":
    """Statistics of both sets together, group by group, e.g. of another process."""
    merged = [
      a + b if a.n and b.n else (a if a.n else b)
      for a, b in zip(self._groups(), other._groups(), strict=True)
    ]
    return GroupStats(
      np.array([group.n for group in merged]),
      np.stack([group.mean for group in merged]),
      np.stack([group.m2 for group in merged]),
    )

  def joined(self, size: int) -> "GroupStats":
    """Groups of `size` consecutive groups each."""
    assert len(self) % size == 0, (len(self), size)
    return functools.reduce(
      GroupStats.__add__,
      (GroupStats(self.n[i::size], self.mean[i::size], self.m2[i::size]) for i in range(size)),
    )

  def total(self, keep_G: np.ndarray | None = None) -> FeatureStats:
    """Statistics of all samples, or of those in the groups where `keep_G` is true.

    The many-group form of Chan, Golub, LeVeque (1983) eq. 2.1. What is left out is taken away from
    the sum of all groups where that is less work: both are sums of positive semidefinite matrices
    about their own means, so no digits are lost far from the origin.
    """
    keep_G = np.ones(len(self), bool) if keep_G is None else keep_G
    n = int(self.n[keep_G].sum())
    assert n > 0, "no samples are left"
    mean_D = self.n[keep_G] @ self.mean[keep_G] / n
    between_GD = np.sqrt(self.n[keep_G])[:, None] * (self.mean[keep_G] - mean_D)
    m2_DD = between_GD.T @ between_GD
    if 2 * keep_G.sum() > len(self):
      m2_DD += self._within
      for g in np.flatnonzero(~keep_G):
        m2_DD -= self.m2[g]
    else:
      for g in np.flatnonzero(keep_G):
        m2_DD += self.m2[g]
    return FeatureStats(n, mean_D, m2_DD)

  @functools.cached_property
  def _within(self) -> np.ndarray:
    return self.m2.sum(axis=0)

  def _groups(self) -> list[FeatureStats]:
    return [
      FeatureStats(int(n), mean_D, m2_DD)
      for n, mean_D, m2_DD in zip(self.n, self.mean, self.m2, strict=True)
    ]
