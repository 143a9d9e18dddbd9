"""What the pieces of a step cost: some are compiled alone, the rest is arithmetic on those.

Compiling for a TPU costs a minute of processor time for each block, whatever its size. So of pieces
that differ only in the channels that go in, or that are a small part of the step and differ in
resolution, one is compiled, and the others take the time in which it does as many FLOPs. Where the
backward pass begins by running a block again, that part of the program is the forward pass, too.
"""

from collections.abc import Callable
import concurrent.futures
import dataclasses
import re
from typing import Any

import jax

from vidjax.planning import compilation, pricing, products
from vidjax.planning.compilation import Cache
from vidjax.planning.pieces import Call, Steps
from vidjax.planning.topology import Topology

# What a layer that is not compiled reaches of its chip's peaks: of the matrix unit, where compiled
# convolutions of these shapes do 0.5 to 0.75, and of HBM. Judgement; such layers are a few percent.
_SMALL_MATRIX = 0.6
# A resolution with a smaller share of the step's FLOPs has no program of its own.
_OWN_PROGRAM = 0.05
_AGAIN = "rematted_computation"  # in XLA's names of what runs a second time
_MATRIX_KINDS = ("conv", "dot", "kernel")
# Of forward and backward pass, what the forward pass of a block takes where no program tells;
# 0.30 to 0.39 in compiled blocks.
_FORWARD = 0.35
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')


@dataclasses.dataclass(frozen=True)
class PieceCost:
  """Of one call in a step, for one device: once forward, and once backward if it is trained.

  See `pricing.Cost` for the figures that it takes from there.

  Attributes:
    seconds: without collectives' exposed time, unless the piece has some of its own.
    low_seconds: lower bound.
    high_seconds: upper bound.
    assumed_seconds: the part of `seconds` in kernels that are priced by assumption.
    matrix_flops: recomputation included.
    bytes_accessed: of HBM.
    temporaries: bytes that live while the piece runs in the direction that needs more.
    code: bytes of its program.
    forward_share: of all these, what the forward pass costs.
    again: what runs a second time under the policy of the call, in parts of all these.
    by_kind: seconds by kind of operation.
    collectives: kind -> (count, bytes, seconds, exposed seconds).
    unpriced: names without a price -> occurrences.
    compiled: whether it rests on a compiled program of its own.
  """

  seconds: float = 0.0
  low_seconds: float = 0.0
  high_seconds: float = 0.0
  assumed_seconds: float = 0.0
  matrix_flops: float = 0.0
  bytes_accessed: float = 0.0
  temporaries: float = 0.0
  code: float = 0.0
  forward_share: float = 1.0
  again: float = 0.0
  by_kind: dict[str, float] = dataclasses.field(default_factory=dict)
  collectives: dict[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)
  unpriced: dict[str, int] = dataclasses.field(default_factory=dict)
  compiled: bool = True

  @property
  def matrix_share(self) -> float:
    """Share of the time in matrix products."""
    matrix = sum(seconds for kind, seconds in self.by_kind.items() if kind in _MATRIX_KINDS)
    return matrix / (sum(self.by_kind.values()) or 1.0)

  def under(self, policy: str) -> "PieceCost":
    """The same call under another policy, by arithmetic."""
    again = {"none": 0.0, "matmuls": 1.0 - self.matrix_share}.get(policy, 1.0)
    return dataclasses.replace(self, again=again * self.forward_share)

  def plus(self, other: "PieceCost", weight: float = 1.0) -> "PieceCost":
    """One after the other, the second `weight` times; the larger of the temporaries."""
    return PieceCost(
      **{name: getattr(self, name) + weight * getattr(other, name) for name in _ADDED},
      temporaries=max(self.temporaries, other.temporaries),
      forward_share=self.forward_share,
      again=self.again,
      by_kind=_added(self.by_kind, other.by_kind, weight),
      collectives={
        kind: tuple(
          a + weight * b
          for a, b in zip(
            self.collectives.get(kind, (0.0,) * 4),
            other.collectives.get(kind, (0.0,) * 4),
            strict=True,
          )
        )
        for kind in self.collectives | other.collectives
      },
      unpriced=_added(self.unpriced, other.unpriced, weight),
      compiled=self.compiled and other.compiled,
    )


