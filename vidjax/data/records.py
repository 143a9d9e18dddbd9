"""Records as `tf.train.Example`, in ArrayRecord shards that are laid out and named as TFDS does.

`tfds.builder_from_directory(dir).as_data_source("train")` opens such shards. Importing TFDS costs
seconds and every data worker would pay them, so records are read and written here with the same
wire format described to protobuf directly: same bytes, light import. What the fields are is said by
`vidjax.data.schema` (clips) and `vidjax.data.latents`; who writes shards uses
`vidjax.data.shard_writer`.
"""

from collections.abc import Mapping
import functools
import json
import re
from typing import Any

from array_record.python import array_record_module  # pyright: ignore[reportAttributeAccessIssue]
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from vidjax import errors, storage

# Name of a field -> its kind: b bytes, s text (UTF-8), i int64, f float32.
Fields = Mapping[str, str]


def to_json(mapping: Mapping[str, Any]) -> str:
  """Canonical JSON text of a map (sorted keys), so that equal maps give equal records."""
  return json.dumps(dict(mapping), sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def encode(fields: Fields, record: Any) -> bytes:
  """The attributes `fields` of `record` as `tf.train.Example`; equal ones give equal bytes."""
  example = _Example()
  for name, kind in fields.items():
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


def decode(fields: Fields, data: bytes, writer: str) -> dict[str, Any]:
  """Reads one record; `writer` is the command that writes such records, for messages.

  Raises:
    DataError: the bytes are no Example, or a field is missing.
  """
  features = parse_example(data)
  values = {}
  for name, kind in fields.items():
    if name not in features:
      raise errors.DataError(
        f"record lacks the field {name!r} (it has {sorted(features)}): not written by this version "
        f"of `{writer}`"
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
  return values


def tfds_features(fields: Fields) -> Any:
  """The same fields as a `tfds.features.FeaturesDict` (imports TFDS: slow, for writers only)."""
  import numpy as np
  import tensorflow_datasets as tfds

  kinds = {
    "b": tfds.features.Tensor(shape=(), dtype=np.object_),
    "s": tfds.features.Text(),
    "i": tfds.features.Scalar(np.int64),
    "f": tfds.features.Scalar(np.float32),
  }
  return tfds.features.FeaturesDict({name: kinds[kind] for name, kind in fields.items()})


def shard_name(dataset: str, split: str, index: int, count: int) -> str:
  """File name of a shard, TFDS's default template."""
  return f"{dataset}-{split}.array_record-{index:05d}-of-{count:05d}"


def shard_files(directory: Any, split: str, writer: str) -> list[Any]:
  """Lists the shards of one split, in order.

  Args:
    directory: the folder of the shards, or one with a folder `shards` in it; local or remote.
    split: such as "train".
    writer: the command that writes such shards, for messages.

  Returns:
    Paths (as of `vidjax.storage.Path`), sorted by shard number; never empty.

  Raises:
    FileNotFoundError: the folder does not exist.
    DataError: no shard of this split is there, or one of the set is missing.
  """
  root = storage.Path(directory)
  if not root.exists():
    raise FileNotFoundError(f"data folder {root} does not exist; write it with `{writer}`")
  folder = _folder(root)
  found = _numbered(folder, split)
  if not found:
    raise errors.DataError(f"{folder} has no ArrayRecord shard of the split {split!r}")
  expected = found[0][1]
  if [index for index, _, _ in found] != list(range(expected)):
    raise errors.DataError(
      f"{folder} has {len(found)} shards of the split {split!r}, but their names say there are "
      f"{expected}: the copy is incomplete or mixes two runs"
    )
  return [folder / name for _, _, name in found]


def has_shards(directory: Any, split: str) -> bool:
  """Whether `directory` holds shards of the split."""
  root = storage.Path(directory)
  return root.exists() and bool(_numbered(_folder(root), split))


def _folder(root: Any) -> Any:
  return root / "shards" if (root / "shards").exists() else root


def _numbered(folder: Any, split: str) -> list[tuple[int, int, str]]:
  """(index, count, name) of all shards of `split`, sorted."""
  pattern = re.compile(rf".+-{re.escape(split)}\.array_record-(\d+)-of-(\d+)")
  return sorted(
    (int(match[1]), int(match[2]), path.name)
    for path in folder.iterdir()
    if (match := pattern.fullmatch(path.name))
  )


@functools.lru_cache(maxsize=1024)
def open_shard(path: str) -> Any:
  """Opens a shard once in each process (the reader itself may be used from many threads).

  Raises:
    DataError: there is no such file, or it is no ArrayRecord.
  """
  # The reader neither fails nor says anything if the file is missing or is no ArrayRecord.
  if not storage.Path(path).exists():
    raise errors.DataError(f"shard {path} does not exist")
  # Records are read in random order: what follows one of them is not needed next.
  options = "readahead_buffer_size:0"
  reader = array_record_module.ArrayRecordReader(storage.cached_copy(path), options)
  if not reader.ok():
    raise errors.DataError(f"shard {path} is not an ArrayRecord file, or it is cut short")
  return reader


def read(path: str, number: int) -> bytes:
  """Record `number` of a shard.

  Raises:
    DataError: as `open_shard`, or there is no such record.
    RuntimeError: the record is damaged.
  """
  reader = open_shard(path)
  if number >= reader.num_records():
    raise errors.DataError(f"shard {path} has {reader.num_records()} records, no number {number}")
  (record,) = reader.read([number])
  return record


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
