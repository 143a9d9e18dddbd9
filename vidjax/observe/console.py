"""What a person sees while a command runs: a bar on a terminal, plain lines otherwise."""

from collections.abc import Iterator, Sequence
import sys
import time
from types import TracebackType
from typing import TypeVar

from rich import console as rich_console
from rich import progress as rich_progress
from rich import table as rich_table
from rich import text as rich_text

from vidjax import redaction

T = TypeVar("T")

# A line per this many seconds where there is no terminal to redraw.
_LINE_SECONDS = 10.0


_muted = False


def mute() -> None:
  """Says nothing from now on, since another process of the run does."""
  global _muted
  _muted = True


def line(text: str) -> None:
  """Prints one line at once."""
  if not _muted:
    print(redaction.redact(text), flush=True)


def table(title: str, header: Sequence[str] | None, rows: Sequence[Sequence[str]]) -> None:
  """A table: drawn on a terminal, plain columns elsewhere."""
  terminal = rich_console.Console()
  if terminal.is_terminal:
    drawn = rich_table.Table(title=title, show_header=header is not None)
    for name in header or ("", ""):
      drawn.add_column(name)
    for row in rows:
      drawn.add_row(*map(rich_text.Text, row))  # brackets of shapes are no markup
    terminal.print(drawn)
    return
  lines = ([header] if header else []) + list(rows)
  widths = [max(len(row[column]) for row in lines) for column in range(len(lines[0]))]
  for row in lines:
    line("  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip())


class Progress:
  """Progress of one task, as a context manager.

  Args:
    name: what is under way.
    total: number of units.
    initial: units done before (a resumed run).
  """

  def __init__(self, name: str, total: int, initial: int = 0):
    self._name, self._total = name, total
    self._terminal = sys.stderr.isatty() and not _muted
    self._said = time.monotonic()
    self._first: tuple[float, int] | None = None  # when the first units were done: compiled by then
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

  def update(self, done: int, note: str = "", total: int = 0) -> None:
    """Says that `done` of the total are done; `note` is a short text such as the loss.

    `total` is another number of units than was thought at first.
    """
    self._total = total or self._total
    if self._terminal:
      self._bar.update(self._task, completed=done, total=self._total, note=note)
      return
    now = time.monotonic()
    self._first = self._first or (now, done)
    if (done == self._total or now - self._said >= _LINE_SECONDS) and not _muted:
      self._said = now
      began, units = now - self._first[0], done - self._first[1]
      left = f"({began / units * (self._total - done):.0f} s left)" if units else ""
      text = " ".join(filter(None, (f"{self._name}: {done}/{self._total}", note, left)))
      print(text, file=sys.stderr, flush=True)


def track(items: Sequence[T], name: str) -> Iterator[T]:
  """The items, with their progress where there are several."""
  if len(items) < 2:
    yield from items
    return
  with Progress(name, total=len(items)) as progress:
    for done, item in enumerate(items, 1):
      yield item
      progress.update(done)
