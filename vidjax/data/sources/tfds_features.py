"""What the records of a TFDS data set hold: its `features.json`, and values out of an Example.

Both are read here without TFDS: decoding processes start faster, and TFDS cannot even describe a
`Video` feature where TensorFlow is not installed.

Legend: T frames, H W height and width in pixels, C channels.
"""

from collections.abc import Iterator, Mapping
import dataclasses
import math
from typing import Any
import zlib

import numpy as np

from vidjax import errors, storage
from vidjax.data import pictures, records

# Raw pixels of one record, unpacked: 1000 frames of 1024 x 1024. Protobuf bounds the record itself.
MAX_RAW_BYTES = 1 << 32


@dataclasses.dataclass(frozen=True)
class Feature:
  """One leaf of the tree of features.

  Attributes:
    key: its names from the root, with "/" between: its key in an Example, too.
    kind: "image" (an encoded picture), "text", "label" or "tensor".
    length: None for a single value; for a sequence its length, -1 if that varies.
    nested: it is a sequence of sequences, which is not read.
    shape: of a value, -1 for what varies; of an image (H, W, C).
    dtype: name of the type of numbers, "string" for bytes.
    encoding: of a tensor: "none", "bytes" or "zlib".
    labels: names of the classes.
    video: it is a `tfds.features.Video`.
  """

  key: str
  kind: str
  length: int | None = None
  nested: bool = False
  shape: tuple[int, ...] = ()
  dtype: str = ""
  encoding: str = "none"
  labels: tuple[str, ...] = ()
  video: bool = False

  @property
  def shows(self) -> str:
    """What it can show: "picture", "frames", "file" (an encoded file), or ""."""
    if self.nested:
      return ""
    if self.kind == "image" and self.dtype in ("", "uint8", "uint16"):
      return "picture" if self.length is None else "frames"
    if self.kind == "text" or (self.kind == "tensor" and self.dtype in ("string", "object")):
      return "file" if self.length is None and not self.shape else ""
    if self.kind == "tensor" and self.dtype == "uint8" and self.shape[-1:] in ((1,), (3,), (4,)):
      rank = len(self.shape) + (self.length is not None)
      return {3: "picture", 4: "frames"}.get(rank, "")
    return ""

  @property
  def frame_count(self) -> int:
    """Number of frames of each video, -1 if it varies."""
    return self.shape[0] if self.length is None else self.length

  @property
  def size(self) -> tuple[int, int]:
    """(height, width) of every picture, 0 for what varies."""
    height, width = self.shape[-3:-1] if len(self.shape) >= 3 else (0, 0)
    return (height, width) if height > 0 and width > 0 else (0, 0)


def read_features(folder: Any) -> dict[str, Feature]:
  """Reads the features of a data set, by their keys, in their order.

  Raises:
    DataError: there is no description, or one by a TFDS older than 4.6.
  """
  file = storage.Path(folder) / "features.json"
  try:
    tree = storage.read_json(file)
  except (FileNotFoundError, ValueError) as error:
    raise errors.DataError(f"{file} cannot be read: {error}") from error
  if "featuresDict" not in tree:
    raise errors.DataError(
      f"{file} has no field 'featuresDict': written by a TFDS before 4.6; prepare the data again"
    )
  return {feature.key: feature for feature in _walk(tree, storage.Path(folder), [], [])}


def _walk(
  tree: Mapping[str, Any], folder: Any, path: list[str], lengths: list[int]
) -> Iterator[Feature]:
  """Leaves below a node; `lengths` are those of the sequences around it."""
  if "featuresDict" in tree:
    for name, child in tree["featuresDict"].get("features", {}).items():
      yield from _walk(child, folder, [*path, name], lengths)
    return
  for kind in ("sequence", "dataset"):
    if kind in tree:
      length = int(tree[kind].get("length", -1))
      yield from _walk(tree[kind]["feature"], folder, path, [*lengths, length])
      return
  shape: tuple[int, ...] = ()
  kind = next((k for k in ("video", "image", "text", "classLabel", "tensor") if k in tree), "")
  content = tree.get(kind, {})
  if kind in ("video", "image", "tensor"):
    shape = tuple(int(n) for n in content.get("shape", {}).get("dimensions", ()))
  if kind == "video":
    lengths = [*lengths, shape[0] if shape else -1]
    shape = shape[1:]
  labels: tuple[str, ...] = ()
  names = folder / f"{'-'.join(name.replace('/', '.') for name in path)}.labels.txt"
  if kind == "classLabel" and names.exists():
    labels = tuple(line.strip() for line in storage.read_text(names).split("\n") if line.strip())
  yield Feature(
    key="/".join(path),
    kind={"video": "image", "classLabel": "label"}.get(kind, kind),
    length=lengths[-1] if lengths else None,
    nested=len(lengths) > 1,
    shape=shape,
    dtype=content.get("dtype", ""),
    encoding=content.get("encoding", "none"),
    labels=labels,
    video=kind == "video",
  )


