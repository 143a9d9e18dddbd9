"""Intervals for distances between two feature sets, by the grouped jackknife.

Samples are split into groups; the distance is computed again with each group left out of both
sets, and the spread of these values gives the standard error. The bootstrap is not used: drawing
with replacement makes N look smaller, which moves the (biased) Fréchet distance itself, so that its
interval can miss the very value that it describes.

Legend: N samples, D feature dimensions, G groups.
"""

from collections.abc import Callable
import dataclasses
import math

import numpy as np

from vidjax.metrics.checks import checked_pair, warn_if_few
from vidjax.metrics.frechet import frechet_from_stats
from vidjax.metrics.groups import GROUPS, GroupStats, checked_groups, in_turn
from vidjax.metrics.kid import kernel_sums

ALLOWED = 1e-7  # error of values whose spread is asked for, see `frechet_from_stats`
_Z95 = 1.959963984540054  # two-sided 95 % of a normal law


@dataclasses.dataclass(frozen=True)
class Estimate:
  """A value with its 95 % interval; `low` and `high` are NaN where there are too few samples.

  The interval is that of the plain estimator under resampling: it does not correct for bias.
  """

  value: float
  low: float
  high: float
  unit: str

  def to_json(self) -> dict[str, float | str | None]:
    """The entry of result.json; NaN is null."""
    numbers = {k: getattr(self, k) for k in ("value", "low", "high")}
    return {k: v if math.isfinite(v) else None for k, v in numbers.items()} | {"unit": self.unit}


def around(
  value: float, standard_error: float, unit: str, lowest: float = -math.inf, highest=math.inf
) -> Estimate:
  """`value` ± 1.96 standard errors, cut at what the value can be; NaN stays NaN."""
  if math.isnan(standard_error):
    return Estimate(value, math.nan, math.nan, unit)
  half = _Z95 * standard_error
  return Estimate(value, max(value - half, lowest), min(value + half, highest), unit)


def jackknife(
  value: float,
  without: Callable[[int], float],
  groups: int,
  unit: str,
  lowest: float = -math.inf,
  shares: np.ndarray | None = None,
) -> Estimate:
  """`value` with value ± 1.96 standard errors from `without(g)` for each group g.

  Args:
    value: of all samples.
    without: the same without group g, 0 <= g < groups.
    groups: their number; with fewer than 3 the interval is NaN.
    unit: of the value.
    lowest: what the interval does not go below.
    shares: (groups,) shares of the samples, see `standard_error`; None for equal ones.
  """
  if groups < 3:
    return Estimate(value, math.nan, math.nan, unit)
  left_out_G = np.array([without(g) for g in range(groups)])
  return around(value, standard_error(value, left_out_G, shares), unit, lowest)


def standard_error(
  value: float, left_out_G: np.ndarray, shares_G: np.ndarray | None = None
) -> float:
  """Standard error by the delete-a-group jackknife; groups may be of unequal size.

  The delete-m_j jackknife of Busing, Meijer and van der Leeden ("Delete-m jackknife for unequal m",
  Statistics and Computing 9, 1999), with h_j = 1 / share of group j, pseudo-values
  t_j = h_j value - (h_j - 1) left_out_j and their mean t = sum(t_j / h_j):
  variance = 1/G sum((t_j - t)^2 / (h_j - 1)). For equal groups this is the usual
  (G - 1)/G sum((left_out_j - mean)^2).

  Args:
    value: of all samples.
    left_out_G: values without each group, none of which is empty or holds everything.
    shares_G: share of the samples that each group holds, above 0, sum 1; None for equal ones.

  Returns:
    The standard error; NaN for fewer than 3 groups.
  """
  groups = len(left_out_G)
  if groups < 3:
    return math.nan
  shares_G = np.full(groups, 1 / groups) if shares_G is None else shares_G
  h_G = 1 / shares_G
  pseudo_G = h_G * value - (h_G - 1) * left_out_G
  deviations_G = pseudo_G - shares_G @ pseudo_G
  return math.sqrt(np.mean(np.square(deviations_G) / (h_G - 1)))


def mean_of(
  values_N: np.ndarray,
  unit: str,
  groups_N: np.ndarray | None = None,
  lowest: float = -math.inf,
  highest: float = math.inf,
) -> Estimate:
  """Mean of one number per video, with its 95 % interval.

  The standard error is sd / sqrt(N), sd with N - 1, where the videos are independent, and that of
  the jackknife over `groups_N` (see `vidjax.metrics.groups.groups_of`) where they are not.

  Raises:
    ValueError: no values, values that are not finite, or not one group for each.
  """
  values_N = np.asarray(values_N, np.float64)
  if values_N.ndim != 1 or not len(values_N) or not np.isfinite(values_N).all():
    raise ValueError(f"a mean needs (N,) finite values, N > 0, got shape {values_N.shape}")
  n, value = len(values_N), float(values_N.mean())
  if groups_N is None:
    error = float(values_N.std(ddof=1)) / math.sqrt(n) if n > 1 else math.nan
    return around(value, error, unit, lowest, highest)
  groups_N = checked_groups(groups_N, n, "the values")
  sizes_G, sums_G = np.bincount(groups_N), np.bincount(groups_N, values_N)
  sums_G, sizes_G = sums_G[sizes_G > 0], sizes_G[sizes_G > 0]
  if len(sizes_G) < 3:
    return around(value, math.nan, unit)
  left_out_G = (sums_G.sum() - sums_G) / (n - sizes_G)
  return around(value, standard_error(value, left_out_G, sizes_G / n), unit, lowest, highest)


