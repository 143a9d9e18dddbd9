"""Reading and writing safetensors files, one tensor at a time, on any kind of path.

The format (huggingface/safetensors, README "Format"): 8 bytes with the length of the header, a JSON
header with dtype, shape and byte range of each tensor, then the bytes, little-endian, C order.
Written here rather than with the library of that name, which wants whole models in memory to write,
local files to read, and has no bfloat16 in numpy.
"""

from collections.abc import Callable, Iterator, Mapping
import dataclasses
import json
import struct
from typing import Any

import ml_dtypes
import numpy as np

from vidjax import storage

MAX_SHARD_BYTES = 10_000_000_000  # as diffusers and transformers split by default

_DTYPES = {
  "F64": np.dtype(np.float64),
  "F32": np.dtype(np.float32),
  "F16": np.dtype(np.float16),
  "BF16": np.dtype(ml_dtypes.bfloat16),
  "I64": np.dtype(np.int64),
  "I32": np.dtype(np.int32),
  "U8": np.dtype(np.uint8),
  "BOOL": np.dtype(np.bool_),
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


@dataclasses.dataclass(frozen=True)
class Tensor:
  """A tensor in a file, not yet read.

  Attributes:
    path: the file.
    dtype: as stored.
    shape: as stored.
    start: first byte in the file.
  """

  path: storage.Path
  dtype: np.dtype
  shape: tuple[int, ...]
  start: int

  @property
  def nbytes(self) -> int:
    """Size in bytes."""
    return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

  def read(self) -> np.ndarray:
    """The values."""
    with storage.open_read(self.path) as file:
      file.seek(self.start)
      data = file.read(self.nbytes)
    if len(data) != self.nbytes:
      raise ValueError(f"{self.path} is shorter than its header says: copy it again")
    return np.frombuffer(data, self.dtype).reshape(self.shape)


def tensors(folder: storage.PathLike, stem: str) -> dict[str, Tensor]:
  """Lists the tensors of a model by name.

  Args:
    folder: folder of the model.
    stem: name of the file without suffix; it may be split in shards with an index.

  Raises:
    ValueError: the files are not there or broken; the message names them.
  """
  root = storage.Path(folder)
  for variant in ("", ".fp16"):
    index = root / f"{stem}.safetensors.index{variant}.json"
    single = root / f"{stem}{variant}.safetensors"
    if index.exists():
      files = sorted(set(storage.read_json(index)["weight_map"].values()))
      missing = [name for name in files if not (root / name).exists()]
      if missing:
        raise ValueError(f"{root / missing[0]} is missing, {index.name} names it: copy it again")
      return {name: t for file in files for name, t in _header(root / file).items()}
    if single.exists():
      return _header(single)
  raise ValueError(f"{root / stem}.safetensors does not exist: copy the weights, as safetensors")


def write(
  folder: storage.PathLike,
  stem: str,
  specs: Mapping[str, tuple[np.dtype, tuple[int, ...]]],
  value: Callable[[str], np.ndarray],
  max_shard_bytes: int = MAX_SHARD_BYTES,
) -> list[storage.Path]:
  """Writes a model, holding one tensor at a time.

  Args:
    folder: folder of the model.
    stem: name of the file without suffix.
    specs: dtype and shape of each tensor by name.
    value: gives the tensor of a name.
    max_shard_bytes: a larger model is split in files with an index.

  Returns:
    The files written.
  """
  root = storage.Path(folder)
  shards = _split(specs, max_shard_bytes)
  if len(shards) == 1:
    path = root / f"{stem}.safetensors"
    _write_file(path, shards[0], specs, value)
    return [path]
  paths, weight_map = [], {}
  for number, names in enumerate(shards, 1):
    paths.append(root / f"{stem}-{number:05d}-of-{len(shards):05d}.safetensors")
    _write_file(paths[-1], names, specs, value)
    weight_map |= dict.fromkeys(names, paths[-1].name)
  total = sum(_nbytes(*spec) for spec in specs.values())
  index = root / f"{stem}.safetensors.index.json"
  storage.write_json(index, {"metadata": {"total_size": total}, "weight_map": weight_map})
  return [*paths, index]


def _header(path: storage.Path) -> dict[str, Tensor]:
  with storage.open_read(path) as file:
    prefix = file.read(8)
    length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
    text = file.read(length) if length < 100_000_000 else b""
  try:
    entries = json.loads(text)
  except ValueError as exc:
    raise ValueError(f"{path} is not a safetensors file: copy it again") from exc
  entries.pop("__metadata__", None)
  found = {}
  for name, entry in entries.items():
    if entry["dtype"] not in _DTYPES:
      raise ValueError(f"{path}: tensor {name} has dtype {entry['dtype']}, which is not supported")
    start = 8 + length + entry["data_offsets"][0]
    found[name] = Tensor(path, _DTYPES[entry["dtype"]], tuple(entry["shape"]), start)
  return found


def _write_file(
  path: storage.Path,
  names: list[str],
  specs: Mapping[str, tuple[np.dtype, tuple[int, ...]]],
  value: Callable[[str], np.ndarray],
) -> None:
  header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
  offset = 0
  for name in names:
    dtype, shape = specs[name]
    end = offset + _nbytes(dtype, shape)
    header[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [offset, end]}
    offset = end
  text = json.dumps(header).encode()
  text += b" " * (-len(text) % 8)  # tensors start at a multiple of 8
  with storage.staged(path) as local, storage.writing(path):
    with storage.Path(local).open("wb") as file:
      file.write(struct.pack("<Q", len(text)) + text)
      for chunk in _chunks(names, specs, value):
        file.write(chunk)


def _chunks(
  names: list[str],
  specs: Mapping[str, tuple[np.dtype, tuple[int, ...]]],
  value: Callable[[str], np.ndarray],
) -> Iterator[bytes]:
  for name in names:
    dtype, shape = specs[name]
    array = value(name)
    assert array.shape == shape, f"{name}: {array.shape}, announced as {shape}"
    yield np.ascontiguousarray(array, dtype).tobytes()


def _split(
  specs: Mapping[str, tuple[np.dtype, tuple[int, ...]]], max_shard_bytes: int
) -> list[list[str]]:
  shards, size = [[]], 0
  for name, spec in specs.items():
    nbytes = _nbytes(*spec)
    if shards[-1] and size + nbytes > max_shard_bytes:
      shards.append([])
      size = 0
    shards[-1].append(name)
    size += nbytes
  return shards


def _nbytes(dtype: np.dtype, shape: tuple[int, ...]) -> int:
  return int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
