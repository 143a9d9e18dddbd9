"""Where the time of a run goes: `goodput.jsonl`, one object for each phase of each attempt."""

from collections.abc import Callable, Iterator
import contextlib
import json
import time
from types import TracebackType

import jax

from vidjax import storage


class Ledger:
  """Sums wall seconds by phase and appends them to `goodput.jsonl` when the attempt ends.

  Phases nest: the time of an inner phase does not count for the outer one.

  Args:
    root: workdir.
    attempt: number of this attempt.
    watched: context for a phase, in which somebody else watches it, too.
  """

  def __init__(
    self,
    root: storage.Path,
    attempt: int,
    watched: Callable[[str], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
  ):
    self._watched = watched
    self._path, self._attempt = root / "goodput.jsonl", attempt
    self._seconds: dict[str, float] = {}
    self._inner: list[float] = []
    self._began = time.time()

  def __enter__(self) -> "Ledger":
    return self

  def __exit__(
    self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
  ) -> None:
    if jax.process_index() != 0:
      return
    row = {
      "attempt": self._attempt,
      "began": self._began,
      "ended": time.time(),
      "seconds": {name: round(value, 3) for name, value in self._seconds.items()},
      "outcome": "done" if error is None else type(error).__name__,
    }
    before = storage.read_text(self._path) if self._path.exists() else ""
    storage.write_text(self._path, before + json.dumps(row) + "\n")

  @contextlib.contextmanager
  def phase(self, name: str) -> Iterator[None]:
    """Counts the time inside as `name`."""
    began = time.perf_counter()
    self._inner.append(0.0)
    try:
      with self._watched(name):
        yield
    finally:
      total = time.perf_counter() - began
      own = total - self._inner.pop()
      self._seconds[name] = self._seconds.get(name, 0.0) + own
      if self._inner:
        self._inner[-1] += total
