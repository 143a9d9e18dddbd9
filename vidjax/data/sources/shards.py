"""Random access to the clips of one split: an index of all records, and the source that reads them.

The index says how long each clip is, so that a loader knows before its first step which clips hold
a window. It is a small file beside the shards (`write_index`, called by whoever writes shards);
where that file is missing or older than the shards, they are read through once instead.
"""

import bisect
import dataclasses
import functools
import hashlib
import io
import itertools
from typing import Any

from absl import logging
from array_record.python import array_record_module  # pyright: ignore[reportAttributeAccessIssue]
import numpy as np

from vidjax import errors, storage
from vidjax.data import schema, windows
from vidjax.observe import console


@dataclasses.dataclass(frozen=True)
class ClipIndex:
  """All records of one split.

  Attributes:
    folder: where the shards are.
    split: "train" or "holdout".
    shards: names of the files in `folder`, in order.
    sizes: their sizes in bytes.
    counts: numbers of records in them.
    durations_s: length of each clip in seconds, float64, in the order of the records; NaN where a
      record cannot be read.
    digest: SHA-256 of all records in their order.
  """

  folder: str
  split: str
  shards: tuple[str, ...]
  sizes: tuple[int, ...]
  counts: tuple[int, ...]
  durations_s: np.ndarray
  digest: str

  @property
  def paths(self) -> tuple[str, ...]:
    """Full paths of the shards."""
    return tuple(str(storage.Path(self.folder) / name) for name in self.shards)


@dataclasses.dataclass(frozen=True)
class ClipSource:
  """The clips of one split that hold a window, by number; small to pickle, opens files on demand.

  Attributes:
    paths: shards.
    ends: number of records up to the end of each shard.
    usable: record numbers of the clips, or None if every record is one.
    path: the folder as the user gave it, for messages.
  """

  paths: tuple[str, ...]
  ends: tuple[int, ...]
  usable: np.ndarray | None
  path: str

  def __len__(self) -> int:
    return self.ends[-1] if self.usable is None else len(self.usable)

  def __getitem__(self, clip: int) -> schema.ClipRecord:
    """Reads clip number `clip`.

    Raises:
      RuntimeError: the checksum of the record is wrong.
      DataError: the record is none of ours.
    """
    record = clip if self.usable is None else int(self.usable[clip])
    shard = bisect.bisect_right(self.ends, record)
    first = self.ends[shard - 1] if shard else 0
    (data,) = _open_shard(self.paths[shard]).read([record - first])
    return schema.parse_record(data)

  def name(self, clip: int) -> str:
    """Says where clip number `clip` is, for messages about a record that cannot be read."""
    record = clip if self.usable is None else int(self.usable[clip])
    shard = bisect.bisect_right(self.ends, record)
    first = self.ends[shard - 1] if shard else 0
    return f"{storage.Path(self.paths[shard]).name}[{record - first}]"


def open_source(path: str, split: str, grid: windows.WindowGrid) -> ClipSource:
  """Opens the clips of `split` that are long enough for a window on `grid`.

  Raises:
    FileNotFoundError: there is no such folder.
    DataError: shards are missing or broken, or no clip is long enough.
  """
  index = load_index(path, split)
  fits = np.asarray(grid.fits(index.durations_s))
  unreadable = int(np.isnan(index.durations_s).sum())
  if not fits.any():
    longest = np.nanmax(index.durations_s, initial=0.0)
    raise errors.DataError(
      f"{path}: no clip of the split {split!r} holds a window of {grid.num_frames} frames at"
      f" {grid.fps:g} fps, which needs {grid.span_s:g} s; the longest of {len(fits)} clips has"
      f" {longest:.2f} s ({unreadable} are unreadable). Lower data.num_frames, raise data.fps or"
      " curate longer shots"
    )
  if not fits.all():
    logging.info(
      "%s: %d of %d clips of the split %r are used; %d are shorter than %g s, %d are unreadable",
      *(path, fits.sum(), len(fits), split),
      *(len(fits) - fits.sum() - unreadable, grid.span_s, unreadable),
    )
  return ClipSource(
    paths=index.paths,
    ends=tuple(itertools.accumulate(index.counts)),
    usable=None if fits.all() else np.flatnonzero(fits).astype(np.uint32),
    path=path,
  )


