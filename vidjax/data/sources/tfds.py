"""Any TFDS data set in ArrayRecord files that shows videos or pictures.

What `tfds.builder_from_directory(path).as_data_source(split)` opens, opened without TFDS in the
decoding processes: records are parsed as in `vidjax.data.schema`, and of the frames of a video only
those are decoded that are shown. TFDS itself is asked for the splits ("train[:10%]"), once.

Legend: T frames, H W height and width in pixels, C colours (RGB).
"""

import bisect
from collections.abc import Mapping
import dataclasses
import functools
import hashlib
import itertools
import json
import math
from typing import Any

import numpy as np

from vidjax import errors, storage
from vidjax.data import records, transforms, video
from vidjax.data.clip import Clip, Listing
from vidjax.data.sources import index, media, tfds_features, tfds_plan
from vidjax.data.sources import options as data_options

_OPTIONS = ("video", "image", "caption", "fps")
_DAMAGE = (*media.DAMAGE, RuntimeError)


@dataclasses.dataclass(frozen=True)
class Shard:
  """Some records of a file: `count` of them from `first` on."""

  file: str
  first: int
  count: int


@dataclasses.dataclass(frozen=True)
class TfdsSource:
  """The clips of a split; see `vidjax.data.clip.Source`.

  Attributes:
    path: as the user gave it.
    listing: of all clips.
    shards: where the records are.
    ends: number of records up to the end of each of them.
    plan: what a record shows.
  """

  path: str
  listing: Listing
  shards: tuple[Shard, ...]
  ends: tuple[int, ...]
  plan: tfds_plan.Plan

  def __getitem__(self, number: int) -> Clip:
    file, record = self._place(number)
    return as_clip(records.read(file, record), self.name(number), self.plan)

  def name(self, number: int) -> str:
    """Name of the file and number of the record in it."""
    file, record = self._place(number)
    return f"{storage.Path(file).name}[{record}]"

  def _place(self, number: int) -> tuple[str, int]:
    position = bisect.bisect_right(self.ends, number)
    shard = self.shards[position]
    return shard.file, shard.first + number - (self.ends[position] - shard.count)


def open_source(path: str, split: str, options: Mapping[str, Any]) -> TfdsSource:
  """Opens a prepared TFDS data set.

  The digest is of the data set's name, version and config, the names and lengths of the shards and
  what is read from records (features, frame rate). It is not of the records: a data set whose
  content has changed has another version.

  Args:
    path: folder of one version, with `dataset_info.json`.
    split: as TFDS understands it, "train[:10%]" for instance.
    options: `video` or `image`, the feature that is shown; `caption`, the feature or features
      with texts or classes, or a map from names to them; `fps` of videos that are stored as
      frames, a number or a feature.

  Raises:
    ValueError: an unknown option, or one that does not fit the features.
    FileNotFoundError: there is no such folder.
    DataError: it is no TFDS data set in ArrayRecord files, has no such split, or lacks a shard.
  """
  data_options.check("tfds", options, _OPTIONS)
  info = read_info(path)
  plan = tfds_plan.make(path, tfds_features.read_features(path), options)
  shards = find_shards(path, info, split)
  identity = [
    [info.get(key, "") for key in ("name", "version", "configName")],
    [[storage.Path(shard.file).name, shard.first, shard.count] for shard in shards],
    dataclasses.asdict(plan),
  ]
  digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
  return TfdsSource(
    path=path,
    listing=_listing(path, shards, plan, digest),
    shards=shards,
    ends=tuple(itertools.accumulate(shard.count for shard in shards)),
    plan=plan,
  )


def read_info(path: str) -> dict[str, Any]:
  """Content of `dataset_info.json`.

  Raises:
    FileNotFoundError: there is no such folder.
    DataError: there is no such file in it, or its records are in no ArrayRecord files.
  """
  folder = storage.Path(path)
  if not folder.is_dir():
    raise FileNotFoundError(f"data folder {path} does not exist, or is no folder")
  file = folder / "dataset_info.json"
  if not file.exists():
    below = [f for depth in ("*", "*/*") for f in folder.glob(f"{depth}/dataset_info.json")]
    places = ", ".join(sorted(str(found.parent) for found in below)[:5])
    raise errors.DataError(
      f"{path} holds no dataset_info.json: give the folder of a version of a TFDS data set"
      + (f", such as {places}" if places else "")
    )
  try:
    info = storage.read_json(file)
  except ValueError as error:
    raise errors.DataError(str(error)) from error
  formats = [info.get("fileFormat", "tfrecord"), *info.get("alternativeFileFormats", [])]
  if "array_record" not in formats:
    raise errors.DataError(
      f"{path} is stored as {formats[0]}, which has no random access: prepare it with"
      " file_format='array_record', or convert it with `tfds convert_format`"
    )
  return info


