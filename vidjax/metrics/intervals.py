"""Intervals for distances between two feature sets, by the grouped jackknife.

Samples are split into groups; the distance is computed again with each group left out of both
sets, and the spread of these values gives the standard error. The bootstrap is not used: drawing
with replacement makes N look smaller, which moves the (biased) Fréchet distance itself, so that its
interval can miss the very value that it describes.
"""

from collections.abc import Callable
import dataclasses
import math

import numpy as np

from vidjax.metrics.frechet import (
  FeatureStats,
  checked_pair,
  frechet_from_stats,
  merge,
  warn_if_few,
)
from vidjax.metrics.kid import kernel_sums

GROUPS = 20
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


def jackknife(
  value: float, without: Callable[[int], float], groups: int, unit: str, lowest: float = -math.inf
) -> Estimate:
  """`value` with value ± 1.96 standard errors from `without(g)` for each group g.

  Raises nothing; with fewer than 3 groups the interval is NaN.
  """
  if groups < 3:
    return Estimate(value, math.nan, math.nan, unit)
  left_out_G = np.array([without(g) for g in range(groups)])
  variance = (groups - 1) * np.square(left_out_G - left_out_G.mean()).mean()
  half = _Z95 * math.sqrt(variance)
  return Estimate(value, max(value - half, lowest), value + half, unit)


def frechet_and_kid(
  real_ND: np.ndarray,
  fake_ND: np.ndarray,
  ddof: int,
  names: tuple[str, str] = ("real features", "fake features"),
  progress: Callable[[int], None] = lambda done: None,
) -> dict[str, Estimate]:
  """Both distances of two feature sets, with intervals.

  Rows count as independent and are dealt out to up to `GROUPS` groups in turn. `progress` is told
  how many of `GROUPS` Fréchet distances are done.

  Raises:
    ValueError: as `frechet_distance`; `names` says what the sets are called in the message.
  """
  real_ND, fake_ND = checked_pair(real_ND, fake_ND, names)
  warn_if_few(real_ND, fake_ND)
  groups = min(GROUPS, len(real_ND), len(fake_ND))
  real = [real_ND[g::groups] for g in range(groups)]
  fake = [fake_ND[g::groups] for g in range(groups)]
  sums = kernel_sums(real, fake)
  stats = [[FeatureStats.of(group) for group in side] for side in (real, fake)]

  def frechet_without(left_out: int) -> float:
    rest = [merge(s for g, s in enumerate(side) if g != left_out) for side in stats]
    value = frechet_from_stats(*rest, ddof=ddof)
    progress(left_out + 1)
    return value

  frechet = frechet_from_stats(*(merge(side) for side in stats), ddof=ddof)
  return {
    "frechet": jackknife(frechet, frechet_without, groups, "squared feature units", lowest=0.0),
    "kid": jackknife(sums.mmd2(), sums.mmd2, groups, "kernel units"),
  }
