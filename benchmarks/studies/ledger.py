"""What is done: one JSON line for each unit, appended when it is over and never changed.

A line that a crash cut off is forgotten. A line of another plan is not: it is refused, so that
numbers of two plans are never in one table.
"""

from collections.abc import Iterator, Mapping
import contextlib
import datetime
import json
import os
import resource
import time
from typing import Any

from vidjax import errors, storage

FILE = "results.jsonl"
BEGUN = "begun.json"  # unit -> hash of its plan: a kill leaves files, and no line
DONE, STOPPED = "done", "stopped"


class Ledger:
  """The lines of one folder of results.

  Args:
    out: the folder.
  """

  def __init__(self, out: storage.PathLike):
    self.path = storage.Path(out) / FILE
    self.rows = _read(self.path)
    self._begun_path = self.path.parent / BEGUN
    there = self._begun_path.exists()
    self._begun: dict[str, str] = storage.read_json(self._begun_path) if there else {}

  @property
  def done(self) -> dict[str, dict[str, Any]]:
    """Lines of finished units, by the name of the unit."""
    return {row["unit"]: row for row in self.rows if row["state"] == DONE}

  @property
  def cpu_seconds(self) -> float:
    """Spent so far, on what was stopped as well."""
    return sum(row["cpu_seconds"] for row in self.rows)

  def check(self, hashes: Mapping[str, str]) -> None:
    """Refuses what other plans have made or begun.

    Args:
      hashes: of the units that are wanted, by name.

    Raises:
      ValueError: a unit is of another plan; names it.
    """
    for name, own in self._begun.items() | {(row["unit"], row["hash"]) for row in self.rows}:
      if hashes.get(name, own) != own:
        raise errors.UserError(
          f"{self.path.parent} holds {name!r} of the plan {own}, the plan now is {hashes[name]}:"
          " keep that folder with its own plan, and give another one as --out"
        )

  def append(self, row: Mapping[str, Any]) -> None:
    """Adds a line, and has it on the disk before it returns."""
    os.makedirs(self.path.parent, exist_ok=True)
    with open(self.path, "a", encoding="utf-8") as file:
      file.write(json.dumps(row, sort_keys=True) + "\n")
      file.flush()
      os.fsync(file.fileno())
    self.rows.append(dict(row))

  @contextlib.contextmanager
  def unit(self, name: str, digest: str, **notes: Any) -> Iterator[dict[str, Any]]:
    """Times a unit: `result` of what is yielded is kept if it ends well, its time in any case.

    Args:
      name: of the unit.
      digest: of what the plan says of it.
      notes: study, stage, arm, seed: what it is.
    """
    self._begun[name] = digest
    storage.write_json(self._begun_path, self._begun)
    began, cpu = time.monotonic(), cpu_seconds()
    kept: dict[str, Any] = {}
    state = STOPPED
    try:
      yield kept
      state = DONE
    finally:
      row = {
        "unit": name,
        "hash": digest,
        "state": state,
        **notes,
        "cpu_seconds": round(cpu_seconds() - cpu, 2),
        "seconds": round(time.monotonic() - began, 2),
        "ended": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
      }
      self.append(row | ({"result": kept.get("result", {})} if state == DONE else {}))


def cpu_seconds() -> float:
  """Of this process and of those that it has waited for, in user and system mode."""
  return sum(
    usage.ru_utime + usage.ru_stime
    for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
  )


def _read(path: storage.Path) -> list[dict[str, Any]]:
  if not path.exists():
    return []
  text = storage.read_text(path)
  whole, newline, rest = text.rpartition("\n")
  if rest:  # cut off by a crash while it was written
    storage.write_text(path, whole + newline)
  rows = []
  for number, line in enumerate(whole.splitlines(), 1):
    try:
      rows.append(json.loads(line))
    except json.JSONDecodeError as error:
      raise errors.UserError(f"{path}:{number} is no JSON: {error}; remove that line") from error
  return rows
