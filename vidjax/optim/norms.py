"""Euclidean norms of gradients, weights and updates: in total, and of each block of the network.

A block is what stands first in a parameter's name, with its number: `conv_in`, `down_blocks.0`,
`mid_block`. Totals are made from the blocks, so every tensor is read once; of the joined small
parameters (`vidjax.optim.packing`) a block is one stretch, since they are joined in the order of
their names.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from vidjax.nn.params import Params
from vidjax.optim import packing


def block(name: str) -> str:
  """The block of a parameter: `down_blocks.0` of `down_blocks.0.resnets.1.conv1.kernel`."""
  first, *rest = name.split(".")
  return f"{first}.{rest[0]}" if rest and rest[0].isdigit() else first


def per_block(packed: Params, like: Mapping[str, Any]) -> dict[str, jax.Array]:
  """Norm of each block, and under "" that of all: float32 scalars.

  Args:
    packed: what `packing.pack` made.
    like: arrays or `jax.ShapeDtypeStruct` of what was packed, by name.
  """
  squares: dict[str, list[jax.Array]] = {}
  for name, stretches in packing.stretches(like, block).items():
    for owner, part in stretches:
      x = packed[name] if part is None else packed[name].reshape(-1)[part]
      squares.setdefault(owner, []).append(jnp.sum(jnp.square(x)))
  sums = {owner: sum(parts[1:], parts[0]) for owner, parts in sorted(squares.items())}
  total = sum(sums.values(), jnp.float32(0.0))
  return {owner: jnp.sqrt(value) for owner, value in ({"": total} | sums).items()}


def metrics(name: str, norms: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
  """`name` for the total, `name/BLOCK` for each block."""
  return {f"{name}/{owner}" if owner else name: value for owner, value in norms.items()}


def clip(grads: Params, norm: jax.Array, limit: float) -> Params:
  """`grads`, whose norm is `norm`, shortened to `limit` if they are longer (1211.5063, alg. 1)."""
  if not limit:
    return grads
  return jax.tree.map(lambda g: jnp.where(norm < limit, g, g / norm * limit), grads)
