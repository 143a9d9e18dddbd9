"""What a person sees while a command runs: a bar on a terminal, plain lines otherwise."""

import sys
import time
from types import TracebackType

from rich import console as rich_console
from rich import progress as rich_progress

# A line per this many seconds where there is no terminal to redraw.
_LINE_SECONDS = 10.0


def line(text: str) -> None:
  """Prints one line at once."""
  print(text, flush=True)


class Progress:
  """Progress of one task, as a context manager.

  Args:
    name: what is under way.
    total: number of units.
    initial: units done before (a resumed run).
  """

  def __init__(self, name: str, total: int, initial: int = 0):
    self._name, self._total, self._initial = name, total, initial
    self._terminal = sys.stderr.isatty()
    self._said = self._began = time.monotonic()
    if self._terminal:
      self._bar = rich_progress.Progress(
        rich_progress.TextColumn("{task.description:<16}"),
        rich_progress.BarColumn(),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TimeElapsedColumn(),
        rich_progress.TimeRemainingColumn(),
        rich_progress.TextColumn("{task.fields[note]}"),
        console=rich_console.Console(stderr=True),
      )
      self._task = self._bar.add_task(name, total=total, completed=initial, note="")

  def __enter__(self) -> "Progress":
    if self._terminal:
      self._bar.start()
    return self

  def __exit__(
    self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
  ) -> None:
    if self._terminal:
      self._bar.stop()

  def update(self, done: int, note: str = "") -> None:
    """Says that `done` of the total are done; `note` is a short text such as the loss."""
    if self._terminal:
      self._bar.update(self._task, completed=done, note=note)
      return
    now = time.monotonic()
    if done == self._total or now - self._said >= _LINE_SECONDS:
      self._said = now
      left = (now - self._began) / max(1, done - self._initial) * (self._total - done)
      print(
        f"{self._name}: {done}/{self._total} {note} ({left:.0f} s left)",
        file=sys.stderr,
        flush=True,
      )
