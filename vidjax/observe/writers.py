"""Where a run's numbers go: `metrics.jsonl`, TensorBoard and copies elsewhere, behind one writer.

`metrics.jsonl` has one JSON object for each logged step. Rows are only ever added; a run that
resumes from an older step logs some steps again, and the last row of a step wins (`read_metrics`).
NaN and infinity become null.

A killed run loses no row on a disk, and the last minute of rows in an object store
(`vidjax.observe.journal`). It logs most of them again, when it resumes from its checkpoint.
TensorBoard's event files are written locally and uploaded at the same moments; they also hold
texts and pictures (`vidjax.dashboard`).
"""

from collections.abc import Iterator, Mapping, Sequence
import math
import tempfile
from typing import Any, Protocol

import numpy as np

from vidjax import storage
from vidjax.observe import journal
from vidjax.observe.event_files import SummaryWriter

_NAME = "metrics.jsonl"
_EVENTS = "tensorboard"


class Copy(Protocol):
  """Another place where numbers go; what fails there is its own affair."""

  def write(self, step: int, numbers: Mapping[str, float]) -> None:
    """Takes the numbers of one step, by their flat names."""

  def close(self) -> None:
    """Takes no more."""


class MetricsWriter:
  """Writes the metrics of one attempt of a run; only the first process of a run makes one.

  Args:
    workdir: of the run.
    attempt: number of this attempt; a column of each row.
    copies: where the numbers go, too.
  """

  def __init__(self, workdir: storage.PathLike, attempt: int, copies: Sequence[Copy] = ()):
    self.attempt, self._copies = attempt, copies
    self._events_path = storage.Path(workdir) / _EVENTS
    self._journal = journal.Journal(storage.Path(workdir) / _NAME)
    if self._journal.uploads:
      self._staging = tempfile.TemporaryDirectory(prefix="vidjax-")
      events = self._staging.name
    else:
      self._staging, events = None, str(self._events_path)
    # tensorboardX adds host and time to the name: attempts do not overwrite each other.
    self._events = SummaryWriter(events, filename_suffix=f".{attempt}", flush_secs=10)

  def write(self, step: int, metrics: Mapping[str, Any]) -> None:
    """Adds the row of one step.

    Args:
      step: number of updates completed.
      metrics: numbers, text, None, lists or mappings of these by name (numpy and 0-d arrays are
        fine). Numbers go to TensorBoard and the copies, too; what is in a list or mapping has the
        flat name `name/0` or `name/key` there.
    """
    row = {"attempt": self.attempt, "step": int(step)} | {k: _plain(v) for k, v in metrics.items()}
    self._journal.write(row)
    del row["attempt"], row["step"]
    numbers = dict(_numbers("", row))
    for name, number in numbers.items():
      self._events.add_scalar(name, number, int(step))
    for copy in self._copies:
      copy.write(int(step), numbers)
    self._journal.upload_if_due(self.flush)

  def scalars(self, step: int, numbers: Mapping[str, float]) -> None:
    """Adds numbers of the run so far, by flat names: to TensorBoard alone."""
    for name, number in numbers.items():
      self._events.add_scalar(name, number, int(step))

  def text(self, name: str, markdown: str) -> None:
    """Adds a text of this attempt: to TensorBoard alone, at the attempt's number."""
    self._events.add_text(name, markdown, self.attempt)

  def image(self, name: str, image_HWC: np.ndarray, step: int) -> None:
    """Adds a picture, (H, W, 3) uint8: to TensorBoard alone."""
    self._events.add_image(name, image_HWC, int(step), dataformats="HWC")

  def flush(self) -> None:
    """Makes all rows so far visible to readers."""
    self._events.flush()
    self._journal.upload()
    self._publish_events()

  def close(self) -> None:
    """Flushes and releases files, then the copies, which may take their time."""
    self._events.close()
    self._journal.close()
    self._publish_events()
    if self._staging is not None:
      self._staging.cleanup()
    for copy in self._copies:
      copy.close()

  def _publish_events(self) -> None:
    if self._staging is not None:
      storage.publish(self._staging.name, self._events_path)

  def __enter__(self) -> "MetricsWriter":
    return self

  def __exit__(self, *exc_info) -> None:
    self.close()


class Discarded:
  """Takes what a `MetricsWriter` takes, on the processes of a run that write nothing."""

  def write(self, step: int, metrics: Mapping[str, Any]) -> None:
    """Drops the row: the first process has the same."""

  def __enter__(self) -> "Discarded":
    return self

  def __exit__(self, *exc_info) -> None:
    pass


def read_metrics(path: storage.PathLike) -> list[dict[str, Any]]:
  """Reads the metrics of a run: one row for each step, ascending; the last row of a step wins.

  Args:
    path: a workdir, or a `metrics.jsonl`.

  Raises:
    FileNotFoundError: there are no metrics.
    ValueError: a line other than the last is broken; the message names it.
  """
  given = storage.Path(path)
  file = given if given.name == _NAME else given / _NAME
  if not file.exists():
    raise FileNotFoundError(f"no metrics: {file} does not exist")
  rows = {}
  for number, row in journal.read(file):
    if "step" not in row:
      raise ValueError(f"{file} line {number} is not a row of metrics: it names no step")
    rows[row["step"]] = row
  return [rows[step] for step in sorted(rows)]


def _numbers(name: str, value: Any) -> Iterator[tuple[str, float]]:
  """The numbers in a plain value, by flat name."""
  if isinstance(value, list):
    value = dict(enumerate(value))
  if isinstance(value, dict):
    for key, inner in value.items():
      yield from _numbers(f"{name}/{key}" if name else str(key), inner)
  elif isinstance(value, (int, float)):
    yield name, value


def _plain(value: Any) -> Any:
  """JSON value of a number, array or text; null for NaN and infinity."""
  if value is None or isinstance(value, (str, bool)):
    return value
  if isinstance(value, Mapping):
    return {str(k): _plain(v) for k, v in value.items()}
  if isinstance(value, (list, tuple)):
    return [_plain(v) for v in value]
  if not isinstance(value, (int, float)):
    value = np.asarray(value).tolist()
    if isinstance(value, list):
      return [_plain(v) for v in value]
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value
