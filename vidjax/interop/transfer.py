"""Parameters by our names, in and out of files with other names and layouts, one at a time."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import re

import jax
import numpy as np

from vidjax import lazy, storage
from vidjax.errors import CheckpointError
from vidjax.interop import names, safetensors
from vidjax.lazy import Index, LazyArray, Weights

_PART = re.compile(r"^(.*)\[(\d+)/(\d+)\]$")
_SHOWN = 3  # names in a message
_CONVERTED = (np.dtype(np.float16), safetensors.BFLOAT16, np.dtype(np.float64))


@dataclasses.dataclass(frozen=True)
class _Place:
  """Where a parameter is: part `part` of `parts` of the tensor `name`."""

  name: str
  part: int = 0
  parts: int = 1


@dataclasses.dataclass(frozen=True)
class Written:
  """A model, or a part of one, on its way into a file.

  Attributes:
    table: its names in the file.
    params: its parameters by our names.
    prefix: what stands before every name.
  """

  table: names.Table
  params: Weights
  prefix: str = ""


def read(
  stored: Mapping[str, safetensors.Tensor],
  abstract: Mapping[str, jax.ShapeDtypeStruct],
  table: names.Table,
  where: str,
) -> dict[str, LazyArray]:
  """Finds the parameters `abstract` in the tensors of a file; reads none of them yet.

  float16, bfloat16 and float64 become float32 when they are read.

  Args:
    stored: tensors by their name.
    abstract: shapes by our names.
    table: our names and theirs.
    where: the file or folder, for messages.

  Raises:
    CheckpointError: tensors are missing, unknown or of another shape or kind; the message names
      the first few with both shapes, and says what to do.
  """
  modern = {table.modern(name): tensor for name, tensor in stored.items()}
  # Of a tensor under two names, the one under the present name counts.
  stored = modern | {name: stored[name] for name in modern.keys() & stored.keys()}
  places = {ours: _place(theirs) for ours, theirs in table.pairs(abstract).items()}
  wanted = {place.name for place in places.values()}
  problems = _named("missing", wanted - stored.keys())
  problems += _named(
    "unknown", {n for n in stored.keys() - wanted if not re.search(table.ignored, n)}
  )
  misfits = [
    misfit
    for ours, place in places.items()
    if place.name in stored
    and (misfit := _misfit(table, ours, abstract[ours].shape, place, stored[place.name]))
  ]
  problems += _named("of another shape or kind", set(misfits))
  if problems:
    raise CheckpointError(
      f"the weights in {where} do not fit its config: {'; '.join(problems)}. Take config and"
      " weights of the same model, and copy all of its files"
    )
  return {
    ours: LazyArray(
      abstract[ours].shape,
      np.dtype(np.float32),
      _fetch(table, ours, abstract[ours].shape, place, stored[place.name]),
    )
    for ours, place in places.items()
  }


def write(
  folder: storage.PathLike,
  stem: str,
  models: Sequence[Written],
  *,
  max_shard_bytes: int = safetensors.MAX_SHARD_BYTES,
  metadata: Mapping[str, str] | None = None,
) -> None:
  """Writes parameters as float32 under other names, holding one tensor at a time.

  Args:
    folder: folder of the model.
    stem: name of the file without suffix.
    models: what goes into the file.
    max_shard_bytes: larger models are split in files with an index.
    metadata: texts for the header.
  """
  sources = _sources(models)
  specs = {name: (np.dtype(np.float32), shape) for name, shape in file_shapes(models).items()}

  def value(name: str) -> np.ndarray:
    model, parts = sources[name]
    arrays = [_outgoing(model.table, ours, np.asarray(model.params[ours])) for ours in parts]
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)

  size = sum(lazy.nbytes(model.params) for model in models)
  progress = iter(lazy.watched(list(specs), f"writing {storage.Path(folder).name}", size))

  def next_value(name: str) -> np.ndarray:
    assert next(progress) == name, "tensors are written in their order"
    return value(name)

  safetensors.write(folder, stem, specs, next_value, max_shard_bytes, metadata)
  assert next(progress, None) is None, "all tensors are written"


def file_shapes(models: Sequence[Written]) -> dict[str, tuple[int, ...]]:
  """Shape of each tensor by its name in the file, in the file's order."""
  sources = _sources(models)
  return {name: _shape(*sources[name]) for name in sorted(sources)}


