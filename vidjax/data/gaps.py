"""Stretches of the sample stream that training leaves out, since it failed on them.

Samples are counted as they are trained on; the stream from which they come is counted apart, and is
ahead by what was left out. So the state counts what it has seen, and where it goes on in the stream
is a function of that number and of the list of gaps alone.
"""

from collections.abc import Sequence
import dataclasses


@dataclasses.dataclass(frozen=True)
class Gap:
  """Samples of the stream that are left out.

  Attributes:
    at: samples trained on before it.
    samples: how many are left out.
  """

  at: int
  samples: int


def stream_index(trained: int, gaps: Sequence[Gap]) -> int:
  """Index in the stream of the sample that comes after `trained` samples."""
  return trained + sum(gap.samples for gap in gaps if gap.at <= trained)
