"""Taking turns by weight: which of several streams a number belongs to, and which one of it.

Numbers 0, 1, 2, ... are dealt out to parts so that after n of them part k has had n w_k, rounded,
whatever n is (Bresenham's line between two parts; among more, each takes its turns of what those
before it have left). It has no state, so any number can be asked for at any time by anybody.
"""

from collections.abc import Sequence
import dataclasses
from fractions import Fraction

_LARGEST_DENOMINATOR = 10**12


@dataclasses.dataclass(frozen=True)
class Turns:
  """Turns of several parts.

  Attributes:
    shares: of each part but the last, its share of what the parts before it leave.
  """

  shares: tuple[Fraction, ...]

  def __call__(self, number: int) -> tuple[int, int]:
    """The part that `number` falls to, and how many numbers before it fell to that part."""
    for part, share in enumerate(self.shares):
      before = _taken(number, share)
      if _taken(number + 1, share) > before:
        return part, before
      number -= before
    return len(self.shares), number

  def count(self, part: int, numbers: int) -> int:
    """How many of the first `numbers` fall to `part`."""
    for share in self.shares[:part]:
      numbers -= _taken(numbers, share)
    return numbers if part == len(self.shares) else _taken(numbers, self.shares[part])


def turns(weights: Sequence[float]) -> Turns:
  """Turns of parts with these weights, which need not sum to 1.

  Raises:
    ValueError: there are none, or one is not positive.
  """
  if not weights or any(not weight > 0 for weight in weights):
    raise ValueError(f"weights {list(weights)}: give at least one, and only positive ones")
  exact = [Fraction(weight).limit_denominator(_LARGEST_DENOMINATOR) for weight in weights]
  if not all(exact):
    raise ValueError(f"weights {list(weights)}: the smallest that counts is 1e-12")
  return Turns(tuple(exact[i] / sum(exact[i:]) for i in range(len(exact) - 1)))


def _taken(numbers: int, share: Fraction) -> int:
  """Rounded `numbers * share`."""
  return (2 * numbers * share.numerator + share.denominator) // (2 * share.denominator)
