"""A list of videos with what is known of them: CSV, JSON lines or Parquet.

Laid out as Hugging Face's `videofolder`: the column `file_name` names a file relative to the folder
of the list. `text`, `caption` and `caption_NAME` are captions, by these names; columns of numbers
go into the scores of the file's clips; all others are left alone.
"""

from collections.abc import Mapping
import dataclasses
import math
from typing import Any

from vidjax import errors, storage
from vidjax.data.sources import media, table

SUFFIXES = (".csv", ".jsonl", ".parquet")
_FILE = "file_name"


@dataclasses.dataclass(frozen=True)
class Known:
  """What a list says of a file: captions by name, numbers by name."""

  captions: Mapping[str, str] = dataclasses.field(default_factory=dict)
  scores: Mapping[str, float] = dataclasses.field(default_factory=dict)


def is_manifest(path: Any) -> bool:
  """Whether a path is that of a list, by its suffix."""
  return media.suffix(str(path)) in SUFFIXES


def read(path: Any) -> dict[str, Known]:
  """Reads a list; files are in its order.

  Args:
    path: Of the list, local or remote.

  Raises:
    DataError: it cannot be read, is empty or has no column `file_name`, names a file twice or one
      that is not below its folder.
  """
  known: dict[str, Known] = {}
  for number, row in enumerate(table.read(storage.Path(path))):
    file = row.get(_FILE)
    if not isinstance(file, str) or not file:
      raise errors.DataError(f"{path}: row {number} names no file in the column {_FILE!r}")
    storage.check_below(file, f"{path}, row {number},", errors.DataError)
    if file in known:
      raise errors.DataError(f"{path}: row {number} names {file} again")
    known[file] = _known(row)
  if not known:
    raise errors.DataError(f"{path} has no rows")
  return known


def _known(row: Mapping[str, Any]) -> Known:
  captions, scores = {}, {}
  for column, value in row.items():
    if column in ("text", "caption") or column.startswith("caption_"):
      if isinstance(value, str) and value.strip():
        captions[column.removeprefix("caption_")] = value.strip()
    elif column != _FILE and (number := _number(value)) is not None:
      scores[column] = number
  return Known(captions, scores)


def _number(value: Any) -> float | None:
  """Of a cell; those of CSV are all texts."""
  if isinstance(value, bool) or not isinstance(value, int | float | str):
    return None
  try:
    number = float(value)
  except ValueError:
    return None
  return number if math.isfinite(number) else None
