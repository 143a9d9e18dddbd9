"""A data set as it was found: its videos, and what it should have had."""

from collections.abc import Iterable, Mapping, Sequence
import dataclasses

from vidjax import errors
from vidjax.evaluation.datasets.items import Item, listed


@dataclasses.dataclass(frozen=True)
class Dataset:
  """Videos of one split, and what of it is not there.

  Attributes:
    name: what it is, with split and origin: two names differ where the real set does.
    items: the videos that are there, by id.
    expected: number of videos that the split has.
    missing: ids of those that are not there; empty unless the caller allowed it.
    histogram: class -> number of videos of the whole split, missing ones included; empty where
      there are no classes.
    classes: names of all classes in the data set's own order: the index of a class is its place.
  """

  name: str
  items: tuple[Item, ...]
  expected: int
  missing: tuple[str, ...] = ()
  histogram: Mapping[str, int] = dataclasses.field(default_factory=dict)
  classes: tuple[str, ...] = ()


def check_missing(
  place: str, missing: Sequence[str], expected: int, allow_missing: bool, hint: str = ""
) -> None:
  """Refuses a data set that lacks videos, unless that was allowed.

  Raises:
    DataError: says how many are missing, and the first few; or none is there at all, which is not
      allowed either.
  """
  if len(missing) == expected:
    raise errors.DataError(f"{place}: none of the {expected} videos is there{hint}")
  if missing and not allow_missing:
    raise errors.DataError(
      f"{place}: {listed(missing)} of {expected} are missing{hint}; a part of the real set gives"
      " other numbers, allow_missing=True takes it all the same and records how many"
    )


def histogram(labels: Iterable[str | None]) -> dict[str, int]:
  """Class -> number of videos, by name; those without a class are not counted."""
  counts: dict[str, int] = {}
  for label in labels:
    if label is not None:
      counts[label] = counts.get(label, 0) + 1
  return dict(sorted(counts.items()))
