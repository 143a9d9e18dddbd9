"""A file of lines that grows, on a disk or in an object store: one JSON object a line.

On a disk a line is there as soon as it is written, so that a killed process loses none. An object
store cannot append: there, the lines stay in memory and the whole object is rewritten from time to
time (ten thousand lines are a few megabytes), so that a killed process loses those since then.
"""

from collections.abc import Callable, Iterator
import io
import json
import time
from typing import Any

from absl import logging

from vidjax import storage

UPLOAD_SECONDS = 60.0


class Journal:
  """Adds lines to a file; a process that goes on with it cuts off what a killed one left torn.

  Args:
    path: of the file; the folders above it are made.

  Attributes:
    path: as given.
    uploads: whether lines have to be uploaded to be seen.
  """

  def __init__(self, path: storage.PathLike):
    self.path = storage.Path(path)
    self.uploads = not storage.is_local(path)
    self._uploaded = time.monotonic()
    _drop_torn_line(self.path)
    if self.uploads:
      self._file = io.StringIO(storage.read_text(self.path) if self.path.exists() else "")
      self._file.seek(0, io.SEEK_END)
    else:
      with storage.writing(path):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("a")

  def write(self, row: dict[str, Any]) -> None:
    """Adds a line: JSON values by name; NaN is refused, since JSON has none.

    Raises:
      NoSpaceError: the disk is full.
    """
    line = json.dumps(row, allow_nan=False) + "\n"
    with storage.writing(self.path):
      self._file.write(line)
      self._file.flush()

  def upload(self) -> None:
    """Makes all lines so far visible; on a disk they are."""
    if self.uploads:
      assert isinstance(self._file, io.StringIO)
      storage.write_text(self.path, self._file.getvalue())
    self._uploaded = time.monotonic()

  def upload_if_due(self, upload: Callable[[], None] | None = None) -> None:
    """Uploads every `UPLOAD_SECONDS`; where that fails, lines are kept until the next time.

    Args:
      upload: what to call instead of `upload` (and what calls it), if more goes with the lines.
    """
    if not self.uploads or time.monotonic() - self._uploaded <= UPLOAD_SECONDS:
      return
    try:
      (upload or self.upload)()
    except OSError as exc:  # lines may wait; what they tell of must not
      logging.warning("%s could not be uploaded, lines are kept: %s", self.path, exc)
      self._uploaded = time.monotonic()

  def close(self) -> None:
    """Uploads the last lines and releases the file."""
    try:
      self.upload()
    finally:
      self._file.close()


def read(path: storage.PathLike) -> Iterator[tuple[int, dict[str, Any]]]:
  """The lines of a journal, each with its number from 1; a torn last one is left out.

  Raises:
    ValueError: another line is no JSON object; the message names it.
  """
  for number, line in enumerate(storage.read_text(path).split("\n")[:-1], 1):
    try:
      row = json.loads(line)
      if not isinstance(row, dict):
        raise ValueError("no JSON object")
    except ValueError as exc:
      raise ValueError(f"{path} line {number} is broken: {exc}") from exc
    yield number, row


def _drop_torn_line(path: storage.Path) -> None:
  """Cuts off what a killed process left after the last whole line."""
  if not path.exists():
    return
  content = storage.read_bytes(path)
  whole = content[: content.rfind(b"\n") + 1]
  if len(whole) < len(content):
    storage.write_bytes(path, whole)
