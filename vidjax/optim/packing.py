"""Small parameters as two long vectors: how training holds, saves and updates weights.

A UNet has hundreds of biases, scales and small kernels. Updating each by itself costs a dozen
kernels, which are nothing to run but a large part of what is compiled. Parameters below `SMALL`
elements are stored replicated anyway (`vidjax.parallel.plan`), so they can be joined without moving
anything between devices. What is joined depends on names and shapes only, never on the mesh.
"""

from collections.abc import Callable, Mapping
import itertools
from typing import Any

import jax
import jax.numpy as jnp

from vidjax.nn.params import Params
from vidjax.parallel import plan

# Rows of one matrix each, so that "is a matrix", which decides about weight decay, stays readable
# from the number of dims.
VECTORS, MATRICES = "packed.vectors", "packed.matrices"


def pack(params: Mapping[str, jax.Array]) -> Params:
  """Large parameters by name, and the small ones joined: vectors (n,), the rest (1, n)."""
  large, vectors, matrices = _split(params)
  packed = {name: params[name] for name in large}
  if vectors:
    packed[VECTORS] = jnp.concatenate([params[name].reshape(-1) for name in vectors])
  if matrices:
    packed[MATRICES] = jnp.concatenate([params[name].reshape(-1) for name in matrices])[None]
  return packed


def unpack(packed: Mapping[str, Any], like: Mapping[str, Any]) -> dict[str, Any]:
  """The inverse of `pack`, on device or host arrays.

  Do not differentiate through it: the transpose of a slice is a padded vector, one for each name.

  Args:
    packed: what `pack` made.
    like: arrays or `jax.ShapeDtypeStruct` that give names and shapes.
  """
  large, vectors, matrices = _split(like)
  params = {name: packed[name] for name in large}
  for group, names in ((VECTORS, vectors), (MATRICES, matrices)):
    start = 0
    for name in names:
      stop = start + like[name].size
      params[name] = packed[group].reshape(-1)[start:stop].reshape(like[name].shape)
      start = stop
  return {name: params[name] for name in like}


def stretches(
  like: Mapping[str, Any], owner: Callable[[str], str]
) -> dict[str, list[tuple[str, slice | None]]]:
  """Whose each packed array is: for each name in `pack`'s result, owners and their parts.

  Args:
    like: see `unpack`.
    owner: of a parameter. Those that stand together in the order of names make one part.

  Returns:
    Pairs of an owner and its slice of the flattened array; None for the whole.
  """
  large, vectors, matrices = _split(like)
  found: dict[str, list[tuple[str, slice | None]]] = {name: [(owner(name), None)] for name in large}
  for group, names in ((VECTORS, vectors), (MATRICES, matrices)):
    start = 0
    for who, owned in itertools.groupby(names, key=owner):
      stop = start + sum(like[name].size for name in owned)
      found.setdefault(group, []).append((who, slice(start, stop)))
      start = stop
  return found


def _split(params: Mapping[str, Any]) -> tuple[list[str], list[str], list[str]]:
  small = [name for name in sorted(params) if params[name].size < plan.SMALL]
  large = [name for name in sorted(params) if params[name].size >= plan.SMALL]
  vectors = [name for name in small if params[name].ndim < 2]
  return large, vectors, [name for name in small if params[name].ndim >= 2]
