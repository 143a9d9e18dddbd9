"""A clip on its way through the stations of the graph, and the clips of one source in portions."""

from collections.abc import Iterable, Iterator
import contextlib
import dataclasses
from typing import Any

import numpy as np

from data_pipelines import faults, select, tables
from vidjax import storage

# Clips of one source that are looked at or captioned at once, so that a long film fits in memory.
_CLIPS_AT_ONCE = 32
# What a source raises that breaks its reader, or that has gone since it was analysed.
LOST = (faults.FileFaultError, FileNotFoundError, PermissionError)


@dataclasses.dataclass(frozen=True)
class Row:
  """A clip on its way through the stations.

  Attributes:
    clip: With what is known so far.
    hash: Its perceptual hash.
    embedding: (3, X) float32 of its three frames; None without CLIP.
  """

  clip: tables.Clip
  hash: str = ""
  embedding: np.ndarray | None = None


def decided(row: Row, reasons: Iterable[str]) -> Row:
  """The row with further reasons to drop its clip."""
  reasons = (*row.clip.drop_reasons, *reasons)
  return dataclasses.replace(row, clip=select.decided(row.clip, reasons))


def portions(rows: Iterable[Row]) -> Iterator[list[Row]]:
  """The rows of one source in order, a few dozen at a time."""
  ordered = sorted(rows, key=lambda row: row.clip.start_frame)
  for start in range(0, len(ordered), _CLIPS_AT_ONCE):
    yield ordered[start : start + _CLIPS_AT_ONCE]


class Copy:
  """A local copy of a source, made when it is first asked for."""

  def __init__(self, source: Any):
    self._source = source
    self._stack = contextlib.ExitStack()
    self._path = ""

  def __enter__(self) -> "Copy":
    return self

  def __exit__(self, *_: object) -> None:
    self._stack.close()

  def path(self) -> str:
    """Where it is."""
    if not self._path:
      self._path = self._stack.enter_context(storage.local_copy(self._source))
    return self._path