def load_index(path: str, split: str) -> ClipIndex:
  """Reads the index of `split` from its file if that fits the shards, else from the shards.

  Raises:
    FileNotFoundError: there is no such folder.
    DataError: shards are missing or cannot be opened.
  """
  files = schema.shard_files(path, split)
  stats = [file.stat() for file in files]
  names = tuple(file.name for file in files)
  sizes = tuple(stat.length for stat in stats)
  changed = max(stat.mtime for stat in stats)
  return _load_index(str(files[0].parent), split, names, sizes, changed)


def write_index(path: str, split: str) -> None:
  """Writes the index file of `split` beside its shards. Call it once the shards are final."""
  files = schema.shard_files(path, split)
  sizes = tuple(file.stat().length for file in files)
  index = _scan(str(files[0].parent), split, tuple(file.name for file in files), sizes)
  stream = io.BytesIO()
  np.savez(
    stream,
    shards=np.array(index.shards),
    sizes=np.array(index.sizes, np.int64),
    counts=np.array(index.counts, np.int64),
    durations_s=index.durations_s,
    digest=np.array(index.digest),
  )
  storage.write_bytes(_index_file(index.folder, split), stream.getvalue())


@functools.lru_cache(maxsize=8)
def _load_index(
  folder: str, split: str, shards: tuple[str, ...], sizes: tuple[int, ...], changed: float
) -> ClipIndex:
  file = _index_file(folder, split)
  if file.exists():
    # The size alone says little: ArrayRecord fills files up to whole blocks of 64 KiB.
    fresh = file.stat().mtime >= changed
    with np.load(io.BytesIO(storage.read_bytes(file))) as stored:
      if fresh and tuple(stored["shards"]) == shards and tuple(stored["sizes"]) == sizes:
        counts = tuple(int(count) for count in stored["counts"])
        durations_s, digest = stored["durations_s"], str(stored["digest"])
        return ClipIndex(folder, split, shards, sizes, counts, durations_s, digest)
    logging.warning("%s is older than the shards beside it: reading all of them instead", file)
  return _scan(folder, split, shards, sizes)


def _index_file(folder: str, split: str) -> Any:
  return storage.Path(folder) / f"index-{split}.npz"


def _scan(folder: str, split: str, shards: tuple[str, ...], sizes: tuple[int, ...]) -> ClipIndex:
  """Makes the index by reading every record once."""
  readers = [_open_shard(str(storage.Path(folder) / name)) for name in shards]
  counts = tuple(reader.num_records() for reader in readers)
  durations_s = np.full(sum(counts), np.nan)
  digest = hashlib.sha256()
  records = ((reader, i) for reader, n in zip(readers, counts, strict=True) for i in range(n))
  with console.Progress(f"index of {split}", len(durations_s)) as progress:
    for number, (reader, i) in enumerate(records):
      try:
        (data,) = reader.read([i])
        digest.update(hashlib.sha256(data).digest())
        clip = schema.parse_record(data)
        durations_s[number] = clip.num_frames / clip.fps
      except (RuntimeError, errors.DataError) as error:
        digest.update(b"unreadable")
        logging.warning("%s: record %d of %r cannot be read: %s", folder, number, split, error)
      if number % 1000 == 999:  # a few thousand are read in a second
        progress.update(number + 1)
  return ClipIndex(folder, split, shards, sizes, counts, durations_s, digest.hexdigest())


@functools.lru_cache(maxsize=1024)
def _open_shard(path: str) -> Any:
  """Opens a shard once in each process (the reader itself may be used from many threads)."""
  # The reader neither fails nor says anything if the file is missing or is no ArrayRecord.
  if not storage.Path(path).exists():
    raise errors.DataError(f"shard {path} does not exist")
  # Records are read in random order: what follows one of them is not needed next.
  options = "readahead_buffer_size:0"
  reader = array_record_module.ArrayRecordReader(storage.cached_copy(path), options)
  if not reader.ok():
    raise errors.DataError(f"shard {path} is not an ArrayRecord file, or it is cut short")
  return reader
