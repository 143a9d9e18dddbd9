"""A plan from the distinct pieces of the step, which compile in minutes where the whole does not.

Each distinct piece (`vidjax.planning.pieces`) is compiled for one cell of the mesh and priced from
its HLO as a whole program would be; counts make the step of them. What lies between pieces, the
optimizer and data parallelism are arithmetic, and so is memory.
"""

from collections.abc import Callable
import dataclasses
import functools

from vidjax import program as programs
from vidjax.planning import cell as cells
from vidjax.planning import data_parallel, piece_costs, pieces
from vidjax.planning.cell import Cell
from vidjax.planning.compilation import Cache
from vidjax.planning.data_parallel import Traffic
from vidjax.planning.piece_costs import PieceCost
from vidjax.planning.pieces import Steps
from vidjax.planning.pricing import HBM_EFFICIENCY
from vidjax.planning.topology import Topology

_CONCATENATED = 4  # skips joined on the way up: read, written, and both for their gradients


@dataclasses.dataclass(frozen=True)
class Measured:
  """What was compiled for a config on a topology, of which several plans can be made.

  Attributes:
    cell: the program of one cell.
    steps: its calls.
    costs: of each distinct call.
    compile_seconds: of the pieces, when they were compiled.
  """

  cell: Cell
  steps: Steps
  costs: dict[tuple, PieceCost]
  compile_seconds: float

  @functools.cached_property
  def model_flops_per_row(self) -> float:
    """FLOPs of the model for one row of a batch, as MFU counts them."""
    return self.cell.program.model_flops() / self.cell.program.config.batch_size


@dataclasses.dataclass(frozen=True)
class Estimate:
  """The step of one device.

  Attributes:
    cost: of everything that is computed; its seconds hold no data-parallel collectives.
    traffic: those.
    arguments: bytes of state, frozen weights and batch.
    temporaries: bytes that the step needs beside them at its fullest moment.
    parts: (what, seconds, how many), by falling seconds.
    arithmetic_seconds: of `cost`, what rests on no compiled piece.
    compile_seconds: of the pieces.
    model_flops_per_row: of the model, for one row of a batch.
  """

  cost: PieceCost
  traffic: Traffic
  arguments: float
  temporaries: float
  parts: list[tuple[str, float, int]]
  arithmetic_seconds: float
  compile_seconds: float
  model_flops_per_row: float

  @property
  def seconds(self) -> float:
    """Of a step."""
    return self.cost.seconds + self.traffic.exposed_seconds

  @property
  def total_bytes(self) -> float:
    """Memory at the fullest moment, code included."""
    return self.arguments + self.temporaries + self.cost.code


def measure(
  program: programs.Program,
  topology: Topology,
  cache: Cache,
  jobs: int,
  progress: Callable[[int, int, str], None],
) -> Measured:
  """Compiles the pieces of `program` on `topology`; see `piece_costs.measure` for the others.

  Raises:
    ValueError: the batch does not divide.
  """
  cell = cells.make(program.config, program.mesh, topology)
  steps = pieces.record(cell.program)
  costs, seconds = piece_costs.measure(
    steps, cell.program.mesh, cell.topology, cache, jobs, progress
  )
  return Measured(cell, steps, costs, seconds)


