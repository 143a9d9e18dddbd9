"""Cached latents: what `vidjax cache_latents` writes, by record number (`vidjax.data.latents`).

Legend: N clips, T frames, h w latent height and width, Z latent channels.
"""

import bisect
from collections.abc import Mapping
import dataclasses
import json
from typing import Any

import numpy as np

from vidjax import errors, storage
from vidjax.data import latents, records
from vidjax.data.clip import Clip, Listing


@dataclasses.dataclass(frozen=True)
class LatentSource:
  """The clips of one split; see `vidjax.data.clip.Source`. It opens shards on demand.

  Attributes:
    path: the folder as the user gave it.
    listing: of all records.
    manifest: what made them.
    shards: full paths of the files.
    ends: number of records up to the end of each of them.
  """

  path: str
  listing: Listing
  manifest: latents.Manifest
  shards: tuple[str, ...]
  ends: tuple[int, ...]

  def __getitem__(self, number: int) -> Clip:
    """Opens clip `number`.

    Raises:
      RuntimeError: the checksum of the record is wrong.
      DataError: the record is none of ours, or of another run.
    """
    shard, row = self._place(number)
    data = records.read(self.shards[shard], row)
    record = latents.parse_record(data)
    if record.made_by != self.manifest.digest:
      raise errors.DataError(
        f"{self.name(number)}: the field 'made_by' is {record.made_by!r}, {latents.MANIFEST} says"
        f" {self.manifest.digest!r}: the shard is of another run"
      )
    frames_THWC = record.frames()
    fps = self.manifest.fps
    stored = (self.manifest.height, self.manifest.width)

    def read(moments_s: np.ndarray, size: tuple[int, int]) -> np.ndarray:
      if tuple(size) != stored:
        raise errors.DataError(
          f"{self.path} holds latents of {stored[0]}x{stored[1]} pixels, {size[0]}x{size[1]} are"
          " asked for: set data.height and data.width to those, or cache latents of this view"
        )
      return frames_THWC[latents.rows_at(moments_s, fps, len(frames_THWC))]

    return Clip(
      clip_id=record.clip_id,
      source=record.source,
      duration_s=record.duration_s,
      read=read,
      times_s=lambda: np.arange(record.num_frames) / fps,
      captions=json.loads(record.captions_json),
      texts=self._texts(record),
      motion_score=record.motion_score,
      scores=json.loads(record.scores_json),
    )

  def _texts(self, record: latents.LatentRecord) -> dict[str, np.ndarray]:
    text = self.manifest.text
    if not text:
      return {}
    none = latents.read_no_text(self.path, (text["length"], text["width"]))
    return {"": none, **record.texts(self.manifest)}

  def name(self, number: int) -> str:
    """Says where clip `number` is, for messages about one that cannot be opened."""
    shard, row = self._place(number)
    return f"{storage.Path(self.shards[shard]).name}[{row}]"

  def _place(self, number: int) -> tuple[int, int]:
    """Shard of record `number`, and its number in there."""
    shard = bisect.bisect_right(self.ends, number)
    return shard, number - (self.ends[shard - 1] if shard else 0)


def open_source(path: str, split: str, options: Mapping[str, Any]) -> LatentSource:
  """Opens a folder that `vidjax cache_latents` wrote.

  Raises:
    ValueError: there are options; this kind of data set has none.
    FileNotFoundError: there is no such folder.
    DataError: no latents are there, another version's, or not all of a split.
  """
  if options:
    raise ValueError(f"{path}: data sets of kind 'latents' have no options, got {sorted(options)}")
  manifest = latents.read_manifest(path)
  index = latents.read_index(path, split)
  if index.made_by != manifest.digest:
    raise errors.DataError(
      f"{latents.index_file(path, split)}: the field 'made_by' is {index.made_by!r},"
      f" {latents.MANIFEST} says {manifest.digest!r}: the folder mixes two runs"
    )
  found = records.shard_files(path, split, latents.WRITER)
  _check_files(found, index)
  clips = len(index.durations_s)
  still = np.isinf(index.durations_s)
  listing = Listing(
    durations_s=index.durations_s,
    fps=np.where(still, np.inf, manifest.fps),
    sizes=np.tile(np.array([manifest.height, manifest.width], np.int32), (clips, 1)),
    digest=index.digest,
  )
  return LatentSource(path, listing, manifest, tuple(str(file) for file in found), index.ends)


def _check_files(found: list[Any], index: latents.Index) -> None:
  """Refuses shards that are not those of the index."""
  names = tuple(file.name for file in found)
  if names != index.shards:
    raise errors.DataError(
      f"{found[0].parent} has the shards {', '.join(names)}, but its index says"
      f" {', '.join(index.shards)}: the copy is incomplete or mixes two runs"
    )
  for file, size in zip(found, index.sizes, strict=True):
    if (length := file.stat().length) != size:
      raise errors.DataError(
        f"shard {file} has {length} bytes, its index says {size}: the copy is cut short"
      )
