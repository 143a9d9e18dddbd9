"""The floor: how far apart two halves of the real set are.

No generated set can be told from the real one below this: it is what sampling alone leaves. Each
half has about half of the samples, and the Fréchet distance's bias falls with their number, so the
plain value stands beside those of other sets of N / 2 only; KID and the extrapolated value have no
bias to speak of, and are compared at any N.

Legend: N samples, D feature dimensions, G groups.
"""

from collections.abc import Sequence
import dataclasses

import numpy as np

from vidjax.metrics import extrapolation
from vidjax.metrics.checks import checked, warn_if_few
from vidjax.metrics.groups import GROUPS, GroupStats, groups_of
from vidjax.metrics.intervals import Estimate, frechet_left_out, kid_of_groups


@dataclasses.dataclass(frozen=True)
class Floor:
  """Distances of one half of the real set to the other.

  Attributes:
    n_first: samples in the first half.
    n_second: samples in the second half; by ids they are not exactly as many.
    frechet: at this many samples.
    infinity: extrapolated; None where the halves are too small for it.
    kid: None where it was not asked for.
  """

  n_first: int
  n_second: int
  frechet: Estimate
  infinity: Estimate | None
  kid: Estimate | None


def real_floor(
  real_ND: np.ndarray,
  ddof: int = 0,
  ids: Sequence[str] | None = None,
  name: str = "real features",
) -> Floor:
  """Splits the real set by the hash of its ids and measures its halves, KID included.

  Args:
    real_ND: features of real samples.
    ddof: as `frechet_distance`.
    ids: the video of each sample, so that both halves have none in common. None: rows are
      independent.
    name: what the set is called in messages.

  Raises:
    ValueError: the features cannot be used, or a half would have fewer than 2 samples.
  """
  real_ND = checked(real_ND, name, at_least=4)
  cells_N = half_groups(len(real_ND), ids)
  stats = GroupStats.of(real_ND, cells_N, int(cells_N.max()) + 2 - int(cells_N.max()) % 2)
  first_N = cells_N % 2 == 0
  found = floor_of_groups(stats, ddof, name)
  warn_if_few(real_ND[first_N], real_ND[~first_N])
  groups = cells_N[first_N] // 2, cells_N[~first_N] // 2
  kid = kid_of_groups(real_ND[first_N], real_ND[~first_N], *groups)
  return dataclasses.replace(found, kid=kid)


def half_groups(n: int, ids: Sequence[str] | None = None, count: int = GROUPS) -> np.ndarray:
  """Twice the group plus the half that each sample is in.

  With ids the groups are `groups_of(ids, count)`; without, samples are dealt out in turn.

  Returns:
    (n,) int64 in [0, 2 count).
  """
  if ids is not None:
    if len(ids) != n:
      raise ValueError(f"there are {len(ids)} ids for {n} samples: one for each is needed")
    return groups_of(ids, 2 * count)
  count = min(count, n // 2)
  return 2 * (np.arange(n) % count) + np.arange(n) // count % 2


def floor_of_groups(cells: GroupStats, ddof: int, name: str = "real features") -> Floor:
  """The floor without KID, from statistics of the groups of `half_groups`.

  Raises:
    ValueError: a half has fewer than 2 samples.
  """
  first, second = (GroupStats(cells.n[i::2], cells.mean[i::2], cells.m2[i::2]) for i in range(2))
  n_first, n_second = int(first.n.sum()), int(second.n.sum())
  if min(n_first, n_second) < 2:
    raise ValueError(
      f"{name}: halves of {n_first} and {n_second} samples, at least 2 are needed in each; by ids,"
      " more than one video is needed"
    )
  left_out = frechet_left_out(first, second, ddof)
  infinity = None
  if extrapolation.refusal(first, second) is None:
    infinity = extrapolation.infinity_of_groups(first, second, ddof, left_out)
  return Floor(n_first, n_second, left_out.estimate(), infinity, None)
