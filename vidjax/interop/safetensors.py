"""Reading and writing safetensors files, one tensor at a time, on any kind of path.

The format (huggingface/safetensors, README "Format"): 8 bytes with the length of the header, a JSON
header with dtype, shape and byte range of each tensor, then the bytes, little-endian, C order.
Written here rather than with the library of that name, which wants whole models in memory to write,
local files to read, and has no bfloat16 in numpy.
"""

from collections.abc import Callable, Mapping
import dataclasses
import json
import math
import struct
from typing import Any

import ml_dtypes
import numpy as np

from vidjax import storage

MAX_SHARD_BYTES = 10_000_000_000  # as diffusers and transformers split by default

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
_DTYPES = {
  "F64": np.dtype(np.float64),
  "F32": np.dtype(np.float32),
  "F16": np.dtype(np.float16),
  "BF16": BFLOAT16,
  "I64": np.dtype(np.int64),
  "I32": np.dtype(np.int32),
  "U8": np.dtype(np.uint8),
  "BOOL": np.dtype(np.bool_),
}
_MAX_HEADER = 100_000_000  # bytes, as in the library of that name
_MAX_DIMS = 32  # of a tensor; numpy has 64
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
    return math.prod(self.shape) * self.dtype.itemsize  # in Python: no shape overflows it

  def read(self) -> np.ndarray:
    """The values."""
    return self._read(0, self.nbytes, self.shape)

  def rows(self, start: int, stop: int) -> np.ndarray:
    """The values [start:stop] of the first dim; nothing else is read."""
    row = self.nbytes // max(1, self.shape[0])
    return self._read(start * row, (stop - start) * row, (stop - start, *self.shape[1:]))

  def _read(self, offset: int, size: int, shape: tuple[int, ...]) -> np.ndarray:
    with storage.open_read(self.path) as file:
      file.seek(self.start + offset)
      data = file.read(size)
    if len(data) != size:
      raise ValueError(f"{self.path} is shorter than its header says: copy it again")
    return np.frombuffer(data, self.dtype).reshape(shape)


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
      files = sorted(_files_of(index))
      missing = [name for name in files if not (root / name).exists()]
      if missing:
        raise ValueError(f"{root / missing[0]} is missing, {index.name} names it: copy it again")
      return {name: t for file in files for name, t in read_file(root / file)[0].items()}
    if single.exists():
      return read_file(single)[0]
  raise ValueError(f"{root / stem}.safetensors does not exist: copy the weights, as safetensors")


def _files_of(index: storage.Path) -> set[str]:
  """Names of the files that an index lists."""
  content = storage.read_json(index)
  weight_map = content.get("weight_map") if isinstance(content, dict) else None
  if not isinstance(weight_map, dict) or not weight_map:
    raise ValueError(f"{index} has no `weight_map` of tensors and files: copy it again")
  return {storage.check_below(name, index) for name in weight_map.values()}


def write(
  folder: storage.PathLike,
  stem: str,
  specs: Mapping[str, tuple[np.dtype, tuple[int, ...]]],
  value: Callable[[str], np.ndarray],
  max_shard_bytes: int = MAX_SHARD_BYTES,
  metadata: Mapping[str, str] | None = None,
) -> list[storage.Path]:
  """Writes a model, holding one tensor at a time.

  Args:
    folder: folder of the model.
    stem: name of the file without suffix.
    specs: dtype and shape of each tensor by name.
    value: gives the tensor of a name.
    max_shard_bytes: a larger model is split in files with an index.
    metadata: texts for the header of each file.

  Returns:
    The files written.
  """
  root = storage.Path(folder)
  shards = _split(specs, max_shard_bytes)
  if len(shards) == 1:
    path = root / f"{stem}.safetensors"
    _write_file(path, shards[0], specs, value, metadata)
    return [path]
  paths, weight_map = [], {}
  for number, names in enumerate(shards, 1):
    paths.append(root / f"{stem}-{number:05d}-of-{len(shards):05d}.safetensors")
    _write_file(paths[-1], names, specs, value, metadata)
    weight_map |= dict.fromkeys(names, paths[-1].name)
  total = sum(_nbytes(*spec) for spec in specs.values())
  index = root / f"{stem}.safetensors.index.json"
  storage.write_json(index, {"metadata": {"total_size": total}, "weight_map": weight_map})
  return [*paths, index]


