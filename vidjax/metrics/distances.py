"""All distances of two feature sets at once: what they share is computed once.

Legend: N samples, D feature dimensions.
"""

from collections.abc import Callable, Sequence
import dataclasses

import numpy as np

from vidjax.metrics import extrapolation
from vidjax.metrics.checks import checked_pair, warn_if_few
from vidjax.metrics.floor import Floor, floor_of_groups, half_groups
from vidjax.metrics.groups import GROUPS, GroupStats
from vidjax.metrics.intervals import Estimate, frechet_left_out, kid_of_groups


@dataclasses.dataclass(frozen=True)
class FrechetDistances:
  """What the Fréchet distance says of a generated set.

  Attributes:
    frechet: the plain distance, at these numbers of samples.
    infinity: extrapolated; None where the sets are too small for it.
    floor: one half of the real set against the other, without KID; None where a half has fewer than
      2 samples.
    not_extrapolated: why `infinity` is None, and what is needed; "" where it is there.
  """

  frechet: Estimate
  infinity: Estimate | None
  floor: Floor | None
  not_extrapolated: str = ""


def frechet_distances(
  real_ND: np.ndarray,
  fake_ND: np.ndarray,
  ddof: int = 0,
  ids: tuple[Sequence[str], Sequence[str]] | None = None,
  names: tuple[str, str] = ("real features", "fake features"),
  progress: Callable[[int], None] = lambda done: None,
) -> FrechetDistances:
  """The Fréchet distance, the same without its bias, and the floor, all with intervals.

  Args:
    real_ND: (N, D) features of real samples.
    fake_ND: (M, D) features of generated samples.
    ddof: as `frechet_distance`.
    ids: the video of each real and each fake sample: samples of one id leave together, on both
      sides. None: rows are independent.
    names: what the sets are called in messages.
    progress: is told how many of `GROUPS` groups have left the plain distance.

  Raises:
    ValueError: as `frechet_distance`.
  """
  real_ND, fake_ND = checked_pair(real_ND, fake_ND, names)
  warn_if_few(real_ND, fake_ND)
  count = GROUPS if ids else min(GROUPS, len(real_ND) // 2, len(fake_ND) // 2)
  real_ids, fake_ids = ids or (None, None)
  halves = GroupStats.of(real_ND, half_groups(len(real_ND), real_ids, count), 2 * count)
  of_halves = min(halves.n[i::2].sum() for i in range(2))
  floor = floor_of_groups(halves, ddof, names[0]) if of_halves > 1 else None
  real = halves.joined(2)
  fake = GroupStats.of(fake_ND, half_groups(len(fake_ND), fake_ids, count) // 2, count)
  left_out = frechet_left_out(real, fake, ddof, progress)
  infinity = None
  why_not = extrapolation.refusal(real, fake)
  if why_not is None:
    infinity = extrapolation.infinity_of_groups(real, fake, ddof, left_out)
  return FrechetDistances(left_out.estimate(), infinity, floor, why_not or "")


def kid_with_interval(
  real_ND: np.ndarray,
  fake_ND: np.ndarray,
  ids: tuple[Sequence[str], Sequence[str]] | None = None,
  names: tuple[str, str] = ("real features", "fake features"),
) -> Estimate:
  """KID with its interval, over the groups of `frechet_distances`, whose arguments these are."""
  real_ND, fake_ND = checked_pair(real_ND, fake_ND, names)
  count = GROUPS if ids else min(GROUPS, len(real_ND) // 2, len(fake_ND) // 2)
  groups = (
    half_groups(len(x_ND), own_ids, count) // 2
    for x_ND, own_ids in zip((real_ND, fake_ND), ids or (None, None), strict=True)
  )
  return kid_of_groups(real_ND, fake_ND, *groups)
