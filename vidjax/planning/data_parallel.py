"""What data parallelism adds to the step of one cell, by arithmetic: weights in, gradients out.

Weights are stored in shards over `fsdp`, gathered for the forward pass and again where the backward
pass runs a block a second time; gradients are summed over `replica` and `fsdp`. Then each device
updates its shard. Dtypes and forms are what XLA makes of the step: gathers and sums are in the
dtype of the computation, and a sum over all devices of a slice is an all-reduce.
"""

from collections.abc import Iterator
import dataclasses

import jax
import jax.numpy as jnp

from vidjax.planning import collectives
from vidjax.planning.pieces import Call, Steps
from vidjax.planning.pricing import HBM_EFFICIENCY
from vidjax.planning.topology import Topology
from vidjax.program import Program

# Gathers are asynchronous and hide behind most of the computation, but a share of their time is
# waited for in any case; gradient sums are waited for. The share is between what two whole steps,
# compiled for v5e:2x2 and v5e:4x4, show: 0.45 and 0.37. The other number is judgement.
_HIDING, _NEVER_HIDDEN = 0.8, 0.4
_GRADIENTS = 3  # how often gradients are read: for the norm, clipped, and by the optimizer


@dataclasses.dataclass(frozen=True)
class Traffic:
  """Collectives of data parallelism in one step.

  Attributes:
    collectives: kind -> (count, bytes, seconds, exposed seconds).
    gathered_bytes: of the largest weights that are there whole at a time, two layers' worth.
    gradient_bytes: of each trained parameter in this device's memory, by name.
  """

  collectives: dict[str, tuple[float, ...]]
  gathered_bytes: float
  gradient_bytes: dict[str, float]

  @property
  def exposed_seconds(self) -> float:
    """What no computation hides."""
    return sum(values[3] for values in self.collectives.values())


def traffic(
  program: Program,
  cell: Program,
  steps: Steps,
  topology: Topology,
  compute_seconds: float,
  *,
  policy: str = "",
) -> Traffic:
  """Of a step of `program`, whose cells run `steps` in `compute_seconds`.

  Args:
    program: on the whole mesh.
    cell: the program of one cell.
    steps: its calls.
    topology: of the whole mesh.
    compute_seconds: of one cell, collectives apart.
    policy: of recomputation for all blocks, instead of their own.
  """
  fsdp, replica = program.mesh.shape["fsdp"], program.mesh.shape["replica"]
  dtype_bytes = jnp.dtype(_dtype(program)).itemsize
  again = {name for call in steps.calls if _runs_again(call, policy) for name in call.names}
  gathers, gathered, reduced, gradient_bytes = 0, 0.0, 0.0, {}
  for name, stored in program.params.items():
    whole = _local_size(cell.params[name]) * dtype_bytes
    is_sharded = _local_size(stored) < _local_size(cell.params[name])
    if is_sharded:
      times = 2 if name in again else 1
      gathers, gathered = gathers + times, gathered + times * whole
    if name in program.trained:
      reduced += whole
      gradient_bytes[name] = _local_size(stored) * 4.0
  for kind, name, stored in _used(program, steps):
    whole = cell.frozen[kind][name]
    if _local_size(stored) < _local_size(whole):
      size = jnp.dtype(program.config.encoders.dtype).itemsize
      gathers, gathered = gathers + 1, gathered + _local_size(whole) * size
  times = program.config.accumulation_steps  # each part of a batch gathers, and sums what it gives
  gathers, gathered = times * gathers, times * gathered
  found: dict[str, tuple[float, ...]] = {}
  if gathers:
    # One after the other, each with its own latency.
    seconds = gathers * _seconds("all-gather", gathered / gathers, fsdp, 1, topology)
    exposed = max(_NEVER_HIDDEN * seconds, seconds - _HIDING * compute_seconds)
    found["all-gather"] = (gathers, gathered, seconds, exposed)
  if fsdp * replica > 1:
    seconds = _seconds("all-reduce", reduced, fsdp * replica, topology.slices, topology)
    found["all-reduce"] = tuple(
      times * value for value in (len(gradient_bytes), reduced, seconds, seconds)
    )
  largest = max((sum(p.size for p in call.parameters) for call in steps.calls), default=0)
  return Traffic(found, 2.0 * largest * dtype_bytes if gathers else 0.0, gradient_bytes)


def update_seconds(program: Program, topology: Topology) -> float:
  """Of optimizer, moving averages and norms: their traffic with HBM.

  What changes of the state is read and written, and gradients, as large as the weights, are read.
  """
  state = program.state
  live = {name: p for name, p in state.params.items() if name not in program.params}
  live |= {name: p for name, p in state.params.items() if name in program.trained}
  changed = sum(map(_local_bytes, jax.tree.leaves((live, state.opt_state, state.ema))))
  moved = 2 * changed + _GRADIENTS * sum(map(_local_bytes, live.values()))
  return moved / (HBM_EFFICIENCY * topology.chip.hbm_bytes_per_second)


def argument_bytes(program: Program, steps: Steps) -> float:
  """State, frozen weights and batch on one device, as far as a step of these calls reads them."""
  frozen = [stored for _, _, stored in _used(program, steps)]
  arguments = (program.state, frozen, program.batch)
  return float(sum(map(_local_bytes, jax.tree.leaves(arguments))))


def _used(program: Program, steps: Steps) -> Iterator[tuple[str, str, jax.ShapeDtypeStruct]]:
  """Encoder, name and shape of the frozen weights; an autoencoder's decoder is not among them."""
  for kind, name in sorted({(c.network, n) for c in steps.calls if c.network for n in c.names}):
    yield kind, name, program.frozen[kind][name]


def _runs_again(call: Call, policy: str) -> bool:
  return policy != "none" if policy and call.policy else call.recomputed


def _seconds(kind: str, size: float, devices: int, slices: int, topology: Topology) -> float:
  group = collectives.Group(devices, slices)
  return collectives.seconds(collectives.Collective(kind, round(size), group), topology)


def _local_bytes(array: jax.ShapeDtypeStruct) -> int:
  return _local_size(array) * array.dtype.itemsize


def _local_size(array: jax.ShapeDtypeStruct) -> int:
  shape = array.sharding.shard_shape(array.shape)
  size = 1
  for dim in shape:
    size *= dim
  return size


def _dtype(program: Program) -> str:
  is_diffusion = program.config.task == "diffusion"
  return program.config.model.dtype if is_diffusion else program.config.encoders.dtype
