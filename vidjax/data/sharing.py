"""Large arrays from decoding processes to the trainer, through shared memory that is used again.

Fresh shared memory costs more than the copy into it: the system finds and clears its pages, and
takes them back afterwards. Here a process keeps its segments. A byte at the start of each says
whether the trainer still has an array in it; when the last view of that array is gone, the trainer
clears the byte, and the process may write there again. Segments are removed by the trainer, and by
Python's resource tracker where the trainer is killed.
"""

from collections.abc import Callable
import contextlib
import dataclasses
import itertools
from multiprocessing import shared_memory
import secrets
from typing import Any
import weakref

import numpy as np

_HEADER = 64  # bytes; arrays begin at the next cache line
_SMALLEST = 2**16  # bytes that are worth it
_FREE, _TAKEN = 0, 1

_worker = 0  # number of this decoding process


def begin_worker(worker: int) -> None:
  """Says which decoding process this is."""
  global _worker
  _worker = worker


class _Segment(shared_memory.SharedMemory):
  """Does not complain when it ends before the arrays in it do: they keep the memory mapped."""

  @property
  def memory(self) -> memoryview:
    """All of it, the header included."""
    assert self.buf is not None  # it is until `close`, which nobody calls
    return self.buf

  def __del__(self):
    with contextlib.suppress(BufferError):
      super().__del__()


@dataclasses.dataclass(frozen=True)
class _Sent:
  """An array in a segment; not a pytree, so that nobody looks for arrays inside."""

  name: str
  shape: tuple[int, ...]
  dtype: str


class Sender:
  """Puts the large arrays of nested dicts into segments of the process that it runs in.

  Args:
    token: names the segments of one start of the processes.
  """

  def __init__(self, token: str):
    self._token = token
    self._segments: list[_Segment] = []

  def __reduce__(self) -> tuple:
    return Sender, (self._token,)

  def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
    """`batch` with a note in place of each large array."""
    return _map(self._send, batch)

  def _send(self, value: Any) -> Any:
    if not isinstance(value, np.ndarray) or value.nbytes < _SMALLEST:
      return value
    segment = next((s for s in self._segments if self._fits(s, value.nbytes)), None)
    if segment is None:
      name = _name(self._token, _worker, len(self._segments))
      segment = _Segment(name, create=True, size=_HEADER + value.nbytes)
      self._segments.append(segment)
    np.copyto(_array(segment, value.shape, value.dtype), value)
    segment.memory[0] = _TAKEN
    return _Sent(segment.name, value.shape, value.dtype.str)

  def _fits(self, segment: _Segment, size: int) -> bool:
    return segment.memory[0] == _FREE and segment.size >= _HEADER + size


class Receiver:
  """The trainer's end.

  Attributes:
    token: for the `Sender` of the processes.
  """

  def __init__(self, num_workers: int):
    self.token = f"vidjax-{secrets.token_hex(8)}"
    self._num_workers = num_workers
    self._segments: dict[str, _Segment] = {}

  def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
    """`batch` with its arrays, which stay valid for as long as anybody has them."""
    return _map(self._receive, batch)

  def close(self) -> None:
    """Removes the segments; call it when the processes are gone. Arrays stay valid."""
    for worker in range(self._num_workers):
      for number in itertools.count():
        name = _name(self.token, worker, number)
        try:
          segment = self._segments.pop(name, None) or _Segment(name)
        except FileNotFoundError:
          break
        segment.unlink()

  def _receive(self, value: Any) -> Any:
    if not isinstance(value, _Sent):
      return value
    segment = self._segments.get(value.name)
    if segment is None:
      segment = self._segments[value.name] = _Segment(value.name)
    array = _array(segment, value.shape, np.dtype(value.dtype))
    weakref.finalize(array, _free, segment).atexit = False
    return array


def _free(segment: _Segment) -> None:
  segment.memory[0] = _FREE


def _array(segment: _Segment, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
  return np.ndarray(shape, dtype, buffer=segment.memory, offset=_HEADER)


def _name(token: str, worker: int, number: int) -> str:
  return f"{token}-{worker}-{number}"


def _map(function: Callable[[Any], Any], batch: dict[str, Any]) -> dict[str, Any]:
  return {
    key: _map(function, value) if isinstance(value, dict) else function(value)
    for key, value in batch.items()
  }
