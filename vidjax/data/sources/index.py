"""What is known of each clip of a data set, made once and kept in a file.

Opening every file of a data set to see how long it is takes hours where there are millions. So what
was found is written beside the data (`index-KIND.npz`), or, where nothing can be written there,
into the cache folder of the machine. It is made of units (a file with its side-cars, an archive, a
shard), each with a stamp of sizes and modification times: only units whose stamp has changed, and
those in which something could not be read, are looked at again.

Decoding processes read names and captions from that file, so that a source pickles small.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
import dataclasses
import functools
import hashlib
import io
import json
import os
from typing import Any, NamedTuple

from absl import logging
import numpy as np

from vidjax import errors, packed, storage
from vidjax.data.clip import Listing
from vidjax.data.sources.media import Facts
from vidjax.observe import console

_VERSION = 1  # of the file's layout
_THREADS = 16  # headers are read from disks and stores that answer slowly
_NAMED = 5  # damaged clips that a warning names


class Unit(NamedTuple):
  """Something that is looked at in one go.

  Attributes:
    name: path relative to the data set's folder.
    stamp: other if its content may have changed.
  """

  name: str
  stamp: str


@dataclasses.dataclass(frozen=True)
class Row:
  """One clip.

  Attributes:
    name: unique in its data set.
    file: that holds it, relative to the data set's folder.
    size: bytes of its video or picture.
    picture: which of the two.
    facts: length, rate and size; without a length if it cannot be read.
    offset: where it starts in the file; -1 if it is all of it.
    captions: name of the captioner -> text.
    problem: why it cannot be read; "" if it can.
  """

  name: str
  file: str
  size: int
  picture: bool
  facts: Facts
  offset: int = -1
  captions: Mapping[str, str] = dataclasses.field(default_factory=dict)
  problem: str = ""


class Texts(Sequence[str]):
  """Many texts in one array: a hundredth of the objects, and a file of numbers holds them."""

  def __init__(self, blob: np.ndarray, ends: np.ndarray):
    self.blob, self.ends = blob, ends

  @classmethod
  def of(cls, texts: Sequence[str]) -> "Texts":
    """Packs texts."""
    parts = [text.encode("utf-8", "surrogateescape") for text in texts]
    ends = np.cumsum([len(part) for part in parts], dtype=np.int64)
    return cls(np.frombuffer(b"".join(parts), np.uint8), ends)

  def __len__(self) -> int:
    return len(self.ends)

  def __getitem__(self, number: Any) -> Any:
    first = self.ends[number - 1] if number else 0
    return self.blob[first : self.ends[number]].tobytes().decode("utf-8", "surrogateescape")


@dataclasses.dataclass(frozen=True)
class Index:
  """All clips of a data set, in order.

  Attributes:
    names: see `Row`, likewise the other columns.
    files: of the clips.
    captions: as JSON objects.
    problems: of the clips.
    numbers: (N, 3) int64: offset, size, and 1 for a picture.
    listing: lengths, rates, sizes, digest.
    units: names of the units, in order.
    stamps: of the units.
    counts: (U,) int64, clips of each unit.
  """

  names: Texts
  files: Texts
  captions: Texts
  problems: Texts
  numbers: np.ndarray
  listing: Listing
  units: Texts
  stamps: Texts
  counts: np.ndarray

  def __len__(self) -> int:
    return len(self.numbers)

  def whole(self) -> list[Unit]:
    """All units."""
    return [Unit(*unit) for unit in zip(self.units, self.stamps, strict=True)]

  def __getitem__(self, number: int) -> Row:
    listing = self.listing
    height, width = listing.sizes[number]
    return Row(
      name=self.names[number],
      file=self.files[number],
      size=int(self.numbers[number, 1]),
      picture=bool(self.numbers[number, 2]),
      facts=Facts(
        float(listing.durations_s[number]), float(listing.fps[number]), int(height), int(width)
      ),
      offset=int(self.numbers[number, 0]),
      captions=json.loads(self.captions[number]),
      problem=self.problems[number],
    )


def update(
  folder: Any, name: str, units: list[Unit], look: Callable[[str], list[Row]]
) -> tuple[Index, str]:
  """Brings the index of a data set up to date.

  Args:
    folder: of the data set.
    name: of the index file.
    units: all of them, in order, each name once.
    look: gives the rows of the unit of a name; called from several threads.

  Returns:
    The index, and the path of the file that it is in.
  """
  beside = storage.Path(folder) / name
  hashed = hashlib.sha256(os.fspath(storage.Path(folder)).encode()).hexdigest()[:16]
  elsewhere = storage.cache_folder() / f"index-{hashed}" / name
  known = {file: found for file in (beside, elsewhere) if (found := _read(file)) is not None}
  same = {file: found for file, found in known.items() if found.whole() == units}
  for file, found in same.items():
    if not len(found.problems.blob):
      return found, os.fspath(file)
  fresh = _renew(units, look, list(known.values()), storage.Path(folder).name)
  damaged = np.flatnonzero(np.diff(fresh.problems.ends, prepend=0))
  for number in damaged[:_NAMED]:
    logging.warning("%s cannot be read: %s", fresh.names[number], fresh.problems[number])
  if len(damaged):
    logging.warning("%s: %d of %d clips cannot be read", folder, len(damaged), len(fresh))
  for file, found in same.items():
    if np.array_equal(found.problems.blob, fresh.problems.blob):
      return found, os.fspath(file)
  if not storage.is_read_only(folder):
    try:
      _write(beside, fresh)
      return fresh, os.fspath(beside)
    except Exception as error:  # each store has its own way of saying that nothing may be written
      logging.info("%s cannot be written: %s", beside, error)
  logging.info("%s: the index is kept in %s", folder, elsewhere)
  _write(elsewhere, fresh)
  return fresh, os.fspath(elsewhere)


@functools.lru_cache(maxsize=32)
def load(file: str, digest: str) -> Index:
  """Reads an index that is known to be there, once in each process.

  Raises:
    DataError: it is gone, or one of other clips.
  """
  index = _read(storage.Path(file))
  if index is None or index.listing.digest != digest:
    raise errors.DataError(f"{file} is gone or was made anew: the data changed while they are used")
  return index


def _renew(
  units: Sequence[Unit], look: Callable[[str], list[Row]], known: Sequence[Index], title: str
) -> Index:
  """Looks at what the `known` indices do not tell."""
  rows: dict[Unit, list[Row]] = {}
  wanted = set(units)
  for index in known:
    end = 0
    for unit, count in zip(index.whole(), index.counts, strict=True):
      first, end = end, end + int(count)
      if unit in wanted and unit not in rows:
        clips = [index[i] for i in range(first, end)]
        if not any(clip.problem for clip in clips):
          rows[unit] = clips
  missing = [unit for unit in units if unit not in rows]
  with console.Progress(f"index of {title}", len(missing)) as progress:
    for done, (unit, clips) in enumerate(_look_at(missing, look), 1):
      rows[unit] = clips
      progress.update(done)
  return _pack(units, [rows[unit] for unit in units])


def _look_at(
  units: Sequence[Unit], look: Callable[[str], list[Row]]
) -> Iterator[tuple[Unit, list[Row]]]:
  with futures.ThreadPoolExecutor(_THREADS) as pool:
    for first in range(0, len(units), 1024):
      part = units[first : first + 1024]
      yield from zip(part, pool.map(lambda unit: look(unit.name), part), strict=True)


def _pack(units: Sequence[Unit], found: Sequence[list[Row]]) -> Index:
  rows = [row for clips in found for row in clips]
  assert len({row.name for row in rows}) == len(rows), "names of clips are unique"
  facts = [row.facts for row in rows]
  digest = hashlib.sha256()
  for row in rows:
    digest.update(json.dumps([row.name, row.size, row.captions], sort_keys=True).encode())
  return Index(
    names=Texts.of([row.name for row in rows]),
    files=Texts.of([row.file for row in rows]),
    captions=Texts.of([json.dumps(dict(row.captions), ensure_ascii=False) for row in rows]),
    problems=Texts.of([row.problem for row in rows]),
    numbers=np.array([(r.offset, r.size, r.picture) for r in rows], np.int64).reshape(-1, 3),
    listing=Listing(
      durations_s=np.array([fact.duration_s for fact in facts], np.float64),
      fps=np.array([fact.fps for fact in facts], np.float64),
      sizes=np.array([(fact.height, fact.width) for fact in facts], np.int32).reshape(-1, 2),
      digest=digest.hexdigest(),
    ),
    units=Texts.of([unit.name for unit in units]),
    stamps=Texts.of([unit.stamp for unit in units]),
    counts=np.array([len(clips) for clips in found], np.int64),
  )


_TEXTS = ("names", "files", "captions", "problems", "units", "stamps")


def _write(file: Any, index: Index) -> None:
  arrays: dict[str, Any] = {"version": _VERSION, "digest": index.listing.digest}
  for name in _TEXTS:
    texts: Texts = getattr(index, name)
    arrays |= {name: texts.blob, f"{name}_ends": texts.ends}
  arrays |= {name: getattr(index.listing, name) for name in ("durations_s", "fps", "sizes")}
  stream = io.BytesIO()
  np.savez_compressed(stream, numbers=index.numbers, counts=index.counts, **arrays)
  storage.write_bytes(file, stream.getvalue())


def _read(file: Any) -> Index | None:
  """The index in a file; None if there is none, or none that this version understands."""
  try:
    if not file.exists():
      return None
    with packed.load_arrays(file) as stored:
      if int(stored["version"]) != _VERSION:
        return None
      listing = [stored[name] for name in ("durations_s", "fps", "sizes")]
      texts = {name: Texts(stored[name], stored[f"{name}_ends"]) for name in _TEXTS}
      return Index(
        **texts,
        numbers=stored["numbers"],
        counts=stored["counts"],
        listing=Listing(*listing, digest=str(stored["digest"])),
      )
  except Exception as error:  # a damaged index is made anew, and whatever zipfile says of it
    logging.warning("%s cannot be used: %s", file, error)
    return None
