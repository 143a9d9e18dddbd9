"""Shards of records and TFDS's description of them, for whoever writes a data set.

Reading them is `vidjax.data.records`.
"""

from collections.abc import Iterable
import dataclasses
import tempfile
from typing import Any, NamedTuple

from array_record.python import array_record_module  # pyright: ignore[reportAttributeAccessIssue]

from vidjax import storage
from vidjax.data import records


@dataclasses.dataclass(frozen=True)
class Shard:
  """A written shard; `num_bytes` are those of its records, `sha256` is that of the file."""

  split: str
  index: int
  count: int
  num_records: int
  num_bytes: int
  sha256: str = ""


class Written(NamedTuple):
  """What a shard holds, and the SHA-256 of its file in hex."""

  num_records: int
  num_bytes: int
  sha256: str


def write_shard(path: Any, contents: Iterable[bytes], *, compressed: bool = True) -> Written:
  """Writes one shard, whole or not at all.

  Args:
    path: of the file, local or remote.
    contents: records in their order.
    compressed: off for what does not shrink anyway: inflating costs more than reading.
  """
  count = size = 0
  with storage.staged(path) as local:
    # One record per group: a random read touches that record only.
    options = "group_size:1" if compressed else "group_size:1,uncompressed"
    writer = array_record_module.ArrayRecordWriter(local, options)
    for content in contents:
      writer.write(content)
      count, size = count + 1, size + len(content)
    writer.close()
    _check(local, count)
    digest = storage.sha256(local)
  return Written(count, size, digest)


def _check(local: str, expected: int) -> None:
  """The writer reports no full disk; a shard that reads back is whole."""
  reader = array_record_module.ArrayRecordReader(local)
  found = reader.num_records() if reader.ok() else 0
  reader.close()
  if found != expected:
    raise OSError(f"shard {local} holds {found} of {expected} records: No space left on device?")


def write_metadata(
  folder: Any,
  shards: Iterable[Shard],
  fields: records.Fields,
  *,
  dataset: str,
  version: str,
  description: str,
) -> None:
  """Writes TFDS's description of the shards beside them (imports TFDS: slow)."""
  import tensorflow_datasets as tfds
  from tensorflow_datasets.core import dataset_info, naming, splits

  by_split: dict[str, list[Shard]] = {}
  for shard in shards:
    by_split.setdefault(shard.split, []).append(shard)
  template = naming.ShardedFileTemplate(
    data_dir=tfds.core.Path(str(folder)), dataset_name=dataset, filetype_suffix="array_record"
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
    name=dataset, version=tfds.core.Version(version), data_dir=str(folder), module_name=""
  )
  info = tfds.core.DatasetInfo(
    builder=identity,  # type: ignore[arg-type]
    features=records.tfds_features(fields),
    description=description,
  )
  info.set_file_format("array_record")
  info.set_splits(splits.SplitDict(infos))
  with tempfile.TemporaryDirectory(prefix="vidjax-") as local:
    info.write_to_directory(local)
    storage.publish(local, folder)
