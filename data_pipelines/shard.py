"""Records into ArrayRecord shards in TFDS layout, without TensorFlow.

The order is that of a hash of the clip ids: neighbours in a shard come from different videos, and
the order does not depend on how many workers wrote it.
"""

from collections.abc import Iterable
import dataclasses
import hashlib
from typing import Any

from vidjax import storage
from vidjax.data import schema, shard_writer
from vidjax.data.shard_writer import Shard

# The SHA-256 of each shard, as `sha256sum --check` reads it.
CHECKSUMS = "SHA256SUMS"


@dataclasses.dataclass(frozen=True)
class Stored:
  """A serialised record waiting for its shard.

  Attributes:
    clip_id: Of its clip.
    split: "train" or "holdout"; "" as long as that is open.
    path: Where it waits.
    num_bytes: Its size.
    rung: Shorter side that it belongs to; 0 for the first one, which `shards` holds.
  """

  clip_id: str
  split: str
  path: str
  num_bytes: int
  rung: int = 0


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
  written = shard_writer.write_shard(path, (storage.read_bytes(r.path) for r in records))
  return Shard(split, index, count, *written)


def write_metadata(folder: Any, shards: Iterable[Shard]) -> None:
  """Writes TFDS's description of the shards, and their checksums; removes all of an earlier run."""
  shards = list(shards)
  expected = {schema.shard_name(s.split, s.index, s.count) for s in shards}
  root = storage.Path(folder)
  for path in root.iterdir() if root.exists() else ():
    if path.name not in expected:
      storage.remove(path)
  shard_writer.write_metadata(
    folder,
    shards,
    schema.FIELDS,
    dataset=schema.DATASET_NAME,
    version=schema.DATASET_VERSION,
    description="Clips cut, scored and selected by vidjax curate.",
  )
  named = sorted((schema.shard_name(s.split, s.index, s.count), s.sha256) for s in shards)
  storage.write_text(root / CHECKSUMS, "".join(f"{digest}  {name}\n" for name, digest in named))
