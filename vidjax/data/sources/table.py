"""A table beside media files: which files, with which captions.

It is laid out as Hugging Face's `imagefolder` and `videofolder`: the column `file_name` names a
file relative to the folder, the other columns are what is known of it.
"""

import collections
from collections.abc import Callable, Mapping, Sequence
import csv
import io
import json
import math
from typing import Any

from vidjax import errors, storage
from vidjax.data.sources import folder as folders
from vidjax.data.sources import index, media, sidecar

_FILE = "file_name"
_DEFAULT = {"text": "text"}


def is_table(name: str) -> bool:
  """Whether a file of this name is taken for the table."""
  return name in ("metadata.jsonl", "metadata.csv") or name.endswith(".parquet")


def units(
  folder: Any,
  tables: Sequence[str],
  states: Sequence[storage.FileState],
  columns: Mapping[str, str] | None,
) -> tuple[list[index.Unit], Callable[[str], list[index.Row]]]:
  """Reads the table and says what is to be indexed, and how.

  Args:
    folder: of the data set.
    tables: names of the tables in it, see `is_table`.
    states: of all files below the folder.
    columns: name of the captioner -> column; None for "text".

  Raises:
    DataError: there are several tables, or the table cannot be read or lacks a column.
  """
  kinds = {media.suffix(name) for name in tables}
  if len(tables) > 1 and kinds != {".parquet"}:
    raise errors.DataError(f"{folder} has several tables: {', '.join(tables)}; keep one of them")
  rows = [row for name in tables for row in read(folder / name)]
  label = str(folder / tables[0])
  if not rows:
    raise errors.DataError(f"{label} has no rows")
  known = list(dict.fromkeys(column for row in rows for column in row))
  wanted = dict(_DEFAULT if columns is None else columns)
  for column in (_FILE, *wanted.values()):
    if column not in known:
      hint = "" if column == _FILE else "; say which hold captions with the option 'caption'"
      raise errors.DataError(f"{label} has no column {column!r}, it has {', '.join(known)}{hint}")
  found = {state.name: state for state in states}
  entries: dict[str, tuple[str, int, dict[str, str]]] = {}
  seen: collections.Counter[str] = collections.Counter()
  listed = []
  for number, row in enumerate(rows):
    file = row[_FILE] if isinstance(row.get(_FILE), str) else ""
    if not file:
      raise errors.DataError(f"{label}: row {number} names no file in the column {_FILE!r}")
    storage.check_below(file, f"{label}, row {number},", errors.DataError)
    seen[file] += 1
    clip_id = file if seen[file] == 1 else f"{file}#{seen[file]}"  # one picture, several texts
    captions = {}
    for caption, column in wanted.items():
      captions.update(sidecar.numbered(caption, _texts(row.get(column))))
    state = found.get(file, storage.FileState(file, -1, ""))
    entries[clip_id] = (file, state.size, captions)
    stamp = json.dumps([state.size, state.version, captions], sort_keys=True)
    listed.append(index.Unit(clip_id, stamp))

  def look(clip_id: str) -> list[index.Row]:
    file, size, captions = entries[clip_id]
    picture = media.suffix(file) in media.PICTURE_SUFFIXES
    return [folders.look_at(folder, file, size, captions, picture=picture, clip_id=clip_id)]

  return listed, look


def _texts(value: Any) -> list[str]:
  """Captions in a cell: one, a list of them, or none."""
  if isinstance(value, (list, tuple)):
    return [text for one in value for text in _texts(one)]
  if value is None or (isinstance(value, float) and math.isnan(value)):
    return []
  text = str(value).strip()
  return [text] if text else []


def read(file: Any) -> list[dict[str, Any]]:
  """Rows of a table in CSV, JSON lines or Parquet.

  Raises:
    DataError: it cannot be read; names file and line.
  """
  suffix = media.suffix(file.name)
  content = storage.read_bytes(file)
  if suffix == ".parquet":
    return _read_parquet(str(file), content)
  try:
    text = content.decode("utf-8-sig")
  except UnicodeDecodeError as error:
    raise errors.DataError(f"{file} is not UTF-8 text: {error}") from error
  if suffix == ".csv":
    return [dict(row) for row in csv.DictReader(io.StringIO(text, newline=""))]
  rows = []
  for number, line in enumerate(text.split("\n"), 1):
    if not line.strip():
      continue
    try:
      row = json.loads(line)
    except ValueError as error:
      raise errors.DataError(f"{file}, line {number} is not JSON: {error}") from error
    if not isinstance(row, dict):
      raise errors.DataError(f"{file}, line {number} is no JSON object")
    rows.append(row)
  return rows


def _read_parquet(file: str, content: bytes) -> list[dict[str, Any]]:
  try:
    import pyarrow  # an extra: 150 MB, for those who have such tables
    from pyarrow import parquet
  except ImportError as error:
    raise errors.DataError(
      f"{file} is a Parquet table, which needs pyarrow: pip install pyarrow"
    ) from error
  try:
    return parquet.read_table(pyarrow.BufferReader(content)).to_pylist()
  except (pyarrow.ArrowException, OSError) as error:
    raise errors.DataError(f"{file} cannot be read: {error}") from error
