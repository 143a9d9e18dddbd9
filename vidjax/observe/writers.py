"""Where a run's numbers go: `metrics.jsonl`, TensorBoard and copies elsewhere, behind one writer.

`metrics.jsonl` has one JSON object for each logged step. Rows are only ever added; a run that
resumes from an older step logs some steps again, and the last row of a step wins (`read_metrics`).
NaN and infinity become null.

A local file is flushed at every row, so that a killed run loses none. An object store cannot
append: there, the rows stay in memory and the whole object is rewritten every `UPLOAD_SECONDS`
(ten thousand rows are a few megabytes), so that a killed run loses the last minute of rows. It logs
most of them again, when it resumes from its checkpoint. TensorBoard's event files are written
locally and uploaded at the same moments.
"""

from collections.abc import Iterator, Mapping, Sequence
import io
import json
import math
import tempfile
import time
from typing import Any, Protocol

from absl import logging
import numpy as np
from tensorboardX import SummaryWriter

from vidjax import storage

UPLOAD_SECONDS = 60.0
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
    self._path = storage.Path(workdir) / _NAME
    self._events_path = storage.Path(workdir) / _EVENTS
    self._uploaded = time.monotonic()
    _drop_torn_line(self._path)
    if storage.is_local(workdir):
      self._path.parent.mkdir(parents=True, exist_ok=True)
      self._file, self._staging = self._path.open("a"), None
      events = str(self._events_path)
    else:
      self._staging = tempfile.TemporaryDirectory(prefix="vidjax-")
      self._file = io.StringIO(storage.read_text(self._path) if self._path.exists() else "")
      self._file.seek(0, io.SEEK_END)
      events = self._staging.name
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
    line = json.dumps(row, allow_nan=False) + "\n"
    with storage.writing(self._path):
      self._file.write(line)
      self._file.flush()
    del row["attempt"], row["step"]
    numbers = dict(_numbers("", row))
    for name, number in numbers.items():
      self._events.add_scalar(name, number, int(step))
    for copy in self._copies:
      copy.write(int(step), numbers)
    if self._staging is not None and time.monotonic() - self._uploaded > UPLOAD_SECONDS:
      try:
        self.flush()
      except OSError as exc:  # numbers may wait for the next upload; the run must not
        logging.warning("metrics could not be uploaded, rows are kept: %s", exc)
        self._uploaded = time.monotonic()

  def flush(self) -> None:
    """Makes all rows so far visible to readers."""
    self._events.flush()
    self._upload()

  def close(self) -> None:
    """Flushes and releases files, then the copies, which may take their time."""
    self._events.close()
    self._upload()
    self._file.close()
    if self._staging is not None:
      self._staging.cleanup()
    for copy in self._copies:
      copy.close()

  def _upload(self) -> None:
    if self._staging is not None:
      assert isinstance(self._file, io.StringIO)
      storage.write_text(self._path, self._file.getvalue())
      storage.publish(self._staging.name, self._events_path)
    self._uploaded = time.monotonic()

  def __enter__(self) -> "MetricsWriter":
    return self

  def __exit__(self, *exc_info) -> None:
    self.close()


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
  lines = storage.read_text(file).split("\n")
  for number, line in enumerate(lines[:-1], 1):  # what follows the last newline is torn
    try:
      row = json.loads(line)
      rows[row["step"]] = row
    except (ValueError, KeyError, TypeError) as exc:
      raise ValueError(f"{file} line {number} is not a row of metrics: {exc}") from exc
  return [rows[step] for step in sorted(rows)]


def _drop_torn_line(path: storage.Path) -> None:
  """Cuts off what a killed run left after the last whole line."""
  if not path.exists():
    return
  content = storage.read_bytes(path)
  whole = content[: content.rfind(b"\n") + 1]
  if len(whole) < len(content):
    storage.write_bytes(path, whole)


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
