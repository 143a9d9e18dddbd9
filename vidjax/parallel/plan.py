"""The sharding plan: one PartitionSpec for each role. The only file that maps roles to mesh axes.

Weights are stored sharded (ZeRO-3) and gathered where they are used, in fp32: the transpose of the
gather scatters the gradient back, so optimizer state and EMA stay sharded without another word.
"""

from collections.abc import Mapping
import math

import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

BATCH = P(("replica", "fsdp"))  # activations and batches: the first dim, B

# Parameters with fewer elements are replicated on purpose, and so are all vectors (biases, norm
# scales, mix factors): a gather costs a round trip whatever it carries.
SMALL = 2**16

# Stored layout of each parameter role: the dim that FSDP splits, counted from the end.
_FSDP_DIM = {"conv": -1, "dense": -1, "embed": -1, "vector": None}


def param_spec(role: str, shape: tuple[int, ...], mesh: Mesh) -> P:
  """Stored layout of a parameter; replicated if small or if its dim does not divide by `fsdp`."""
  dim, fsdp = _FSDP_DIM[role], mesh.shape["fsdp"]
  if dim is None or fsdp == 1 or math.prod(shape) < SMALL or shape[dim] % fsdp:
    return P()
  entries: list[str | None] = [None] * len(shape)
  entries[dim] = "fsdp"
  return P(*entries)


def param_shardings(
  roles: Mapping[str, str], abstract: Mapping[str, jax.ShapeDtypeStruct], mesh: Mesh
) -> dict[str, NamedSharding]:
  """Stored shardings of a flat parameter dict."""
  return {
    name: NamedSharding(mesh, param_spec(role, abstract[name].shape, mesh))
    for name, role in roles.items()
  }


def gather(weight: jax.Array) -> jax.Array:
  """The whole of a stored weight, for compute; without a mesh there is nothing to gather."""
  if jax.sharding.get_abstract_mesh().empty:
    return weight
  return jax.reshard(weight, P(*(None,) * weight.ndim))


def shard_batch(x: jax.Array) -> jax.Array:
  """States that the first dim of `x` is the batch; a no-op without a mesh."""
  if jax.sharding.get_abstract_mesh().empty:
    return x
  return jax.reshard(x, P(*BATCH, *(None,) * (x.ndim - 1)))


def batch_divisor(mesh: Mesh) -> int:
  """What the global batch size must be a multiple of."""
  return mesh.shape["replica"] * mesh.shape["fsdp"]