def describe_dtypes(stored: Mapping[str, safetensors.Tensor]) -> str:
  """What is said of files that hold other than float32, e.g. "float16 as float32"; else ""."""
  kinds = {tensor.dtype.name for tensor in stored.values() if tensor.dtype in _CONVERTED}
  return f"{' and '.join(sorted(kinds))} as float32" if kinds else ""


def _sources(models: Sequence[Written]) -> dict[str, tuple[Written, list[str]]]:
  """Our names of the parts of each tensor, in their order."""
  sources: dict[str, tuple[Written, list[str]]] = {}
  for model in models:
    for ours, theirs in sorted(model.table.pairs(model.params).items(), key=lambda pair: pair[1]):
      name = model.prefix + _place(theirs).name
      assert name not in sources or sources[name][0] is model, f"{name} is written twice"
      sources.setdefault(name, (model, []))[1].append(ours)
  return sources


def _place(theirs: str) -> _Place:
  match = _PART.match(theirs)
  return _Place(match[1], int(match[2]), int(match[3])) if match else _Place(theirs)


def _named(what: str, found: set[str]) -> list[str]:
  if not found:
    return []
  more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
  return [f"{len(found)} {what} ({', '.join(sorted(found)[:_SHOWN])}{more})"]


def _misfit(
  table: names.Table,
  ours: str,
  shape: tuple[int, ...],
  place: _Place,
  tensor: safetensors.Tensor,
) -> str:
  """What is wrong with the tensor that should hold our parameter; "" if nothing."""
  wanted = _torch_shape(table, ours, shape)
  if place.parts > 1:
    wanted = (wanted[0] * place.parts, *wanted[1:])
  # Linear layers and 1x1 convolutions are the same thing, and files of all ages mix them.
  squeezed = [s[:2] if len(s) > 2 and set(s[2:]) == {1} else s for s in (wanted, tensor.shape)]
  if squeezed[0] != squeezed[1]:
    return f"{place.name} is {tensor.shape} in the file, {wanted} by the config"
  if tensor.dtype != np.float32 and tensor.dtype not in _CONVERTED:
    return f"{place.name} is {tensor.dtype.name}, not a float"
  return ""


def _fetch(
  table: names.Table, ours: str, shape: tuple[int, ...], place: _Place, tensor: safetensors.Tensor
) -> Callable[[Index], np.ndarray]:
  """Reads a part of our parameter: of the file only the rows that it needs."""
  transposed = ours.endswith(".kernel") and not re.search(table.untransposed, ours)
  dim = len(shape) - 1 if transposed else 0  # our dim that is the first one there

  def fetch(index: Index) -> np.ndarray:
    rows = index[dim]
    first = place.part * shape[dim]
    array = tensor.rows(first + rows.start, first + rows.stop)
    part = (*shape[:dim], rows.stop - rows.start, *shape[dim + 1 :])
    if transposed:
      array = names.from_torch(ours, _like_torch(array, ours, part), part)
    else:
      array = array.reshape(part)
    rest = (*index[:dim], slice(None), *index[dim + 1 :])
    return np.ascontiguousarray(array[rest], np.float32)

  return fetch


def _like_torch(array: np.ndarray, ours: str, shape: tuple[int, ...]) -> np.ndarray:
  """A 1x1 convolution as the linear layer that it is, or the other way round."""
  return array.reshape(names.torch_shape(ours, shape))


def _shape(model: Written, parts: Sequence[str]) -> tuple[int, ...]:
  shape = _torch_shape(model.table, parts[0], tuple(model.params[parts[0]].shape))
  return (shape[0] * len(parts), *shape[1:]) if len(parts) > 1 else shape


def _torch_shape(table: names.Table, ours: str, shape: tuple[int, ...]) -> tuple[int, ...]:
  return _outgoing(table, ours, np.broadcast_to(np.float32(0), shape)).shape


def _outgoing(table: names.Table, ours: str, array: np.ndarray) -> np.ndarray:
  """Our parameter in the file's layout, without the other parts of its tensor."""
  if re.search(table.untransposed, ours):
    return array
  array = names.to_torch(ours, array)
  return array[..., None, None] if re.search(table.convolutions, ours) else array
