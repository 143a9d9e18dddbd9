"""Weights that are read when they are used: shape and dtype are known, bytes come when indexed.

A model is a mapping of names to arrays here as everywhere; some of these arrays are `LazyArray`s,
in a file or in a checkpoint. Converting a model then needs the memory of its largest array, and
loading it onto devices that of what the devices hold.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import hashlib
import math
from typing import Any, TypeAlias, TypeVar

import jax
import numpy as np

from vidjax.observe import console

Index: TypeAlias = tuple[slice, ...]

_LONG = 1 << 28  # bytes above which a person wants to see that something is happening

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class LazyArray:
  """An array that is somewhere else.

  Attributes:
    shape: of the array.
    dtype: of the array.
    fetch: reads a part: one slice for each dim, without steps.
  """

  shape: tuple[int, ...]
  dtype: np.dtype
  fetch: Callable[[Index], np.ndarray]

  @property
  def ndim(self) -> int:
    """Number of dims."""
    return len(self.shape)

  @property
  def size(self) -> int:
    """Number of elements."""
    return math.prod(self.shape)

  @property
  def nbytes(self) -> int:
    """Size in bytes."""
    return self.size * self.dtype.itemsize

  def __getitem__(self, index: Index | slice) -> np.ndarray:
    """Reads a part: slices without steps; dims that are not named are whole."""
    index = index if isinstance(index, tuple) else (index,)
    index += (slice(None),) * (self.ndim - len(index))
    bounds = [part.indices(size) for part, size in zip(index, self.shape, strict=True)]
    assert all(step == 1 for _, _, step in bounds), "slices have no steps here"
    return self.fetch(tuple(slice(start, stop) for start, stop, _ in bounds))

  def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
    """Reads all of it."""
    del copy  # it is always a new one
    return np.asarray(self[()], dtype)


Weights: TypeAlias = Mapping[str, np.ndarray | jax.Array | LazyArray]


def place(value: np.ndarray | jax.Array | LazyArray, like: jax.ShapeDtypeStruct) -> jax.Array:
  """Puts `value` on devices in the dtype and sharding of `like`, each device getting its part.

  Of a lazy array every host reads what its devices hold, never a whole copy for each device.
  """
  if isinstance(value, jax.Array) or (not isinstance(value, LazyArray) and like.sharding is None):
    return jax.device_put(value.astype(like.dtype, copy=False), like.sharding)
  if like.sharding is None:
    return jax.device_put(np.asarray(value, like.dtype))

  def part(index: Index | None) -> np.ndarray:
    return value[index or ()].astype(like.dtype, copy=False)

  return jax.make_array_from_callback(value.shape, like.sharding, part)


def read_all(weights: Weights, title: str) -> dict[str, Any]:
  """The same with all lazy arrays read into host memory; `title` is for the progress bar."""
  return {
    name: np.asarray(weights[name]) if isinstance(weights[name], LazyArray) else weights[name]
    for name in watched(list(weights), title, nbytes(weights))
  }


def nbytes(weights: Weights) -> int:
  """Size of all arrays in bytes."""
  return sum(math.prod(w.shape) * np.dtype(w.dtype).itemsize for w in weights.values())


def watched(items: Sequence[T], title: str, size: int) -> Iterator[T]:
  """Goes through `items`, with a progress bar where `size` bytes are enough to wait for."""
  if size < _LONG:
    yield from items
    return
  with console.Progress(title, total=len(items)) as progress:
    for done, item in enumerate(items, 1):
      yield item
      progress.update(done)


def sha256(weights: Weights) -> str:
  """SHA-256 of weights, by name, shape and content."""
  digest = hashlib.sha256()
  for name in sorted(weights):
    value = np.ascontiguousarray(np.asarray(weights[name]))
    digest.update(f"{name} {value.dtype} {value.shape}\n".encode())
    digest.update(value.tobytes())
  return digest.hexdigest()


def same_bits(left: np.ndarray, right: np.ndarray) -> bool:
  """Whether two arrays agree in shape, dtype and every bit; unlike ==, also of NaN and zero."""
  if left.shape != right.shape or left.dtype != right.dtype:
    return False
  return bool(np.array_equal(_bits(left), _bits(right)))


def _bits(array: np.ndarray) -> np.ndarray:
  return np.ascontiguousarray(array).reshape(-1).view(np.uint8)
