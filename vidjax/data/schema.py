"""What one training clip is on disk: the only place where record fields are named.

Curated clips live in ArrayRecord files laid out as TFDS does, so that
`tfds.builder_from_directory(dir).as_data_source("train")` opens them. A record is one
`tf.train.Example`. Importing TFDS costs seconds and every data worker would pay them, so records
are read and written here with the same wire format described to protobuf directly: same bytes,
light import. Only `tfds_features` (needed once, for the shards' metadata) imports TFDS.
"""

from collections.abc import Mapping
import dataclasses
import json
import re
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from vidjax import errors, storage

DATASET_NAME = "clips"
DATASET_VERSION = "1.0.0"
SPLITS = ("train", "holdout")

# Kind of each field in the Example: b bytes, s text (UTF-8), i int64, f float32.
_FIELDS = {
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


def to_json(mapping: Mapping[str, Any]) -> str:
  """Canonical JSON text of a map (sorted keys), so that equal maps give equal records."""
  return json.dumps(dict(mapping), sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def serialize_record(record: ClipRecord) -> bytes:
  """Returns the record as `tf.train.Example` bytes; equal records give equal bytes."""
  example = _Example()
  for name, kind in _FIELDS.items():
    value = getattr(record, name)
    feature = example.features.feature[name]
    if kind == "b":
      feature.bytes_list.value.append(value)
    elif kind == "s":
      feature.bytes_list.value.append(value.encode())
    elif kind == "i":
      feature.int64_list.value.append(value)
    else:
      feature.float_list.value.append(value)
  return example.SerializeToString(deterministic=True)


def parse_example(data: bytes) -> Mapping[str, Any]:
  """Reads a `tf.train.Example`: its features, as protobuf messages by name.

  Raises:
    DataError: the bytes are none.
  """
  example = _Example()
  try:
    example.ParseFromString(data)
  except Exception as error:  # protobuf's own DecodeError differs between its back ends
    raise errors.DataError(f"record of {len(data)} bytes is not a tf.train.Example") from error
  return example.features.feature


def parse_record(data: bytes) -> ClipRecord:
  """Reads one record of a shard.

  Raises:
    DataError: the bytes are no Example, or a field is missing.
  """
  features = parse_example(data)
  values = {}
  for name, kind in _FIELDS.items():
    if name not in features:
      raise errors.DataError(
        f"record lacks the field {name!r} (it has {sorted(features)}): not written by this version "
        "of `vidjax curate`"
      )
    feature = features[name]
    if kind == "b":
      values[name] = feature.bytes_list.value[0]
    elif kind == "s":
      values[name] = feature.bytes_list.value[0].decode()
    elif kind == "i":
      values[name] = feature.int64_list.value[0]
    else:
      values[name] = feature.float_list.value[0]
  return ClipRecord(**values)


def shard_name(split: str, index: int, count: int) -> str:
  """File name of a shard, TFDS's default template."""
  return f"{DATASET_NAME}-{split}.array_record-{index:05d}-of-{count:05d}"


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
  root = storage.Path(directory)
  if not root.exists():
    raise FileNotFoundError(f"data folder {root} does not exist; write it with `vidjax curate`")
  folder = root / "shards" if (root / "shards").exists() else root
  pattern = re.compile(rf".+-{re.escape(split)}\.array_record-(\d+)-of-(\d+)")
  found = sorted(
    (int(match[1]), int(match[2]), path.name)
    for path in folder.iterdir()
    if (match := pattern.fullmatch(path.name))
  )
  if not found:
    raise errors.DataError(f"{folder} has no ArrayRecord shard of the split {split!r}")
  expected = found[0][1]
  if [index for index, _, _ in found] != list(range(expected)):
    raise errors.DataError(
      f"{folder} has {len(found)} shards of the split {split!r}, but their names say there are "
      f"{expected}: the copy is incomplete or mixes two runs"
    )
  return [folder / name for _, _, name in found]


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
  import numpy as np
  import tensorflow_datasets as tfds

  kinds = {
    "b": tfds.features.Tensor(shape=(), dtype=np.object_),
    "s": tfds.features.Text(),
    "i": tfds.features.Scalar(np.int64),
    "f": tfds.features.Scalar(np.float32),
  }
  return tfds.features.FeaturesDict({name: kinds[kind] for name, kind in _FIELDS.items()})


def _example_class() -> Any:
  """Describes `tf.train.Example` to protobuf under a package of our own.

  The wire format knows numbers and no names, so this reads and writes what TFDS does, and does not
  clash with TFDS's or TensorFlow's own registration of the type.
  """
  kind = descriptor_pb2.FieldDescriptorProto
  file = descriptor_pb2.FileDescriptorProto(
    name="vidjax/example.proto", package="vidjax.example", syntax="proto3"
  )

  def message(name: str, *fields: tuple[str, int, Any, bool]) -> Any:
    proto = file.message_type.add(name=name)
    for field_name, number, field_type, repeated in fields:
      label = kind.LABEL_REPEATED if repeated else kind.LABEL_OPTIONAL
      field = proto.field.add(name=field_name, number=number, label=label)
      if isinstance(field_type, str):
        field.type, field.type_name = kind.TYPE_MESSAGE, f".vidjax.example.{field_type}"
      else:
        field.type = field_type
    return proto

  message("BytesList", ("value", 1, kind.TYPE_BYTES, True))
  message("FloatList", ("value", 1, kind.TYPE_FLOAT, True))
  message("Int64List", ("value", 1, kind.TYPE_INT64, True))
  message(
    "Feature",
    ("bytes_list", 1, "BytesList", False),
    ("float_list", 2, "FloatList", False),
    ("int64_list", 3, "Int64List", False),
  )
  features = message("Features", ("feature", 1, "Features.FeatureEntry", True))
  entry = features.nested_type.add(name="FeatureEntry")
  entry.field.add(name="key", number=1, type=kind.TYPE_STRING, label=kind.LABEL_OPTIONAL)
  entry.field.add(
    name="value",
    number=2,
    type=kind.TYPE_MESSAGE,
    type_name=".vidjax.example.Feature",
    label=kind.LABEL_OPTIONAL,
  )
  entry.options.map_entry = True
  message("Example", ("features", 1, "Features", False))
  pool = descriptor_pool.DescriptorPool()
  pool.Add(file)
  return message_factory.GetMessageClass(pool.FindMessageTypeByName("vidjax.example.Example"))


_Example = _example_class()
