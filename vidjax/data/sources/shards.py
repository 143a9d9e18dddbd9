"""Curated shards: what `vidjax curate` writes, by record number.

An index says how long each clip is and what shape it has, so that a loader knows before its first
step which clips hold a window. It is a small file beside the shards (`write_index`, called by
whoever writes shards); where that file is missing or older than the shards, they are read through
once instead.
"""

import bisect
from collections.abc import Mapping
import dataclasses
import functools
import hashlib
import io
import itertools
from typing import Any

from absl import logging
import numpy as np

from vidjax import errors, packed, storage
from vidjax.data import records, schema, video
from vidjax.data import subset as subset_lib
from vidjax.data.clip import Clip, Listing
from vidjax.data.sources import options as options_lib
from vidjax.observe import console


@dataclasses.dataclass(frozen=True)
class ShardSource:
  """The clips of one split; see `vidjax.data.clip.Source`. It opens shards on demand.

  Attributes:
    path: the folder as the user gave it.
    listing: of all records.
    shards: full paths of the files.
    ends: number of records up to the end of each of them.
  """

  path: str
  listing: Listing
  shards: tuple[str, ...]
  ends: tuple[int, ...]

  def __getitem__(self, number: int) -> Clip:
    """Reads record `number`.

    Raises:
      RuntimeError: the checksum of the record is wrong.
      DataError: the record is none of ours.
    """
    shard, record = self._place(number)
    data = records.read(self.shards[shard], record)
    return as_clip(schema.parse_record(data))

  def name(self, number: int) -> str:
    """File and record number."""
    shard, record = self._place(number)
    return f"{storage.Path(self.shards[shard]).name}[{record}]"

  def _place(self, number: int) -> tuple[int, int]:
    shard = bisect.bisect_right(self.ends, number)
    return shard, number - (self.ends[shard - 1] if shard else 0)


def open_source(path: str, split: str, options: Mapping[str, Any]) -> ShardSource:
  """Opens the clips of `split`.

  Args:
    path: the folder.
    split: one of its splits.
    options: `subset` names a list of clips as `vidjax select` writes it: others are not shown.

  Raises:
    ValueError: there are other options.
    FileNotFoundError: there is no such folder.
    DataError: shards are missing or broken, or of another version; or none of the clips is chosen.
  """
  options_lib.check("shards", options, ("subset",))
  files = schema.shard_files(path, split)
  schema.check_version(files[0].parent)
  index = load_index(path, split)
  return ShardSource(
    path=path,
    listing=_chosen(index, options["subset"], path) if options.get("subset") else index.listing,
    shards=tuple(map(str, files)),
    ends=tuple(itertools.accumulate(index.counts)),
  )


def _chosen(index: "ShardIndex", subset: Any, path: str) -> Listing:
  """The listing with the choice of a list of clips, which is then part of what the data are."""
  wanted = subset_lib.read(subset)
  chosen = np.isin(index.clip_ids, wanted)
  if not chosen.any():
    raise errors.DataError(
      f"{subset}: none of its {len(wanted)} clips is in {path}: it was chosen of another data set"
    )
  digest = hashlib.sha256(f"{index.listing.digest} of them".encode())
  digest.update(np.sort(index.clip_ids[chosen]).tobytes())
  return dataclasses.replace(index.listing, chosen=chosen, digest=digest.hexdigest())


def as_clip(record: schema.ClipRecord) -> Clip:
  """A record that has been read, opened for decoding."""

  def read(moments_s: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return video.read_frames_at(record.video, moments_s, size)

  return Clip(
    clip_id=record.clip_id,
    source=record.source,
    duration_s=record.num_frames / record.fps,
    read=read,
    times_s=lambda: video.probe(record.video).times_s,
    captions=record.captions,
    motion_score=record.motion_score,
    scores=record.scores,
  )


@dataclasses.dataclass(frozen=True)
class ShardIndex:
  """What the index file of one split says.

  Attributes:
    counts: numbers of records in the shards.
    listing: of all records in their order.
    clip_ids: (N,) bytes; empty for records that cannot be read.
  """

  counts: tuple[int, ...]
  listing: Listing
  clip_ids: np.ndarray


def load_index(path: str, split: str) -> ShardIndex:
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
  names, folder = tuple(file.name for file in files), str(files[0].parent)
  index = _scan(folder, split, names)
  stream = io.BytesIO()
  np.savez(
    stream,
    shards=np.array(names),
    shard_bytes=np.array(sizes, np.int64),
    counts=np.array(index.counts, np.int64),
    durations_s=index.listing.durations_s,
    fps=index.listing.fps,
    sizes=index.listing.sizes,
    digest=np.array(index.listing.digest),
    clip_ids=index.clip_ids,
  )
  storage.write_bytes(_index_file(folder, split), stream.getvalue())


@functools.lru_cache(maxsize=8)
def _load_index(
  folder: str, split: str, shards: tuple[str, ...], sizes: tuple[int, ...], changed: float
) -> ShardIndex:
  file = _index_file(folder, split)
  if file.exists():
    # The size alone says little: ArrayRecord fills files up to whole blocks of 64 KiB.
    fresh = file.stat().mtime >= changed
    with packed.load_arrays(file, errors.DataError) as stored:
      known = {"shards", "shard_bytes", "clip_ids"} <= set(stored.files)
      fresh = fresh and known and tuple(stored["shards"]) == shards
      if fresh and tuple(stored["shard_bytes"]) == sizes:
        columns = (stored["durations_s"], stored["fps"], stored["sizes"])
        listing = Listing(*columns, digest=str(stored["digest"]))
        counts = tuple(int(count) for count in stored["counts"])
        return ShardIndex(counts, listing, stored["clip_ids"])
    logging.warning("%s is older than the shards beside it: reading all of them instead", file)
  return _scan(folder, split, shards)


def _index_file(folder: str, split: str) -> Any:
  return storage.Path(folder) / f"index-{split}.npz"


def _scan(folder: str, split: str, shards: tuple[str, ...]) -> ShardIndex:
  """Makes the index by reading every record once."""
  readers = [records.open_shard(str(storage.Path(folder) / name)) for name in shards]
  counts = tuple(reader.num_records() for reader in readers)
  durations_s, fps = np.full(sum(counts), np.nan), np.full(sum(counts), np.nan)
  sizes = np.zeros((sum(counts), 2), np.int32)
  ids = [""] * sum(counts)
  digest = hashlib.sha256()
  places = ((reader, i) for reader, n in zip(readers, counts, strict=True) for i in range(n))
  with console.Progress(f"index of {split}", sum(counts)) as progress:
    for number, (reader, i) in enumerate(places):
      try:
        (data,) = reader.read([i])
        digest.update(hashlib.sha256(data).digest())
        clip = schema.parse_record(data)
        durations_s[number], fps[number] = clip.num_frames / clip.fps, clip.fps
        sizes[number] = clip.height, clip.width
        ids[number] = clip.clip_id
      except (RuntimeError, errors.DataError) as error:
        digest.update(b"unreadable")
        logging.warning("%s: record %d of %r cannot be read: %s", folder, number, split, error)
      if number % 1000 == 999:  # a few thousand are read in a second
        progress.update(number + 1)
  listing = Listing(durations_s, fps, sizes, digest.hexdigest())
  return ShardIndex(counts, listing, np.array(ids, np.bytes_))
