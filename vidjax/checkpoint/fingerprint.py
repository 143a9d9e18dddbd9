"""Checksums of arrays that do not depend on how the arrays are laid out.

Stored checkpoint data is not protected against bit rot (a flipped bit restores silently as another
number), so every leaf is saved with a checksum and compared after it is restored. To compare on
any mesh, without moving the array, the checksum is a sum: of each element's bits times an odd
pseudorandom weight of its position, in uint32 with wrap-around. Such a sum has the same value in
every order of summation, so parts of a sharded array are summed where they are. A single flipped
bit changes it always (an odd weight is invertible modulo 2^32), two swapped elements almost always.
"""

import math
from typing import Any

import jax
from jax import lax
from jax.experimental import multihost_utils
import jax.numpy as jnp
import numpy as np

from vidjax.parallel import distributed

_BLOCK = 1 << 20  # elements that the host version works on at a time
_BITS = {1: np.dtype(np.uint8), 2: np.dtype(np.uint16), 4: np.dtype(np.uint32)}


def fingerprints(leaves: dict[str, jax.Array]) -> tuple[dict[str, int], list[str]]:
  """Checksum of each array, and which of them hold NaN or infinity.

  Every process that has a part of the arrays calls this.

  Args:
    leaves: arrays on devices, of any sharding, of at most 32 bits for each element.

  Returns:
    uint32 checksum by name, and the names of arrays that are not finite everywhere.
  """
  # A CPU device's memory is the host's, and a kernel for each shape takes longer to compile than
  # the small models on CPUs take to read.
  on_cpu = all(d.platform == "cpu" for leaf in leaves.values() for d in leaf.sharding.device_set)
  results = _on_host(leaves) if on_cpu else jax.device_get([_on_device(x) for x in leaves.values()])
  sums = {name: int(result[0]) for name, result in zip(leaves, results, strict=True)}
  broken = [name for name, result in zip(leaves, results, strict=True) if not result[1]]
  return sums, broken


def fingerprint_host(x: np.ndarray) -> int:
  """The same checksum of an array in host memory."""
  return int(_of_part(x, tuple(slice(0, size) for size in x.shape), x.shape)[0])


def _on_host(leaves: dict[str, jax.Array]) -> np.ndarray:
  """Checksum and finiteness of each array (N, 2), from the parts that the processes have."""
  results = np.ones((len(leaves), 2), np.uint32)
  results[:, 0] = 0
  for row, leaf in zip(results, leaves.values(), strict=True):
    for shard in leaf.addressable_shards:
      if shard.replica_id == 0:
        total, finite = _of_part(np.asarray(shard.data), shard.index, leaf.shape)
        row[0] = (int(row[0]) + int(total)) % 2**32
        row[1] &= finite
  if jax.process_count() > 1:
    distributed.meet("checksums")
    parts = multihost_utils.process_allgather(results)
    results = np.stack([parts[..., 0].sum(0, dtype=np.uint32), parts[..., 1].min(0)], axis=1)
  return results


def _of_part(
  x: np.ndarray, index: tuple[slice, ...], shape: tuple[int, ...]
) -> tuple[np.uint32, bool]:
  """Checksum and finiteness of the part `x` = whole[index] of an array of `shape`."""
  starts = [part.indices(size)[0] for part, size in zip(index, shape, strict=True)]
  strides = [math.prod(shape[dim + 1 :]) for dim in range(len(shape))]
  if x.ndim == 0:
    x, starts, strides = x.reshape(1), [0], [1]
  rows = max(1, _BLOCK // max(1, math.prod(x.shape[1:])))
  total, finite = np.uint32(0), True
  with np.errstate(over="ignore"):
    for first in range(0, x.shape[0], rows):
      block = np.ascontiguousarray(x[first : first + rows])
      position = np.zeros((), np.uint64)
      for dim, size in enumerate(block.shape):
        start = starts[dim] + (first if dim == 0 else 0)
        along = np.arange(start, start + size, dtype=np.uint64) * np.uint64(strides[dim])
        position = position[..., None] + along
      bits = block.view(_BITS[x.dtype.itemsize]).astype(np.uint32)
      total += np.sum(bits * _weight(position.astype(np.uint32)), dtype=np.uint32)
      if jnp.issubdtype(x.dtype, jnp.inexact):
        finite = finite and bool(np.isfinite(block).all())
  return total, finite


@jax.jit
def _on_device(x: jax.Array) -> tuple[jax.Array, jax.Array]:
  assert x.dtype.itemsize in _BITS, f"no checksum for {x.dtype}"
  if x.dtype == jnp.bool:
    bits = x.astype(jnp.uint32)
  else:
    bits = lax.bitcast_convert_type(x, _BITS[x.dtype.itemsize]).astype(jnp.uint32)
  position = jnp.zeros_like(bits)
  for dim in range(x.ndim):
    stride = np.uint32(math.prod(x.shape[dim + 1 :]) % 2**32)
    sharding = jax.typeof(x).sharding
    position += stride * lax.broadcasted_iota(jnp.uint32, x.shape, dim, out_sharding=sharding)
  finite = jnp.isfinite(x).all() if jnp.issubdtype(x.dtype, jnp.inexact) else jnp.array(True)
  return jnp.sum(bits * _weight(position), dtype=jnp.uint32), finite


def _weight(position: Any) -> Any:
  """Odd pseudorandom uint32 of a uint32: two rounds of multiply and shift (numpy or jax)."""
  mixed = (position ^ (position >> np.uint32(16))) * np.uint32(0x7FEB352D)
  mixed = (mixed ^ (mixed >> np.uint32(15))) * np.uint32(0x846CA68B)
  return (mixed ^ (mixed >> np.uint32(16))) | np.uint32(1)