def assemble(
  program: programs.Program,
  measured: Measured,
  topology: Topology,
  *,
  rows: float = 1.0,
  policy: str = "",
) -> Estimate:
  """Makes a step of its pieces.

  Args:
    program: on the mesh that is planned for, which may be another than what was measured on.
    measured: its pieces.
    topology: of the mesh.
    rows: of a cell's batch, in parts of what was measured; times and activations go with it, a
      batch that goes through in parts (`accumulation_steps`) is one such part.
    policy: of recomputation for all blocks, instead of their own.
  """
  steps, costs = measured.steps, dict(measured.costs)
  if policy:
    costs |= {
      key: costs[key].under(policy) for key, (call, _) in steps.distinct.items() if call.policy
    }
  share = rows / measured.cell.program.mesh.size  # of a cell's activations, that a device holds
  times = program.config.accumulation_steps
  parts: list[tuple[str, float, int, bool]] = []
  total = PieceCost()
  for key, (call, count) in steps.distinct.items():
    cost = costs[key]
    weight = times * count * (1.0 + cost.again) * rows
    total = total.plus(cost, weight)
    parts.append((name_of(call), cost.seconds * weight, times * count, cost.compiled))
  for name, seconds in (
    ("skips joined", times * share * _joined_seconds(steps, topology)),
    ("optimizer and moving average", data_parallel.update_seconds(program, topology)),
  ):
    more = PieceCost(
      seconds, seconds * HBM_EFFICIENCY, seconds / HBM_EFFICIENCY, by_kind={"arithmetic": seconds}
    )
    total = total.plus(more)
    parts.append((name, seconds, 1, False))
  code = sum(costs[key].code * count for key, (_, count) in steps.distinct.items())
  total = dataclasses.replace(total, code=code)
  traffic = data_parallel.traffic(
    program, measured.cell.program, steps, topology, total.seconds, policy=policy
  )
  return Estimate(
    cost=total,
    traffic=traffic,
    arguments=data_parallel.argument_bytes(program, steps),
    temporaries=_fullest(measured, costs, traffic, rows, policy)
    + traffic.gathered_bytes
    + (sum(traffic.gradient_bytes.values()) if times > 1 else 0.0),  # the sum of the parts'
    parts=sorted(((n, s, c) for n, s, c, _ in parts), key=lambda part: -part[1]),
    arithmetic_seconds=sum(seconds for _, seconds, _, compiled in parts if not compiled),
    compile_seconds=measured.compile_seconds,
    model_flops_per_row=measured.model_flops_per_row,
  )


def _joined_seconds(steps: Steps, topology: Topology) -> float:
  """Of the concatenations before the blocks on the way up."""
  moved, before = 0, None
  for call in steps.calls:
    if call.trained and call.compiled:
      if before is not None and call.x.shape[:-1] == before.out.shape[:-1]:
        is_joined = call.x.shape[-1] > before.out.shape[-1]
        moved += is_joined * call.x.size * call.x.dtype.itemsize
      before = call
    elif call.trained:
      before = call
  return _CONCATENATED * moved / (HBM_EFFICIENCY * topology.chip.hbm_bytes_per_second)


def _fullest(
  measured: Measured, costs: dict[tuple, PieceCost], traffic: Traffic, rows: float, policy: str
) -> float:
  """Most bytes beside the arguments: what is stored, gradients so far, and the piece that runs.

  Forward, what is stored grows from piece to piece; backward it shrinks, and gradients grow.
  """
  steps, share = measured.steps, rows / measured.cell.program.mesh.size
  stored_bytes = {
    key: share * call.stored_bytes(policy if call.policy else "") if call.trained else 0.0
    for key, (call, _) in steps.distinct.items()
  }
  stored, moments = 0.0, []
  for call in steps.calls:
    stored += stored_bytes[call.key]
    moments.append(stored + rows * costs[call.key].temporaries)
  gradients, seen = 0.0, set[str]()
  for call in reversed(steps.calls):
    if not call.trained:
      continue
    new = set(call.names) - seen
    seen |= new
    gradients += sum(traffic.gradient_bytes.get(name, 0.0) for name in new)
    moments.append(stored + gradients + rows * costs[call.key].temporaries)
    stored -= stored_bytes[call.key]
  return max(moments, default=0.0)


def name_of(call: pieces.Call) -> str:
  """For people: kind, channels and size."""
  if call.network:
    return f"{call.network} encoder: {call.kind.__name__}"
  size = "x".join(map(str, call.x.shape[1:-1]))
  channels = f"{call.x.shape[-1]}" + (
    f" to {call.out.shape[-1]}" if call.out.shape[-1] != call.x.shape[-1] else ""
  )
  return f"{call.kind.__name__} {channels} @ {size}"
