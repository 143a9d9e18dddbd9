"""The Fréchet distance at infinitely many samples, from its values at fewer.

The distance of N samples lies above the true one by about c / N (Chong and Forsyth, 1911.07023):
values at several N lie on a line over 1 / N, and where the line meets 0 there is no bias. Chong and
Forsyth vary the generated samples and keep a large real set; here both sides shrink by the same
share, for the real set has a bias of its own where it is no larger.

Sizes are whole groups (`vidjax.metrics.groups`), so what belongs together stays together and only
statistics per group are needed: with 20 groups 15 sizes, from 6 groups to all, 0.3 N to N. The
groups of one size follow on those of the size before, around the circle: each group counts nearly
as much as any other. (With nested subsets the first groups would cancel out of the fit.)

Legend: N samples, D feature dimensions, G groups, S sizes, J groups that leave.
"""

import math

import numpy as np

from vidjax.metrics.checks import checked_pair
from vidjax.metrics.frechet import frechet_from_stats
from vidjax.metrics.groups import GroupStats
from vidjax.metrics.intervals import (
  ALLOWED,
  Estimate,
  LeftOut,
  around,
  frechet_left_out,
  paired_groups,
  standard_error,
)

SMALLEST = 0.3  # share of the groups in the smallest subset
_MIN_GROUPS = 10


def frechet_infinity(
  real_ND: np.ndarray,
  fake_ND: np.ndarray,
  ddof: int = 0,
  groups: tuple[np.ndarray, np.ndarray] | None = None,
  seed: int = 0,
  names: tuple[str, str] = ("real features", "fake features"),
) -> Estimate:
  """The extrapolated Fréchet distance with its interval; may be slightly negative.

  Args:
    real_ND: features of real samples.
    fake_ND: features of generated samples.
    ddof: as `frechet_distance`.
    groups: (N,) groups of the real and of the fake samples, see `groups_of`. None: rows are
      independent, and are dealt out in turn.
    seed: of the order in which groups are put together.
    names: what the sets are called in messages.

  Raises:
    ValueError: as `frechet_distance`, or there are too few samples or groups; says how many are
      needed.
  """
  real_ND, fake_ND = checked_pair(real_ND, fake_ND, names)
  labels = paired_groups(len(real_ND), len(fake_ND), groups, names)
  count = int(max(labels[0].max(), labels[1].max())) + 1
  real, fake = (
    GroupStats.of(x_ND, labels_N, count)
    for x_ND, labels_N in zip((real_ND, fake_ND), labels, strict=True)
  )
  why_not = refusal(real, fake, seed)
  if why_not:
    raise ValueError(why_not)
  return infinity_of_groups(real, fake, ddof, frechet_left_out(real, fake, ddof), seed)


def refusal(real: GroupStats, fake: GroupStats, seed: int = 0) -> str | None:
  """Why these sets cannot be extrapolated, and what is needed; None where they can.

  The law c / N holds where covariances are not singular: the smallest subset needs N > D.
  """
  dims, order_G = real.mean.shape[1], _order(real, fake, seed)
  groups = len(order_G)
  if groups < _MIN_GROUPS:
    return (
      f"the Fréchet distance cannot be extrapolated from {groups} groups: samples of at least"
      f" {_MIN_GROUPS} groups are needed; use more videos"
    )
  subsets = [*_subsets(order_G, len(real)), *_halves(order_G, len(real))]
  smallest = min(int(side.n[keep_G].sum()) for keep_G in subsets for side in (real, fake))
  if smallest <= dims:
    needed = math.ceil((dims + 1) / SMALLEST)
    return (
      f"the Fréchet distance cannot be extrapolated: of N={real.n.sum()} real and"
      f" {fake.n.sum()} fake samples the smallest subset has {smallest}, but more than D={dims} are"
      f" needed there; use at least about {needed} samples of each"
    )
  return None