def frechet_and_kid(
  real_ND: np.ndarray,
  fake_ND: np.ndarray,
  ddof: int,
  names: tuple[str, str] = ("real features", "fake features"),
  progress: Callable[[int], None] = lambda done: None,
  groups: tuple[np.ndarray, np.ndarray] | None = None,
) -> dict[str, Estimate]:
  """Both distances of two feature sets, with intervals.

  Args:
    real_ND: features of real samples.
    fake_ND: features of generated samples.
    ddof: as `frechet_distance`.
    names: what the sets are called in messages.
    progress: is told how many of `GROUPS` Fréchet distances are done.
    groups: (N,) groups of the real and of the fake samples, see `groups_of`: what has one number
      leaves together, on both sides. None: rows are independent, and are dealt out in turn.

  Raises:
    ValueError: as `frechet_distance`, or the groups are not one for each sample.
  """
  real_ND, fake_ND = checked_pair(real_ND, fake_ND, names)
  warn_if_few(real_ND, fake_ND)
  real_N, fake_N = paired_groups(len(real_ND), len(fake_ND), groups, names)
  count = int(max(real_N.max(), fake_N.max())) + 1
  real, fake = GroupStats.of(real_ND, real_N, count), GroupStats.of(fake_ND, fake_N, count)
  return {
    "frechet": frechet_left_out(real, fake, ddof, progress).estimate(),
    "kid": kid_of_groups(real_ND, fake_ND, real_N, fake_N),
  }


def kid_of_groups(
  real_ND: np.ndarray, fake_ND: np.ndarray, real_N: np.ndarray, fake_N: np.ndarray
) -> Estimate:
  """KID with its interval; `real_N` and `fake_N` are the groups of the samples."""
  count = int(max(real_N.max(), fake_N.max())) + 1
  sums = kernel_sums(
    [real_ND[real_N == g] for g in range(count)], [fake_ND[fake_N == g] for g in range(count)]
  )
  used_J, shares_J = leaving(sums.n, sums.m)
  value, left_out = sums.mmd2(), np.array([sums.mmd2(int(g)) for g in used_J])
  return around(value, standard_error(value, left_out, shares_J), "kernel units")


@dataclasses.dataclass(frozen=True)
class LeftOut:
  """A Fréchet distance of all samples and without each group in turn; J groups leave.

  Attributes:
    value: of all samples.
    groups: (J,) numbers of the groups.
    values: (J,) distances without each of them.
    shares: (J,) shares of the samples that they hold.
  """

  value: float
  groups: np.ndarray
  values: np.ndarray
  shares: np.ndarray

  def estimate(self) -> Estimate:
    """The distance with its interval."""
    error = standard_error(self.value, self.values, self.shares)
    return around(self.value, error, "squared feature units", lowest=0.0)


def frechet_left_out(
  real: GroupStats, fake: GroupStats, ddof: int, progress: Callable[[int], None] = lambda done: None
) -> LeftOut:
  """The Fréchet distance and its jackknife from statistics per group, which leave on both sides.

  `progress` is told how many groups have left.
  """
  used_J, shares_J = leaving(real.n, fake.n)
  left_out = []
  for g in used_J:
    keep_G = np.arange(len(real)) != g
    left_out.append(frechet_from_stats(real.total(keep_G), fake.total(keep_G), ddof, ALLOWED))
    progress(len(left_out))
  value = frechet_from_stats(real.total(), fake.total(), ddof)
  return LeftOut(value, used_J, np.array(left_out), shares_J)


def leaving(real_n_G: np.ndarray, fake_n_G: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Which groups leave in turn, and their shares: the mean of those of both sides.

  Args:
    real_n_G: real samples in each group.
    fake_n_G: fake samples in each group.

  Returns:
    (J,) numbers of the groups that are not empty and (J,) shares. Both are empty, so there is no
    interval, where fewer than 2 samples would stay on a side.
  """
  rest_G = np.minimum(real_n_G.sum() - real_n_G, fake_n_G.sum() - fake_n_G)
  used_G = np.flatnonzero(real_n_G + fake_n_G)
  if rest_G.min() < 2:
    used_G = used_G[:0]
  shares_G = (real_n_G / real_n_G.sum() + fake_n_G / fake_n_G.sum()) / 2
  return used_G, shares_G[used_G]


def paired_groups(
  n_real: int,
  n_fake: int,
  groups: tuple[np.ndarray, np.ndarray] | None,
  names: tuple[str, str],
) -> tuple[np.ndarray, np.ndarray]:
  """The groups of both sides, checked; in turn where there are none."""
  if groups is None:
    count = min(GROUPS, n_real, n_fake)
    return in_turn(n_real, count), in_turn(n_fake, count)
  return checked_groups(groups[0], n_real, names[0]), checked_groups(groups[1], n_fake, names[1])
