"""The `options` of a data set, checked."""

from collections.abc import Mapping, Sequence
from typing import Any


def check(kind: str, options: Mapping[str, Any], known: Sequence[str]) -> None:
  """Refuses options that a kind of data set does not know.

  Raises:
    ValueError: names the option and the known ones.
  """
  for name in options:
    if name not in known:
      listing = f"it knows {', '.join(known)}" if known else "it knows none"
      raise ValueError(f"data kind {kind!r} has no option {name!r}: {listing}")


def columns(option: str, value: Any) -> dict[str, str]:
  """Where captions come from: name of the captioner -> name of the column or feature.

  Args:
    option: its name, for messages.
    value: one column, several of them, or a map from names to columns.

  Raises:
    ValueError: it is none of these.
  """
  if isinstance(value, str):
    return {value: value}
  if hasattr(value, "items"):
    found = dict(value.items())
  elif isinstance(value, (list, tuple)):
    found = {column: column for column in value}
  else:
    found = {}
  if not found or not all(isinstance(v, str) for pair in found.items() for v in pair):
    raise ValueError(f"option {option}={value!r}: give a name, several, or a map of name to column")
  return found
