"""The sharding plan: one PartitionSpec for each role. The only file that maps roles to mesh axes.

Weights are stored sharded (ZeRO-3) and gathered where they are used, in fp32: the transpose of the
gather scatters the gradient back, so optimizer state and EMA stay sharded without another word.
"""

from collections.abc import Mapping
import math

import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

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


def batch_spec(mesh: Mesh | jax.sharding.AbstractMesh) -> P:
  """Layout of activations and batches: the first dim, B, over `replica` and `fsdp`.

  Where both are one device, nothing is split, and the type does not say that it is: a reshape has
  no rule for a batch of one that is sharded over one device.
  """
  return P(("replica", "fsdp")) if batch_divisor(mesh) > 1 else P()


def shard_batch(x: jax.Array) -> jax.Array:
  """States that the first dim of `x` is the batch; a no-op without a mesh."""
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty:
    return x
  spec = batch_spec(mesh)
  return jax.reshard(x, P(*spec, *(None,) * (x.ndim - len(spec))))


def batch_divisor(mesh: Mesh | jax.sharding.AbstractMesh) -> int:
  """What the global batch size must be a multiple of."""
  return mesh.shape["replica"] * mesh.shape["fsdp"]
