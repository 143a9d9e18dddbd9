"""What seeds say together: paired differences, rank correlations, and the decision.

Every measure becomes one effect for each seed, positive where the seed agrees with the paper, and
the interval is Student's over seeds: the same first frames and the same noise serve all arms of a
seed, so that seeds are what is independent. Nothing is assumed of the clips within a seed.

Legend: S seeds, N clips, V values that are asked for.
"""

from collections.abc import Sequence
import dataclasses
import math

import numpy as np
from scipy import stats

SUPPORTS, CONTRADICTS = "supports", "contradicts"
UNDECIDED = "no difference at this scale"
LEVEL = 0.95


@dataclasses.dataclass(frozen=True)
class Effect:
  """Mean over seeds with its interval; positive is what the paper says."""

  value: float
  low: float
  high: float
  seeds: tuple[float, ...]

  @property
  def decision(self) -> str:
    """Whether the interval lies above 0, below, or around it."""
    if self.low > 0:
      return SUPPORTS
    return CONTRADICTS if self.high < 0 else UNDECIDED


def effect(values_S: Sequence[float], level: float = LEVEL) -> Effect:
  """Student's interval of the mean of independent effects.

  Args:
    values_S: one for each seed, at least two.
    level: of confidence, two-sided.

  Raises:
    ValueError: fewer than two values, or some that are not finite.
  """
  values = np.asarray(values_S, np.float64)
  if len(values) < 2 or not np.isfinite(values).all():
    raise ValueError(f"an interval needs two finite effects or more, got {list(values_S)}")
  mean, error = float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values))
  half = float(stats.t.ppf(0.5 + level / 2, len(values) - 1)) * error
  return Effect(mean, mean - half, mean + half, tuple(values.tolist()))


def paired(
  preferred_S: Sequence[float], other_S: Sequence[float], *, lower_is_better: bool
) -> list[float]:
  """By how much the arm that the paper prefers is better, seed by seed."""
  sign = 1.0 if lower_is_better else -1.0
  return [sign * (b - a) for a, b in zip(preferred_S, other_S, strict=True)]


def rank_correlation(values_V: Sequence[float], measured_VN: np.ndarray, *, rises: bool) -> float:
  """Mean over clips of Spearman's correlation of what was asked for and what was measured.

  Ranks are taken within a clip, since first frames differ more among each other than what is asked
  moves them. A clip in which nothing changes has no correlation, and counts as 0.

  Args:
    values_V: what was asked for.
    measured_VN: what came of it, of each clip.
    rises: whether the paper has it rise; else the sign is turned.

  Returns:
    -1 to 1; positive is what the paper says.
  """
  ranks_V = _standardized(stats.rankdata(values_V))
  ranks_VN = _standardized(stats.rankdata(np.asarray(measured_VN, np.float64), axis=0))
  return float((ranks_V @ ranks_VN / len(ranks_V)).mean()) * (1.0 if rises else -1.0)


def together(decisions: Sequence[str]) -> str:
  """The verdict of several measures that all decide: one against it outweighs the others."""
  if CONTRADICTS in decisions:
    return CONTRADICTS
  return SUPPORTS if set(decisions) == {SUPPORTS} else UNDECIDED


def _standardized(x: np.ndarray) -> np.ndarray:
  """Mean 0 and variance 1 along the first dimension; what is constant becomes 0."""
  centred = x - x.mean(axis=0)
  spread = centred.std(axis=0)
  return centred / np.where(spread > 0, spread, 1.0)