def parse(record: bytes) -> Mapping[str, Any]:
  """The features of a record, as protobuf messages by key.

  Raises:
    DataError: it is no `tf.train.Example`.
  """
  return records.parse_example(record)


def texts(example: Mapping[str, Any], feature: Feature) -> list[str]:
  """Texts, or names of classes, in a record; empty ones and unknown classes are left out."""
  if feature.key not in example:
    return []
  value = example[feature.key]
  if feature.kind == "label":
    numbers = [int(number) for number in value.int64_list.value]
    names = feature.labels
    found = [names[n] if n < len(names) else str(n) for n in numbers if n >= 0]
  elif feature.dtype in ("", "string", "object"):
    found = [text.decode("utf-8", "replace").strip() for text in value.bytes_list.value]
  else:
    found = [f"{number:g}" for number in (*value.int64_list.value, *value.float_list.value)]
  return [text for text in dict.fromkeys(found) if text]


def number(example: Mapping[str, Any], key: str) -> float:
  """A number in a record.

  Raises:
    DataError: there is none.
  """
  value = example.get(key)
  values = [] if value is None else [*value.float_list.value, *value.int64_list.value]
  if len(values) != 1 or not math.isfinite(values[0]):
    raise errors.DataError(f"the record has no number {key!r}")
  return float(values[0])


def blob(example: Mapping[str, Any], key: str) -> bytes:
  """The bytes of a feature that holds one encoded file or picture.

  Raises:
    DataError: there are none.
  """
  values = example[key].bytes_list.value if key in example else ()
  if len(values) != 1 or not values[0]:
    raise errors.DataError(f"the record has no bytes in {key!r}")
  return values[0]


@dataclasses.dataclass(frozen=True)
class Frames:
  """The frames of one record, each decoded when it is asked for.

  Attributes:
    encoded: the pictures, or
    raw: the pixels of all of them, (T, H, W, C) uint8.
  """

  encoded: tuple[bytes, ...] = ()
  raw: np.ndarray | None = None

  def __len__(self) -> int:
    return len(self.encoded) if self.raw is None else len(self.raw)

  def __iter__(self) -> Iterator[np.ndarray]:
    return (self[number] for number in range(len(self)))

  def __getitem__(self, number: int) -> np.ndarray:
    """Frame `number`, (H, W, 3) uint8."""
    if self.raw is not None:
      return pictures.to_rgb(self.raw[number])
    return pictures.read(self.encoded[number])

  def size(self) -> tuple[int, int]:
    """(height, width) of the first one."""
    if self.raw is not None:
      return (self.raw.shape[1], self.raw.shape[2])
    return pictures.probe(self.encoded[0])


def frames(example: Mapping[str, Any], feature: Feature) -> Frames:
  """The frames, or the one picture, of a record.

  Raises:
    DataError: there are none, or the pixels do not fit the shape.
  """
  encoded = feature.kind == "image"
  dynamic = not encoded and feature.shape.count(-1) > 1
  key = f"{feature.key}/value" if dynamic else feature.key
  if key not in example:
    raise errors.DataError(f"the record has no feature {key!r}")
  values = example[key].bytes_list.value
  if encoded:
    found = Frames(encoded=tuple(values))
  else:
    found = Frames(raw=_pixels(example, feature, key))
  if not len(found):
    raise errors.DataError(f"the record has no frame in {key!r}")
  return found


def _unpacked(part: bytes) -> bytes:
  unpacker = zlib.decompressobj()
  content = unpacker.decompress(part, MAX_RAW_BYTES)
  if unpacker.unconsumed_tail:
    raise errors.DataError(f"pixels of more than {MAX_RAW_BYTES} bytes (a decompression bomb)")
  if not unpacker.eof:
    raise zlib.error("they are cut short")
  return content


def _pixels(example: Mapping[str, Any], feature: Feature, key: str) -> np.ndarray:
  """Raw pixels; a single picture becomes one frame."""
  shape = feature.shape
  if shape.count(-1) > 1:
    shape = tuple(example[f"{feature.key}/shape"].int64_list.value)
  if feature.encoding == "none":
    flat = np.array(example[key].int64_list.value, np.uint8)
  else:
    parts = example[key].bytes_list.value
    try:
      parts = [_unpacked(part) if feature.encoding == "zlib" else part for part in parts]
    except zlib.error as error:
      raise errors.DataError(f"the pixels of {key!r} are damaged: {error}") from error
    flat = np.frombuffer(b"".join(parts), np.uint8)
  # The values of a sequence lie one after the other.
  try:
    return flat.reshape(-1, *shape[-3:]) if len(shape) == 3 else flat.reshape(shape)
  except ValueError as error:
    raise errors.DataError(f"{len(flat)} values of {key!r} do not fit {shape}") from error
