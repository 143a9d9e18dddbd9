"""Batches on the mesh, ahead of the step that reads them: joins `vidjax.data` and the devices."""

from collections.abc import Iterator
import dataclasses
import queue
import threading
from typing import Any

import jax
import numpy as np

from vidjax.data.loader import BatchIterator

_AHEAD = 2  # batches on the devices that no step has asked for yet: one arriving, one there


@dataclasses.dataclass(frozen=True)
class Fed:
  """One batch.

  Attributes:
    arrays: what the step reads, sharded over the mesh.
    notes: the rest of the host's batch: ids, captions, the hash of the global batch.
  """

  arrays: dict[str, Any]
  notes: dict[str, Any]


class Feed(Iterator[Fed]):
  """Moves batches to the mesh in a thread of its own; a context manager that ends the loader.

  It begins when it is made, so that the first batch decodes while the step compiles.

  Args:
    batches: of this host.
    sharding: of their arrays.
  """

  def __init__(self, batches: BatchIterator, sharding: jax.sharding.Sharding):
    self._batches, self._sharding = batches, sharding
    # No `queue.Queue`: its lock may be held by a thread that has no core just then, and the loop
    # would wait for that although a batch is there.
    self._ready: queue.SimpleQueue[Fed | BaseException] = queue.SimpleQueue()
    self._places: queue.SimpleQueue[None] = queue.SimpleQueue()  # free ones among those that wait
    for _ in range(_AHEAD - 1):
      self._places.put(None)
    self._closed = threading.Event()
    self._thread = threading.Thread(target=self._run, name="feed", daemon=True)
    self._thread.start()

  def __next__(self) -> Fed:
    """Returns the next batch.

    Raises:
      DataError: see `BatchIterator.__next__`.
    """
    fed = self._ready.get()
    if isinstance(fed, BaseException):
      self._ready.put(fed)  # for whoever asks again
      raise fed
    self._places.put(None)
    return fed

  def close(self) -> None:
    """Ends the thread and the decoding processes."""
    self._closed.set()
    self._batches.close()
    self._thread.join(timeout=10)

  def __enter__(self) -> "Feed":
    return self

  def __exit__(self, *_) -> None:
    self.close()

  def _run(self) -> None:
    while not self._closed.is_set():
      try:
        fed: Fed | BaseException = self._place(next(self._batches))
      except BaseException as error:
        fed = error
      self._put(fed)
      if isinstance(fed, BaseException):
        return

  def _put(self, fed: Fed | BaseException) -> None:
    while not self._closed.is_set():
      try:
        self._places.get(timeout=0.2)
      except queue.Empty:
        continue
      return self._ready.put(fed)

  def _place(self, batch: dict[str, Any]) -> Fed:
    arrays, notes = {}, {}
    for name, value in batch.items():
      if isinstance(value, dict):  # pictures beside the videos
        inner = self._place(value)
        arrays[name], notes[name] = inner.arrays, inner.notes
      elif isinstance(value, np.ndarray):
        arrays[name] = jax.make_array_from_process_local_data(self._sharding, value)
      else:
        notes[name] = value
    return Fed(arrays, notes)
