"""What one training clip is on disk: the only place where its record fields are named.

Curated clips live in ArrayRecord files laid out as TFDS does (`vidjax.data.records`).
"""

import dataclasses
import json
from typing import Any

from vidjax import errors, storage
from vidjax.data import records

DATASET_NAME = "clips"
DATASET_VERSION = "1.0.0"
SPLITS = ("train", "holdout")
_WRITER = "vidjax curate"

to_json = records.to_json

# Kind of each field in the Example: b bytes, s text (UTF-8), i int64, f float32.
FIELDS: records.Fields = {
  "clip_id": "s",
  "source": "s",
  "video": "b",
  "num_frames": "i",
  "fps": "f",
  "width": "i",
  "height": "i",
  "start_time_s": "f",
  "end_time_s": "f",
  "motion_score": "f",
  "captions_json": "s",
  "scores_json": "s",
}


@dataclasses.dataclass(frozen=True)
class ClipRecord:
  """One clip as stored in a shard.

  Attributes:
    clip_id: Unique and stable: a hash of the source's content and the clip's span.
    source: Path of the source video, relative to the curated folder.
    video: The clip as a whole mp4 file (H.264, yuv420p, upright, square pixels, even sizes).
    num_frames: Number of frames in `video`.
    fps: Mean frame rate of `video` in frames per second; the time stamps inside are authoritative.
    width: Width of `video` in pixels.
    height: Height of `video` in pixels.
    start_time_s: Where the clip starts in its source, in seconds.
    end_time_s: Where it ends, exclusive.
    motion_score: Mean Farneback flow in pixels per second, frames scaled to a shorter side of 16;
      NaN where the clip is too short for it.
    captions_json: JSON object, name of the captioner -> text.
    scores_json: JSON object, name -> number or null.
  """

  clip_id: str
  source: str
  video: bytes
  num_frames: int
  fps: float
  width: int
  height: int
  start_time_s: float
  end_time_s: float
  motion_score: float
  captions_json: str = "{}"
  scores_json: str = "{}"

  @property
  def captions(self) -> dict[str, str]:
    """Captions by the name of who wrote them."""
    return json.loads(self.captions_json)

  @property
  def scores(self) -> dict[str, float | None]:
    """Further scores by name."""
    return json.loads(self.scores_json)


def serialize_record(record: ClipRecord) -> bytes:
  """Returns the record as `tf.train.Example` bytes; equal records give equal bytes."""
  return records.encode(FIELDS, record)


def parse_record(data: bytes) -> ClipRecord:
  """Reads one record of a shard.

  Raises:
    DataError: the bytes are no Example, or a field is missing.
  """
  return ClipRecord(**records.decode(FIELDS, data, _WRITER))


def shard_name(split: str, index: int, count: int) -> str:
  """File name of a shard, TFDS's default template."""
  return records.shard_name(DATASET_NAME, split, index, count)


def shard_files(directory: Any, split: str) -> list[Any]:
  """Lists the shards of one split, in order.

  Args:
    directory: What `vidjax curate --out` wrote, or the `shards` folder inside; local or remote.
    split: "train" or "holdout".

  Returns:
    Paths (as of `vidjax.storage.Path`), sorted by shard number; never empty.

  Raises:
    FileNotFoundError: the folder does not exist.
    DataError: no shard of this split is there, or one of the set is missing.
  """
  return records.shard_files(directory, split, _WRITER)


def check_version(folder: Any) -> None:
  """Refuses shards whose metadata, where there are any, state another major version.

  Raises:
    DataError: names the file and what it says.
  """
  file = storage.Path(folder) / "dataset_info.json"
  if not file.exists():
    return
  version = str(storage.read_json(file).get("version", ""))
  if version.partition(".")[0] != DATASET_VERSION.partition(".")[0]:
    raise errors.DataError(
      f"{file}: the field 'version' is {version!r}, this code reads {DATASET_VERSION}: curate the"
      " videos again, or use the release that wrote them"
    )


def tfds_features() -> Any:
  """The same fields as a `tfds.features.FeaturesDict` (imports TFDS: slow, for writers only)."""
  return records.tfds_features(FIELDS)