def infinity_of_groups(
  real: GroupStats, fake: GroupStats, ddof: int, left_out: LeftOut, seed: int = 0
) -> Estimate:
  """The extrapolated distance from statistics per group, see `frechet_infinity`.

  The interval is that of the jackknife over groups, for which the extrapolation is made from two
  sizes, all samples and the mean of two halves: so a group that leaves costs one distance more,
  not 15. The scatter of the points about the fitted line is not used: subsets share most of their
  samples, so it claims a third of the true error or less.

  Args:
    real: of real samples.
    fake: of generated samples, with as many groups.
    ddof: as `frechet_distance`.
    left_out: distances of the same groups, from `frechet_left_out`.
    seed: of the order in which groups are put together.
  """
  distance = _Distances(real, fake, ddof)
  order_G = _order(real, fake, seed)
  subsets = _subsets(order_G, len(real))
  x_S = np.array([distance.inverse_size(keep_G) for keep_G in subsets])
  y_S = np.array([*(distance(keep_G) for keep_G in subsets[:-1]), left_out.value])
  value = float(_at_zero(x_S, y_S))

  everything_G = np.ones(len(real), bool)
  halves = _halves(order_G, len(real))
  x_half = [distance.inverse_size(keep_G) for keep_G in halves]
  y_half = [distance(keep_G) for keep_G in halves]
  from_two = _from_two(1.0, left_out.value, x_half, y_half)
  from_two_J = []
  for g, without in zip(left_out.groups, left_out.values, strict=True):
    x_rest, y_rest = list(x_half), list(y_half)
    side = 0 if halves[0][g] else 1
    rest_G = halves[side] & (np.arange(len(real)) != g)
    x_rest[side], y_rest[side] = distance.inverse_size(rest_G), distance(rest_G)
    x_all = distance.inverse_size(everything_G & (np.arange(len(real)) != g))
    from_two_J.append(_from_two(x_all, without, x_rest, y_rest))
  error = standard_error(from_two, np.array(from_two_J), left_out.shares)
  return around(value, error, "squared feature units")


class _Distances:
  """Fréchet distances of groups taken together, which `keep_G` says."""

  def __init__(self, real: GroupStats, fake: GroupStats, ddof: int):
    self._real, self._fake, self._ddof = real, fake, ddof

  def __call__(self, keep_G: np.ndarray) -> float:
    real, fake = self._real.total(keep_G), self._fake.total(keep_G)
    return frechet_from_stats(real, fake, self._ddof, ALLOWED)

  def inverse_size(self, keep_G: np.ndarray) -> float:
    """How many times fewer samples there are than in all groups; the bias is in proportion."""
    return float(np.mean([s.n.sum() / s.n[keep_G].sum() for s in (self._real, self._fake)]))


def _order(real: GroupStats, fake: GroupStats, seed: int) -> np.ndarray:
  """Groups that are not empty, in an order that the seed decides."""
  return np.random.default_rng(seed).permutation(np.flatnonzero(real.n + fake.n))


def _subsets(order_G: np.ndarray, count: int) -> list[np.ndarray]:
  """(count,) masks of the groups of each size, the last of which is everything."""
  masks, start, groups = [], 0, len(order_G)
  for size in range(math.ceil(SMALLEST * groups), groups + 1):
    keep_G = np.zeros(count, bool)
    keep_G[order_G[(start + np.arange(size)) % groups]] = True
    masks.append(keep_G)
    start += size
  return masks


def _halves(order_G: np.ndarray, count: int) -> list[np.ndarray]:
  return [np.isin(np.arange(count), order_G[i::2]) for i in range(2)]


def _at_zero(x_S: np.ndarray, y_S: np.ndarray) -> np.ndarray:
  """Where the line of least squares through (x, y) meets x = 0."""
  slope = (x_S - x_S.mean()) @ y_S / np.square(x_S - x_S.mean()).sum()
  return y_S.mean() - slope * x_S.mean()


def _from_two(x_all: float, y_all: float, x_half: list[float], y_half: list[float]) -> float:
  x, y = float(np.mean(x_half)), float(np.mean(y_half))
  return (y_all * x - y * x_all) / (x - x_all)
