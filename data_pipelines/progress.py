"""Progress of a run in this process: a bar on a terminal, plain lines otherwise.

Stages call `step` and `note`; in workers of a cluster nobody listens and nothing happens.
"""

from collections.abc import Iterator
import contextlib
import sys
import threading

from rich import progress as rich_progress

_lock = threading.Lock()
_listener: "_Bar | _Lines | None" = None


@contextlib.contextmanager
def shown() -> Iterator[None]:
  """Shows what the stages tell, for the length of the block."""
  global _listener
  listener = _Bar() if sys.stderr.isatty() else _Lines()
  _listener = listener
  try:
    yield
  finally:
    _listener = None
    listener.close()


def start(stage: str, total: int) -> None:
  """Announces a stage of `total` steps."""
  with _lock:
    if _listener:
      _listener.start(stage, total)


def step(stage: str, text: str) -> None:
  """One step of a stage is done; `text` says which."""
  with _lock:
    if _listener:
      _listener.step(stage, text)


def note(text: str) -> None:
  """Says something beside the steps."""
  with _lock:
    if _listener:
      _listener.note(text)


class _Bar:
  def __init__(self):
    columns = (
      rich_progress.TextColumn("{task.description:<8}"),
      rich_progress.BarColumn(),
      rich_progress.MofNCompleteColumn(),
      rich_progress.TimeElapsedColumn(),
      rich_progress.TextColumn("{task.fields[text]}"),
    )
    self._progress = rich_progress.Progress(*columns)
    self._progress.start()
    self._tasks: dict[str, rich_progress.TaskID] = {}

  def start(self, stage: str, total: int | None) -> None:
    if stage not in self._tasks:
      self._tasks[stage] = self._progress.add_task(stage, total=total, text="")

  def step(self, stage: str, text: str) -> None:
    if stage not in self._tasks:
      self.start(stage, None)
    self._progress.update(self._tasks[stage], advance=1, text=text)

  def note(self, text: str) -> None:
    self._progress.console.print(text, markup=False, highlight=False)

  def close(self) -> None:
    self._progress.stop()


class _Lines:
  def __init__(self):
    self._totals: dict[str, int] = {}
    self._done: dict[str, int] = {}

  def start(self, stage: str, total: int) -> None:
    self._totals[stage] = total

  def step(self, stage: str, text: str) -> None:
    self._done[stage] = self._done.get(stage, 0) + 1
    total = self._totals.get(stage, 0)
    count = f"{self._done[stage]}/{total}" if total else str(self._done[stage])
    print(f"{stage} {count} {text}", file=sys.stderr, flush=True)

  def note(self, text: str) -> None:
    print(text, file=sys.stderr, flush=True)

  def close(self) -> None:
    pass
