"""Records into ArrayRecord shards in TFDS layout, without TensorFlow.

The order is that of a hash of the clip ids: neighbours in a shard come from different videos, and
the order does not depend on how many workers wrote it.
"""

from collections.abc import Iterable
import dataclasses
import hashlib
import tempfile
from typing import Any

from array_record.python import array_record_module  # pyright: ignore[reportAttributeAccessIssue]

from vidjax import storage
from vidjax.data import schema


@dataclasses.dataclass(frozen=True)
class Stored:
  """A serialised record waiting for its shard."""

  clip_id: str
  split: str
  path: str
  num_bytes: int


@dataclasses.dataclass(frozen=True)
class Shard:
  """A written shard."""

  split: str
  index: int
  count: int
  num_records: int
  num_bytes: int


def num_shards(total_bytes: int, megabytes: float) -> int:
  """How many shards a split of this size gets."""
  return max(1, round(total_bytes / (megabytes * 1e6)))


def order(clip_id: str) -> str:
  """Hash by which records are ordered."""
  return hashlib.sha256(f"order {clip_id}".encode()).hexdigest()


def stretch(clip_id: str, count: int) -> int:
  """Which of `count` equal stretches of the hash's range a record is in; one makes a shard."""
  return int(order(clip_id)[:12], 16) * count // 16**12


def write_shard(
  folder: Any, split: str, index: int, count: int, records: Iterable[Stored]
) -> Shard:
  """Writes one shard, whole or not at all.

  Args:
    folder: The `shards` folder, local or remote.
    split: "train" or "holdout".
    index: Number of the shard.
    count: Number of shards of the split.
    records: Its records, in any order.
  """
  records = sorted(records, key=lambda r: order(r.clip_id))
  path = storage.Path(folder) / schema.shard_name(split, index, count)
  with storage.staged(path) as local:
    # One record per group: a random read touches that record only.
    writer = array_record_module.ArrayRecordWriter(local, "group_size:1")
    for record in records:
      writer.write(storage.read_bytes(record.path))
    writer.close()
    _check(local, len(records))
  return Shard(split, index, count, len(records), sum(r.num_bytes for r in records))


def _check(local: str, expected: int) -> None:
  """The writer reports no full disk; a shard that reads back is whole."""
  reader = array_record_module.ArrayRecordReader(local)
  found = reader.num_records() if reader.ok() else 0
  reader.close()
  if found != expected:
    raise OSError(f"shard {local} holds {found} of {expected} records: No space left on device?")


def write_metadata(folder: Any, shards: Iterable[Shard]) -> None:
  """Writes TFDS's description of the shards, and removes shards of an earlier run."""
  import tensorflow_datasets as tfds
  from tensorflow_datasets.core import dataset_info, naming, splits

  by_split: dict[str, list[Shard]] = {}
  for shard in shards:
    by_split.setdefault(shard.split, []).append(shard)
  template = naming.ShardedFileTemplate(
    data_dir=tfds.core.Path(str(folder)),
    dataset_name=schema.DATASET_NAME,
    filetype_suffix="array_record",
  )
  infos = [
    splits.SplitInfo(
      name=split,
      shard_lengths=[s.num_records for s in sorted(parts, key=lambda s: s.index)],
      num_bytes=sum(s.num_bytes for s in parts),
      filename_template=template.replace(split=split),
    )
    for split, parts in sorted(by_split.items())
  ]
  identity = dataset_info.DatasetIdentity(
    name=schema.DATASET_NAME,
    version=tfds.core.Version(schema.DATASET_VERSION),
    data_dir=str(folder),
    module_name="",
  )
  info = tfds.core.DatasetInfo(
    builder=identity,  # type: ignore[arg-type]
    features=schema.tfds_features(),
    description="Clips cut, scored and selected by vidjax curate.",
  )
  info.set_file_format("array_record")
  info.set_splits(splits.SplitDict(infos))
  expected = {
    schema.shard_name(s.split, s.index, s.count) for parts in by_split.values() for s in parts
  }
  root = storage.Path(folder)
  for path in root.iterdir() if root.exists() else ():
    if path.name not in expected:
      storage.remove(path)
  with tempfile.TemporaryDirectory(prefix="vidjax-") as local:
    info.write_to_directory(local)
    storage.publish(local, folder)
