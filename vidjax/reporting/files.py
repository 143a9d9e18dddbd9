"""Reads files of a run that may still be written, be torn by a kill, or not be there at all.

A page is wanted most of all when something went wrong, so nothing here fails on what a file holds:
what cannot be read is left out and said. Secrets are hidden as values come in.
"""

from collections.abc import Mapping
import json
from typing import Any

from vidjax import redaction, storage

MAX_BYTES = 1 << 28  # of a journal: far above a year of rows


class Reader:
  """Files of one workdir.

  Args:
    root: workdir.

  Attributes:
    states: of all files, by name.
    remarks: what could not be read, in words.
  """

  def __init__(self, root: storage.Path):
    self.root = root
    self.remarks: list[str] = []
    try:
      self.states = {state.name: state for state in storage.file_states(root)}
    except FileNotFoundError:
      self.states: dict[str, storage.FileState] = {}

  def names(self, folder: str, suffix: str) -> list[str]:
    """Files directly in a folder of the workdir, sorted."""
    prefix = f"{folder}/" if folder else ""
    inner = (name.removeprefix(prefix) for name in self.states if name.startswith(prefix))
    return sorted(prefix + name for name in inner if "/" not in name and name.endswith(suffix))

  def content(self, name: str) -> bytes | None:
    """Of a file; None if it is not there (any more), or cannot be read."""
    if name not in self.states:
      return None
    try:
      return storage.read_bytes(self.root / name, MAX_BYTES)
    except FileNotFoundError:
      return None
    except (OSError, ValueError) as error:
      self.remarks.append(f"{name} cannot be read: {redaction.redact(str(error))}")
      return None

  def text(self, name: str) -> str | None:
    """Of a text file, without secrets."""
    content = self.content(name)
    return None if content is None else redaction.redact(content.decode("utf-8", "replace"))

  def object(self, name: str) -> dict[str, Any] | None:
    """A JSON object, without secrets."""
    value = self._json(name)
    if value is not None and not isinstance(value, dict):
      self.remarks.append(f"{name} is no JSON object")
      return None
    return value

  def objects(self, name: str) -> list[dict[str, Any]]:
    """A JSON list of objects, without secrets."""
    value = self._json(name)
    if value is not None and not isinstance(value, list):
      self.remarks.append(f"{name} is no JSON list")
      return []
    return [one for one in value or [] if isinstance(one, dict)]

  def rows(self, name: str, *needed: str) -> list[dict[str, Any]]:
    """The objects of a journal that have the keys `needed`, as they are: secrets included.

    Other lines are left out; a last one without its end is being written, or was when the run was
    killed.
    """
    content = self.content(name)
    if content is None:
      return []
    *lines, torn = content.split(b"\n")
    rows, broken = [], []
    for number, line in enumerate(lines, 1):
      try:
        row = json.loads(line)
      except (ValueError, RecursionError):
        row = None
      if isinstance(row, dict) and all(row.get(key) is not None for key in needed):
        rows.append(row)
      elif line.strip():
        broken.append(number)
    if broken:
      shown = ", ".join(map(str, broken[:5])) + (" and others" if len(broken) > 5 else "")
      self.remarks.append(f"{name}: {len(broken)} damaged lines are left out (line {shown})")
    if torn:
      self.remarks.append(f"{name}: the last line has no end and is left out")
    return rows

  def _json(self, name: str) -> Any:
    content = self.content(name)
    if content is None:
      return None
    try:
      return hidden("", json.loads(content))
    except (ValueError, RecursionError) as error:
      self.remarks.append(f"{name} is no JSON: {redaction.redact(str(error))}")
      return None


def hidden(name: str, value: Any) -> Any:
  """JSON values without the secrets in them, those included that only their names give away."""
  if isinstance(value, Mapping):
    return {redaction.redact(str(key)): hidden(str(key), one) for key, one in value.items()}
  if isinstance(value, list):
    return [hidden(name, one) for one in value]
  if not isinstance(value, str):
    return value
  stated = f"{name}={value}"
  if redaction.redact(stated) == stated:
    return value
  shown = redaction.redact(value)
  return redaction.HIDDEN if shown == value else shown