def read_file(path: storage.PathLike) -> tuple[dict[str, Tensor], dict[str, str]]:
  """Lists the tensors of one file by name, and the texts that its writer left in the header.

  Raises:
    ValueError: the file is not safetensors, is cut off, or its header contradicts itself or the
      file; the message names the file and the tensor.
  """
  file_path = storage.Path(path)
  with storage.open_read(file_path) as file:
    size = file.seek(0, 2)
    file.seek(0)
    prefix = file.read(8)
    length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
    text = file.read(length) if length <= min(size - 8, _MAX_HEADER) else b""
  try:
    entries = json.loads(text)
    metadata = entries.pop("__metadata__", {})
    dict(metadata)
  except (ValueError, AttributeError, TypeError, RecursionError) as exc:
    raise ValueError(
      f"{path} is not a safetensors file, or only its beginning: copy it again"
    ) from exc
  found = {name: _tensor(file_path, name, entry, 8 + length) for name, entry in entries.items()}
  _check_ranges(file_path, found, size)
  return found, metadata


def _tensor(path: storage.Path, name: str, entry: Any, base: int) -> Tensor:
  """Checks one entry of a header."""
  try:
    dtype, shape = entry["dtype"], tuple(int(n) for n in entry["shape"])
    start, end = (int(offset) for offset in entry["data_offsets"])
  except (KeyError, TypeError, ValueError) as exc:
    raise ValueError(f"{path}: the header entry of tensor {name} is broken: copy it again") from exc
  if dtype not in _DTYPES:
    raise ValueError(
      f"{path}: tensor {name} has dtype {dtype}, which is not supported: take the file with"
      f" float32, bfloat16 or float16 weights ({', '.join(_DTYPES)} are read)"
    )
  tensor = Tensor(path, _DTYPES[dtype], shape, base + start)
  possible = len(shape) <= _MAX_DIMS and all(0 <= size < 1 << 63 for size in shape)
  if start < 0 or not possible or end - start != tensor.nbytes:
    raise ValueError(
      f"{path}: tensor {name} has the bytes {start} to {end}, but {dtype} of shape {shape} takes"
      f" {tensor.nbytes}: the header is broken, copy the file again"
    )
  return tensor


def _check_ranges(path: storage.Path, found: Mapping[str, Tensor], size: int) -> None:
  """Every tensor lies within the file, and no two share bytes."""
  last, before = 0, ""
  for name, tensor in sorted(found.items(), key=lambda item: (item[1].start, item[1].nbytes)):
    if tensor.start < last:
      raise ValueError(f"{path}: tensors {before} and {name} overlap: the header is broken")
    last, before = tensor.start + tensor.nbytes, name
  if last > size:
    raise ValueError(
      f"{path} is shorter than its header says: {size} bytes, tensor {before} ends at {last}:"
      " copy it again"
    )


def _write_file(
  path: storage.Path,
  names: list[str],
  specs: Mapping[str, tuple[np.dtype, tuple[int, ...]]],
  value: Callable[[str], np.ndarray],
  metadata: Mapping[str, str] | None,
) -> None:
  header: dict[str, Any] = {"__metadata__": {"format": "pt", **(metadata or {})}}
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
      for name in names:
        dtype, shape = specs[name]
        array = value(name)
        assert array.shape == shape, f"{name}: {array.shape}, announced as {shape}"
        # Not `tobytes`, which would hold the tensor once more.
        file.write(np.ascontiguousarray(array, dtype).reshape(-1).view(np.uint8).data)


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
