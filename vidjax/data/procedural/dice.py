"""Random numbers that are functions of their names.

As in `vidjax.data.order` the arithmetic is spelled out (blake2b, bits to fractions) and not taken
from a library's generator: the clips of a run that lasts months, and those of a study that is
repeated years later, must survive its upgrades.
"""

from collections.abc import Sequence
import hashlib
from typing import TypeVar

import numpy as np

_T = TypeVar("_T")
_BLOCK = 64  # bytes of one hash


class Dice:
  """A row of draws that `names` alone decide: the same in every process, on every machine.

  What is drawn first must be drawn first for ever: new properties of the world get dice of their
  own, or are drawn last.
  """

  def __init__(self, *names: int | str):
    self._key = "/".join(str(name) for name in names).encode()
    self._blocks = 0
    self._rest: list[float] = []

  def bytes(self, count: int) -> np.ndarray:
    """Draws (count,) uint8."""
    blocks = range(self._blocks, self._blocks + -(-count // _BLOCK))
    self._blocks = blocks.stop
    hashes = (hashlib.blake2b(self._key + b"/%d" % block).digest() for block in blocks)
    return np.frombuffer(b"".join(hashes), np.uint8)[:count]

  def fractions(self, count: int) -> np.ndarray:
    """Draws (count,) float64, uniform in [0, 1)."""
    return (self.bytes(8 * count).view("<u8") >> np.uint64(11)) / 2.0**53

  def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
    """Draws a number in [low, high)."""
    if not self._rest:
      self._rest = self.fractions(_BLOCK // 8).tolist()
    return low + (high - low) * self._rest.pop(0)

  def sign(self) -> int:
    """Draws -1 or 1."""
    return -1 if self.uniform() < 0.5 else 1

  def choice(self, options: Sequence[_T]) -> _T:
    """Draws one of `options`, all as likely."""
    return options[int(self.uniform() * len(options))]