def find_shards(path: str, info: Mapping[str, Any], split: str) -> tuple[Shard, ...]:
  """Where the records of a split are, as TFDS understands it; `info` is of `read_info`.

  Raises:
    DataError: there is no such split, it is empty, or lacks a shard.
  """
  import tensorflow_datasets as tfds

  splits = []
  file = storage.Path(path) / "dataset_info.json"
  for entry in info.get("splits", []):
    for name in (info["name"], entry["name"], entry.get("filepathTemplate") or "default"):
      storage.check_below(name, file, errors.DataError)
    template = tfds.core.ShardedFileTemplate(
      data_dir=storage.Path(path),
      dataset_name=info["name"],
      filetype_suffix="array_record",
      split=entry["name"],
    )
    if entry.get("filepathTemplate"):
      template = template.replace(template=entry["filepathTemplate"])
    lengths = [int(length) for length in entry.get("shardLengths", [])]
    splits.append(
      tfds.core.SplitInfo(
        name=entry["name"],
        shard_lengths=lengths,
        num_bytes=int(entry.get("numBytes", 0)),
        filename_template=template,
      )
    )
  try:
    instructions = tfds.core.SplitDict(splits)[split].file_instructions
  except (ValueError, KeyError, AssertionError) as error:
    known = ", ".join(f"{info.name} ({info.num_examples})" for info in splits)
    raise errors.DataError(f"{path} has no split {split!r}, it has {known}: {error}") from error
  shards = tuple(Shard(str(i.filename), i.skip, i.take) for i in instructions if i.take)
  if not shards:
    raise errors.DataError(f"{path}: the split {split!r} has no records")
  ends: dict[str, int] = {}
  for shard in sorted(shards, key=lambda shard: (shard.file, shard.first)):
    if not storage.Path(shard.file).exists():
      raise errors.DataError(f"shard {shard.file} of the split {split!r} does not exist")
    if shard.first < ends.get(shard.file, 0):
      raise errors.DataError(f"{path}: the split {split!r} has the same records twice")
    ends[shard.file] = shard.first + shard.count
  return shards


def as_clip(record: bytes, name: str, plan: tfds_plan.Plan) -> Clip:
  """Reads a record; the frames of a video are decoded later.

  Raises:
    DataError: it is no Example, or lacks what is shown.
    one of `media.DAMAGE`: the encoded video in it cannot be opened.
  """
  example = tfds_features.parse(record)
  captions = plan.texts(example)
  if plan.shows == "file":
    content = tfds_features.blob(example, plan.shown.key)
    return media.clip_of_bytes(content, plan.picture, clip_id=name, source=name, captions=captions)
  frames = tfds_features.frames(example, plan.shown)
  fps = math.inf if plan.picture else plan.rate(example)
  times_s = np.zeros(1) if plan.picture else np.arange(len(frames)) / fps
  return Clip(
    clip_id=name,
    source=name,
    duration_s=math.inf if plan.picture else len(frames) / fps,
    read=functools.partial(_read_frames, frames, times_s),
    times_s=lambda: times_s,
    captions=captions,
  )


def _read_frames(
  frames: tfds_features.Frames, times_s: np.ndarray, moments_s: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
  moments_s = np.asarray(moments_s) + video.TIME_TOLERANCE_S
  shown = np.maximum(np.searchsorted(times_s, moments_s, side="right") - 1, 0)
  scaled = {int(i): transforms.cover(frames[int(i)][None], size)[0] for i in np.unique(shown)}
  return np.stack([scaled[int(i)] for i in shown])


def _listing(path: str, shards: tuple[Shard, ...], plan: tfds_plan.Plan, digest: str) -> Listing:
  """From the features where they say how long all clips are, else from all records."""
  facts = plan.constant_facts()
  if facts is not None:
    count = sum(shard.count for shard in shards)
    sizes = np.tile(np.array([[facts.height, facts.width]], np.int32), (count, 1))
    return Listing(np.full(count, facts.duration_s), np.full(count, facts.fps), sizes, digest)
  units, by_name = [], {}
  for shard in shards:
    file = storage.Path(shard.file)
    name = f"{file.name}[{shard.first}:{shard.first + shard.count}]"
    stat = file.stat()
    units.append(index.Unit(name, f"{stat.length} {stat.mtime}"))
    by_name[name] = shard
  found, _ = index.update(
    path, f"index-tfds-{digest[:8]}.npz", units, lambda name: _look(by_name[name], plan)
  )
  return dataclasses.replace(found.listing, digest=digest)


def _look(shard: Shard, plan: tfds_plan.Plan) -> list[index.Row]:
  rows = []
  file = storage.Path(shard.file).name
  for number in range(shard.first, shard.first + shard.count):
    facts, problem, size = media.Facts(), "", 0
    try:
      record = records.read(shard.file, number)
      size = len(record)
      facts = _facts(record, plan)
    except _DAMAGE as error:
      problem = f"{type(error).__name__}: {error}"
    name = f"{file}[{number}]"
    rows.append(index.Row(name, file, size, plan.picture, facts, number, problem=problem))
  return rows


def _facts(record: bytes, plan: tfds_plan.Plan) -> media.Facts:
  example = tfds_features.parse(record)
  if plan.shows == "file":
    return media.describe(tfds_features.blob(example, plan.shown.key), plan.picture)
  frames, fps = tfds_features.frames(example, plan.shown), plan.rate(example)
  return media.Facts(len(frames) / fps, fps, *frames.size())