_ADDED = (
  "seconds",
  "low_seconds",
  "high_seconds",
  "assumed_seconds",
  "matrix_flops",
  "bytes_accessed",
  "code",
)


def lower(call: Call, passes: Callable[..., Any], mesh: jax.sharding.Mesh) -> Any:
  """The program of a call on the devices of `mesh`, to be compiled.

  Args:
    call: what is called.
    passes: its `forward`, `backward` or `both_ways`.
    mesh: devices that need not be here.
  """
  of_parameters, of_arrays, of_result = call.layout

  def placed(like: Any, spec: jax.P) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(like.shape, like.dtype, sharding=jax.NamedSharding(mesh, spec))

  args: list[Any] = [
    list(map(placed, call.parameters, of_parameters)),
    list(map(placed, call.arrays, of_arrays)),
  ]
  if passes != call.forward:
    args.append(placed(call.out, of_result))
  with jax.set_mesh(mesh):
    return jax.jit(passes).lower(*args)


def measure(
  steps: Steps,
  mesh: jax.sharding.Mesh,
  topology: Topology,
  cache: Cache,
  jobs: int,
  progress: Callable[[int, int, str], None],
) -> tuple[dict[tuple, PieceCost], float]:
  """The cost of each distinct call, by its key, and the seconds that compiling took.

  Args:
    steps: of the loss on one cell (`vidjax.planning.quick`).
    mesh: of that cell.
    topology: of that cell.
    cache: of compiled programs.
    jobs: programs that are compiled side by side.
    progress: told (programs done, of how many, name of the last one).
  """
  distinct = [call for call, _ in steps.distinct.values()]
  models = _models(steps)
  chosen = [call for call in distinct if call.compiled and models[call.key] is call]
  costs: dict[tuple, PieceCost] = {}
  compiling = 0.0

  def run(call: Call) -> tuple[Call, PieceCost, float]:
    compiled = compilation.compile_lowered(lower(call, _passes(call), mesh), topology, cache)
    if compiled.too_large:
      # It cannot run, whatever it would take; the memory says so.
      names = {f"{call.kind.__name__}, which does not fit": 1}
      return call, PieceCost(temporaries=compiled.memory.total, unpriced=names), compiled.seconds
    cost = _priced(compiled, topology)
    again = share_of_cycles(compiled.hlo_text, _AGAIN) if call.trained else 0.0
    return call, _once(call, cost, again, mesh.size), compiled.seconds

  pool = concurrent.futures.ThreadPoolExecutor(jobs)  # XLA compiles outside of Python's lock
  try:
    running = [pool.submit(run, call) for call in chosen]
    for done, future in enumerate(concurrent.futures.as_completed(running), 1):
      call, cost, seconds = future.result()
      costs[call.key] = cost
      compiling += seconds
      progress(done, len(chosen), call.kind.__name__)
  finally:
    pool.shutdown(wait=False, cancel_futures=True)  # on an interrupt, nobody waits for XLA
  for call in distinct:
    if not call.compiled:
      costs[call.key] = small(call, topology, mesh.size)
    elif call.key not in costs:
      costs[call.key] = _scaled(call, models[call.key], costs)
  return costs, compiling


def _passes(call: Call) -> Callable[..., Any]:
  """What tells both passes: where all of a block runs twice, the backward pass alone."""
  if not call.trained:
    return call.forward
  return call.backward if call.runs_twice else call.both_ways


def _once(call: Call, cost: PieceCost, again: float, devices: int) -> PieceCost:
  """A forward and a backward pass, each once, of a program in which a part runs twice.

  Args:
    call: what was compiled.
    cost: of its program.
    again: the share of that which runs a second time.
    devices: that share the work.
  """
  if not call.trained:
    return cost
  if call.runs_twice:  # the program has the second time only
    return dataclasses.replace(cost, forward_share=again, again=again)
  once = PieceCost().plus(cost, 1.0 - again)
  # What waits for the backward pass is in between in this program, and stored in the step.
  between = max(0.0, cost.temporaries - call.stored_bytes() / devices)
  return dataclasses.replace(
    once, temporaries=between, forward_share=_FORWARD, again=again / (1.0 - again)
  )


