"""Configs as flat tables: all keys, and those that differ from the defaults or between runs."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

from vidjax import config as configs

ABSENT = "–"


@dataclasses.dataclass(frozen=True)
class Setting:
  """One key with its value in each of several configs, as text."""

  key: str
  values: tuple[str, ...]


def flat(values: Any, name: str = "") -> dict[str, str]:
  """Texts of the values by dotted key, as `--config.KEY=` takes them; lists of sets by number."""
  if isinstance(values, Mapping) and (values or not name):
    found: dict[str, str] = {}
    for key, value in values.items():
      found |= flat(value, f"{name}.{key}" if name else str(key))
    return found
  if isinstance(values, (list, tuple)) and any(isinstance(one, Mapping) for one in values):
    found = {}
    for number, value in enumerate(values):
      found |= flat(value, f"{name}[{number}]")
    return found
  return {name: _text(values)}


def defaults() -> dict[str, Any]:
  """What a key has that no config sets, as nested values."""
  found = {}
  for field in dataclasses.fields(configs.TrainConfig):
    if field.default_factory is not dataclasses.MISSING:
      found[field.name] = configs.to_dict(field.default_factory())
    else:
      found[field.name] = field.default
  return found


def differences(several: Sequence[Mapping[str, Any]]) -> list[Setting]:
  """Keys whose values are not the same in all of the configs."""
  tables = [flat(one) for one in several]
  keys = dict.fromkeys(key for table in tables for key in table)
  rows = [Setting(key, tuple(table.get(key, ABSENT) for table in tables)) for key in keys]
  # An empty map or list beside one with keys below it: these say what differs.
  parents = {key[:at] for key in keys for at, letter in enumerate(key) if letter in ".["}
  return [row for row in rows if len(set(row.values)) > 1 and row.key not in parents]


def _text(value: Any) -> str:
  if isinstance(value, str):
    return value or '""'
  if isinstance(value, (list, tuple)):
    return f"({', '.join(map(_text, value))}{',' if len(value) == 1 else ''})"
  return "{}" if isinstance(value, Mapping) else str(value)
