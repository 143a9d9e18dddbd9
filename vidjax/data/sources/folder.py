"""A folder of media files with captions beside them; the source of all that has an index."""

from collections.abc import Callable, Sequence
import dataclasses
import functools
from typing import Any

from vidjax import errors, storage
from vidjax.data.clip import Clip, Listing
from vidjax.data.sources import index, media, sidecar


@dataclasses.dataclass(frozen=True)
class FileSource:
  """Clips that are files, or stretches of files, below a folder; see `vidjax.data.clip.Source`.

  Attributes:
    path: as the user gave it.
    listing: of all clips.
    folder: that the files are below.
    index_file: that says which.
  """

  path: str
  listing: Listing
  folder: str
  index_file: str

  def __getitem__(self, number: int) -> Clip:
    row = self._row(number)
    file = storage.below(self.folder, row.file, self.index_file, errors.DataError)
    return media.open_clip(
      media.Place(str(file), row.picture, row.offset, row.size),
      clip_id=row.name,
      source=row.file,
      duration_s=row.facts.duration_s,
      captions=dict(row.captions),
    )

  def name(self, number: int) -> str:
    """Path of the file, relative to the folder; for a member of an archive, followed by its own."""
    return self._row(number).name

  def _row(self, number: int) -> index.Row:
    return index.load(self.index_file, self.listing.digest)[number]


def open_index(
  path: str,
  folder: Any,
  name: str,
  units: list[index.Unit],
  look: Callable[[str], list[index.Row]],
) -> FileSource:
  """The source of what `look` finds in `units`; see `index.update`."""
  found, file = index.update(folder, name, units, look)
  return FileSource(path, found.listing, str(folder), file)


def open_tree(path: str, split: str, kind: str, suffixes: frozenset[str]) -> FileSource:
  """Opens all files of a folder with one of `suffixes`, by relative path.

  Raises:
    FileNotFoundError: there is no such folder.
    DataError: it has no such split, or no such file.
  """
  folder = split_folder(path, split)
  states = visible(storage.file_states(folder))
  stamps = {state.name: f"{state.size} {state.version}" for state in states}
  sizes = {state.name: state.size for state in states}
  beside = {
    name: [other for other in sidecar.names(name) if other in stamps]
    for name in stamps
    if media.suffix(name) in suffixes
  }
  if not beside:
    raise errors.DataError(
      f"{folder}: no {kind} in there or below ({', '.join(sorted(suffixes))}); data.kind={kind!r}"
    )

  def look(name: str) -> list[index.Row]:
    captions: dict[str, str] = {}
    for other in beside[name]:
      captions.update(sidecar.parse(_text(folder / other), other))
    return [look_at(folder, name, sizes[name], captions, picture=kind == "images")]

  units = [
    index.Unit(name, "; ".join([stamps[name], *(f"{o} {stamps[o]}" for o in others)]))
    for name, others in beside.items()
  ]
  return open_index(path, folder, f"index-{kind}.npz", units, look)


def _text(file: Any) -> bytes:
  try:
    return storage.read_bytes(file, sidecar.MAX_BYTES)
  except ValueError as error:
    raise errors.DataError(f"side-car {error}") from error


def look_at(
  folder: Any, name: str, size: int, captions: dict[str, str], *, picture: bool, clip_id: str = ""
) -> index.Row:
  """The row of one file, whether it can be read or not."""
  make = functools.partial(index.Row, clip_id or name, name, size, picture, captions=captions)
  try:
    return make(media.Place(str(folder / name), picture).facts())
  except media.DAMAGE as error:
    return make(media.Facts(), problem=f"{type(error).__name__}: {error}")


def split_folder(path: str, split: str) -> Any:
  """The folder of a split: the one of that name, or for "train" the whole where there is none.

  Raises:
    FileNotFoundError: there is no such folder.
    DataError: there is no such split.
  """
  root = storage.Path(path)
  if not root.is_dir():
    raise FileNotFoundError(f"data folder {path} does not exist, or is no folder")
  if split and (root / split).is_dir():
    return root / split
  if split in ("", "train"):
    return root
  folders = sorted(f.name for f in root.iterdir() if f.is_dir() and not f.name.startswith("."))
  raise errors.DataError(
    f"{path} has no folder {split!r} for the split of that name; its folders are"
    f" {', '.join(folders[:20]) or 'none'}"
  )


def visible(states: Sequence[storage.FileState]) -> list[storage.FileState]:
  """Without files and folders whose name starts with a dot: thumbnails, resource forks, locks."""
  return [s for s in states if not any(part.startswith(".") for part in s.name.split("/"))]