def small(call: Call, topology: Topology, devices: int = 1) -> PieceCost:
  """Of a layer that is not compiled: the slower of its products and its traffic.

  Forward it reads the input and writes the output; backward it reads both and their gradients for
  the products that follow: two that each have as many FLOPs, one if its weights are frozen. The
  devices of a cell share the work.
  """
  work = products.count(call) / devices
  moved = sum(a.size * a.dtype.itemsize for a in (call.x, call.out)) / devices
  if call.trained:
    work, moved = (3.0 if any(call.live) else 2.0) * work, 3.0 * moved
  chip = topology.chip
  low = max(work / chip.peak_flops, moved / chip.hbm_bytes_per_second)
  seconds = max(
    work / (_SMALL_MATRIX * chip.peak_flops),
    moved / (pricing.HBM_EFFICIENCY * chip.hbm_bytes_per_second),
  )
  return PieceCost(
    seconds=seconds,
    low_seconds=low,
    high_seconds=2.0 * seconds,
    matrix_flops=work,
    bytes_accessed=moved,
    temporaries=2.0 * moved / 3.0 if call.trained else moved,
    by_kind={"small layers": seconds},
    compiled=False,
  )


def _priced(compiled: compilation.Compiled, topology: Topology) -> PieceCost:
  cost = pricing.price(compiled.hlo_text, topology)
  return PieceCost(
    seconds=cost.seconds,
    low_seconds=cost.low_seconds,
    high_seconds=cost.high_seconds,
    assumed_seconds=cost.assumed_seconds,
    matrix_flops=cost.matrix_flops,
    bytes_accessed=cost.bytes_accessed,
    temporaries=compiled.memory.temporaries,
    code=compiled.memory.code,
    by_kind=cost.by_kind,
    collectives={
      kind: (c.count, c.bytes, c.seconds, c.exposed_seconds) for kind, c in cost.collectives.items()
    },
    unpriced=cost.unpriced,
  )


def share_of_cycles(hlo_text: str, scope: str) -> float:
  """Share of XLA's cycle counts in instructions that come from a scope of the program."""
  within, total = 0, 0
  for line in hlo_text[hlo_text.rindex("\nENTRY ") :].splitlines():
    found = _CYCLES.search(line)
    if found:
      total += int(found[1])
      within += int(found[1]) * (scope in line)
  return within / total if total else 0.0


def _models(steps: Steps) -> dict[tuple, Call]:
  """Key of each call that is worth compiling -> the one that is compiled for it, maybe itself."""
  weights = {
    key: (call, count * products.count(call)) for key, (call, count) in steps.distinct.items()
  }
  total = sum(weight for _, weight in weights.values())
  alike: dict[tuple, dict[tuple, list[tuple[float, Call]]]] = {}
  for call, weight in weights.values():
    if call.compiled:
      kind = (call.kind, str(call.x.dtype), call.out.shape[-1], call.policy, call.trained)
      sizes = alike.setdefault((*kind, len(call.arrays)), {})
      sizes.setdefault(call.x.shape[:-1], []).append((weight, call))
  found = {}
  for sizes in alike.values():
    best = {size: max(members, key=lambda m: m[0])[1] for size, members in sizes.items()}
    share = {size: sum(w for w, _ in members) / total for size, members in sizes.items()}
    largest = max(share, key=lambda size: share[size])
    for size, members in sizes.items():
      model = best[size if share[size] >= _OWN_PROGRAM else largest]
      found |= {call.key: model for _, call in members}
  return found


def _scaled(call: Call, model: Call, costs: dict[tuple, PieceCost]) -> PieceCost:
  share = products.count(call) / max(products.count(model), 1.0)
  moved = (call.x.size + call.out.size) / (model.x.size + model.out.size)
  base = costs[model.key]
  scaled = PieceCost().plus(base, share)
  return dataclasses.replace(
    scaled,
    temporaries=base.temporaries * moved,
    code=base.code,
    forward_share=base.forward_share,
    again=base.again,
  )


def _added(a: dict[str, Any], b: dict[str, Any], weight: float) -> dict[str, Any]:
  return {key: a.get(key, 0) + weight * b.get(key, 0) for key in a | b}
