"""What a folder holds, from one listing; no file of it is opened."""

from collections.abc import Iterable

from vidjax import errors, storage
from vidjax.data.sources import folder, media


def file_names(path: str) -> list[str]:
  """Names of all files below a folder, relative to it, sorted; without hidden ones and dead links.

  Raises:
    FileNotFoundError: there is no such folder.
  """
  return [s.name for s in folder.visible(storage.file_states(path)) if s.size != -1]


def stem(name: str) -> str:
  """Name of a file without its folder and suffix."""
  return without_suffix(name).rpartition("/")[2]


def without_suffix(name: str) -> str:
  """Path of a file without its suffix."""
  end = media.suffix(name)
  return name[: len(name) - len(end)] if end else name


def by_key(path: str, pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
  """Files by what they are looked up with.

  Raises:
    DataError: two files have the same key; the message names both.
  """
  found: dict[str, str] = {}
  for key, name in pairs:
    if key in found:
      raise errors.DataError(f"{path} holds {key} twice: {found[key]} and {name}; remove one")
    found[key] = name
  return found
