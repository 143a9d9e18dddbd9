"""Checksums of arrays that do not depend on how the arrays are laid out.

Stored checkpoint data is not protected against bit rot (a flipped bit restores silently as another
number), so every leaf is saved with a checksum and compared after it is restored. To compare on
any mesh, without moving the array, the checksum is a sum: of each element's bits times an odd
pseudorandom weight of its position, in uint32 with wrap-around. Such a sum has the same value in
every order of summation, so a sharded array needs one scalar all-reduce. A single flipped bit
changes it always (an odd weight is invertible modulo 2^32), two swapped elements almost always.
"""

import math
from typing import Any

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

_BLOCK = 1 << 22  # elements that the host version works on at a time
_BITS = {1: np.dtype(np.uint8), 2: np.dtype(np.uint16), 4: np.dtype(np.uint32)}


def fingerprints(leaves: dict[str, jax.Array]) -> tuple[dict[str, int], list[str]]:
  """Checksum of each array, and which of them hold NaN or infinity.

  Args:
    leaves: arrays on devices, of any sharding, of at most 32 bits for each element.

  Returns:
    uint32 checksum by name, and the names of arrays that are not finite everywhere.
  """
  results = jax.device_get([_on_device(leaf) for leaf in leaves.values()])
  sums = {name: int(result[0]) for name, result in zip(leaves, results, strict=True)}
  broken = [name for name, result in zip(leaves, results, strict=True) if not result[1]]
  return sums, broken


def fingerprint_host(x: np.ndarray) -> int:
  """The same checksum of an array in host memory."""
  bits = np.ascontiguousarray(x).reshape(-1).view(_BITS[x.dtype.itemsize])
  total = np.uint32(0)
  with np.errstate(over="ignore"):
    for start in range(0, bits.size, _BLOCK):
      block = bits[start : start + _BLOCK].astype(np.uint32)
      position = np.arange(start, start + block.size, dtype=np.uint64).astype(np.uint32)
      total += np.sum(block * _weight(position), dtype=np.uint32)
  return int(total)


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
