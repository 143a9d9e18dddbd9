"""Seconds, FLOPs and bytes of one step from the optimized HLO text that XLA compiled for a TPU.

The instructions of the entry computation are taken in the order in which the compiler scheduled
them. Each has a price, the slower of what it computes and what it moves:

  convolution     XLA's estimated cycles
  matrix product  the cycles, or the padded FLOPs at 0.90 of the peak if that is less: the cycles of
                  thin products are far too many
  all others      a sixth of the cycles, which are 2 to 7 times too many for elementwise work
  kernels         padded FLOPs at 0.60 of the peak and their elementwise work (`kernels`)
  memory          bytes in and out of HBM (`traffic`) at 0.85 of the peak

Collectives (`collectives`), copies between memories and transfers between slices run on resources
of their own beside the core, from the instruction that starts them to the one that waits for them
(`timeline`). Bodies of loops count as often as they run (`loops`).

The constants below are judgement, taken from comparing a few instructions with the compiler's own
instruction bundles. None was calibrated on a TPU: read differences under 10 % as ties, and the
bounds `low_seconds` and `high_seconds` as what they are.
"""

from collections.abc import Mapping
import functools
import re

from vidjax.planning import collectives, hlo, kernels, loops, matrices, shapes, traffic
from vidjax.planning.cost import CollectiveCost, Cost, Tally
from vidjax.planning.kernels import KernelPrice
from vidjax.planning.timeline import Timeline
from vidjax.planning.topology import Topology

__all__ = ["CollectiveCost", "Cost", "KernelPrice", "price"]

HBM_EFFICIENCY = 0.85
MXU_EFFICIENCY = 0.90
KERNEL_EFFICIENCY = 0.60
KERNEL_EFFICIENCY_AT_WORST = 0.25
VECTOR_CYCLES = 6  # XLA's cycles of elementwise work, per cycle that it is taken to need
VECTOR_OPS_PER_CYCLE = 4 * 8 * 128  # float32, one core
ISSUE_SECONDS = 0.3e-6  # from one instruction to the next
HOST_BYTES_PER_SECOND = 16e9  # between a device and its host's memory, as PCIe 3.0 x16

_FREE = (
  "add-dependency",
  "after-all",
  "bitcast",
  "constant",
  "domain",
  "get-tuple-element",
  "opt-barrier",
  "parameter",
  "partition-id",
  "replica-id",
  "tuple",
)


def price(
  hlo_text: str, topology: Topology, kernel_prices: Mapping[str, KernelPrice] | None = None
) -> Cost:
  """Prices `compiled.as_text()` of a program compiled for `topology`.

  Args:
    hlo_text: optimized, scheduled HLO.
    topology: what it was compiled for.
    kernel_prices: regular expression of a kernel's name -> work of one call.

  Raises:
    ValueError: the text is no scheduled HLO module.
  """
  module = hlo.parse(hlo_text)
  return _Pricer(module, topology, kernel_prices or {}).computation(module.entry.name).cost()


class _Pricer:
  """Prices the computations of one module, each once."""

  def __init__(
    self, module: hlo.Module, topology: Topology, kernel_prices: Mapping[str, KernelPrice]
  ):
    self.module = module
    self.topology = topology
    self.chip = topology.chip
    self.kernel_prices = kernel_prices
    self.bandwidth = HBM_EFFICIENCY * topology.chip.hbm_bytes_per_second
    self.computation = functools.cache(self._computation)
    self.matrix_work = functools.cache(self._matrix_work)
    self.inner_collective = functools.cache(self._inner_collective)

  def _computation(self, name: str) -> Tally:
    inside = self.module.computations[name]
    tally = Tally()
    timeline = Timeline(tally)
    for instruction in inside.instructions:
      self._instruction(inside, instruction, tally, timeline)
    return tally

  def _instruction(
    self,
    inside: hlo.Computation,
    instruction: hlo.Instruction,
    tally: Tally,
    timeline: Timeline,
  ):
    opcode = instruction.opcode
    if opcode in _FREE:
      return
    if opcode == "while":
      trips = loops.trip_count(self.module, inside, instruction)
      if trips is None:
        tally.unpriced["trips of a loop after its first"] += 1
      tally.add(self.computation(instruction.values["body"].removeprefix("%")), trips or 1)
    elif opcode == "conditional":
      tally.add(max(map(self.computation, instruction.branches), key=lambda each: each.seconds))
    elif opcode == "call":
      tally.add(self.computation(instruction.called))
    elif opcode in ("send", "recv", "send-done", "recv-done"):
      self._between_slices(inside, instruction, tally, timeline)
    elif opcode == "async-update":
      timeline.rename(instruction.operands[0], instruction.name)
    elif opcode.endswith("-done"):
      timeline.wait(instruction.operands[0])
    elif collectives.kind_of(instruction):
      self._collective(inside, instruction, instruction.name, tally, timeline)
    elif opcode.endswith("-start"):
      self._start(inside, instruction, tally, timeline)
    elif opcode == "custom-call":
      self._custom_call(inside, instruction, tally)
    elif opcode == "fusion" and self.inner_collective(instruction.called):
      self._fused_collective(inside, instruction, tally, timeline)
    else:
      self._compute(inside, instruction, tally)

  def _collective(
    self,
    inside: hlo.Computation,
    instruction: hlo.Instruction,
    key: str,
    tally: Tally,
    timeline: Timeline,
    *,
    starts: bool | None = None,
  ):
    """One that stands by itself, or (with `starts`) within what starts it."""
    found = collectives.of_instruction(inside, instruction, self.topology)
    seconds = collectives.seconds(found, self.topology)
    tally.transfer(found.kind, found.bytes, seconds)
    timeline.start("network", key, found.kind, seconds)
    if not (instruction.opcode.endswith("-start") if starts is None else starts):
      timeline.wait(key)

  def _start(
    self,
    inside: hlo.Computation,
    instruction: hlo.Instruction,
    tally: Tally,
    timeline: Timeline,
  ):
    """A copy between memories, or anything wrapped to run beside the core."""
    inner = self.inner_collective(instruction.called) if instruction.called else None
    if inner:
      self._collective(*inner, instruction.name, tally, timeline, starts=True)
      return
    # (source, target, context) in either order, for a slice the part last: the least is moved.
    arrays = [array for array in instruction.arrays if array.dims]
    size = min((array.physical_bytes for array in arrays), default=0)
    tally.bytes += size
    if any(array.space == shapes.HOST for array in arrays):
      timeline.start("host", instruction.name, "host copy", size / HOST_BYTES_PER_SECOND)
    else:
      timeline.start("copy", instruction.name, "copy", size / self.bandwidth)

  def _between_slices(
    self,
    inside: hlo.Computation,
    instruction: hlo.Instruction,
    tally: Tally,
    timeline: Timeline,
  ):
    """Transfers between slices: a `send` of what this device has, a `recv` of the result."""
    attributes = instruction.values.get("frontend_attributes", "")
    transfer = re.search(r'megascale_transfer_type="(\w+)"', attributes)
    meeting = re.search(r'host_transfer_rendezvous="([^"]*)"', attributes)
    if instruction.opcode == "recv-done":
      start = inside.by_name[instruction.operands[0]]
      timeline.wait(_rendezvous(start))
    elif instruction.opcode == "send" and transfer and meeting:
      kind = transfer.group(1).lower().replace("_", "-")
      size = sum(a.physical_bytes for a in inside.by_name[instruction.operands[0]].arrays)
      slices = max(2, self.topology.slices)
      seconds = collectives.between_slices(kind, size, slices, self.topology)
      tally.transfer(f"dcn {kind}", size, seconds)
      timeline.start("dcn", _rendezvous(instruction), f"dcn {kind}", seconds)
    elif instruction.opcode == "send":
      tally.unpriced["transfer to the host"] += 1

  def _fused_collective(
    self,
    inside: hlo.Computation,
    instruction: hlo.Instruction,
    tally: Tally,
    timeline: Timeline,
  ):
    """A fusion around a collective: its start, a step of it beside computation, its end, or all."""
    called = self.module.computations[instruction.called]
    inner = self.inner_collective(instruction.called)
    assert inner
    # The start, the steps and the end hold copies of one collective, with the same channel.
    key = f"channel {inner[1].values.get('channel_id', instruction.name)}"
    targets = {each.custom_call_target for each in called.instructions}
    if "AsyncCollectiveStart" in targets:
      self._collective(*inner, key, tally, timeline, starts=True)
    elif "AsyncCollectiveDone" in targets:
      timeline.wait(key)
    elif "async_collective_fusion_config" in inner[1].attributes:
      self._compute(inside, instruction, tally)
    else:
      self._fused_whole(inside, instruction, inner, tally, timeline)

  def _fused_whole(
    self,
    inside: hlo.Computation,
    instruction: hlo.Instruction,
    inner: tuple[hlo.Computation, hlo.Instruction],
    tally: Tally,
    timeline: Timeline,
  ):
    """A collective that nothing but the computation fused with it hides.

    Unlike collectives by themselves it is in both bounds. A sum of which a device keeps a slice
    is a reduce-scatter.
    """
    found = collectives.of_instruction(*inner, self.topology)
    kind = "reduce-scatter" if found.kind == "all-reduce" else found.kind
    found = collectives.Collective(kind, found.bytes, found.group)
    seconds = collectives.seconds(found, self.topology)
    tally.transfer(kind, found.bytes, seconds)
    work = self.matrix_work(instruction.called)
    bytes_ = traffic.of_instruction(self.module, inside, instruction)
    cycles = instruction.estimated_cycles / self.chip.clock_hz
    padded = work.padded_flops / (MXU_EFFICIENCY * self.chip.peak_flops)
    computing = max(min(cycles or padded, padded), bytes_ / self.bandwidth)
    timeline.start("network", instruction.name, kind, seconds)
    tally.operation(_name(instruction), "dot" if work.count else "elementwise", computing)
    timeline.wait(instruction.name)
    tally.work(
      low=max(seconds, work.flops / self.chip.peak_flops),
      high=max(seconds, cycles),
      flops=work.flops,
      bytes_=bytes_,
    )

  def _custom_call(self, inside: hlo.Computation, instruction: hlo.Instruction, tally: Tally):
    target = instruction.custom_call_target
    if target in kernels.FREE_TARGETS:
      return
    if target != kernels.TARGET:
      tally.unpriced[target or instruction.name] += 1
      return
    found = kernels.price(inside, instruction, self.kernel_prices, self.chip.mxu_lanes)
    if found is None:
      tally.unpriced[f"kernel {_name(instruction)}"] += 1
      found = KernelPrice(0.0)
    padded = found.matrix_flops if found.padded_flops is None else found.padded_flops
    bytes_ = traffic.of_instruction(self.module, inside, instruction)
    vector = found.vector_flops / (VECTOR_OPS_PER_CYCLE * self.chip.clock_hz)
    peak, memory = self.chip.peak_flops, bytes_ / self.bandwidth
    seconds = max(padded / (KERNEL_EFFICIENCY * peak) + vector, memory)
    tally.operation(_name(instruction), "kernel", seconds)
    tally.assumed += seconds
    tally.work(
      low=max(found.matrix_flops / peak, bytes_ / self.chip.hbm_bytes_per_second),
      high=max(padded / (KERNEL_EFFICIENCY_AT_WORST * peak) + 2 * vector, memory),
      flops=found.matrix_flops,
      bytes_=bytes_,
    )

  def _compute(self, inside: hlo.Computation, instruction: hlo.Instruction, tally: Tally):
    """Anything that the core does by itself."""
    if instruction.opcode in matrices.OPCODES:
      work = matrices.of_instruction(inside, instruction, self.chip.mxu_lanes)
    elif instruction.opcode == "fusion":
      work = self.matrix_work(instruction.called)
    else:
      work = matrices.Work()
    bytes_ = traffic.of_instruction(self.module, inside, instruction)
    cycles = instruction.estimated_cycles / self.chip.clock_hz
    padded = work.padded_flops / (MXU_EFFICIENCY * self.chip.peak_flops)
    if work.is_convolution:
      kind, computing = "conv", cycles or padded
    elif work.count:
      kind, computing = "dot", min(cycles or padded, padded)
    else:
      kind, computing = self._kind(instruction), cycles / VECTOR_CYCLES
    seconds = max(computing, bytes_ / self.bandwidth) + ISSUE_SECONDS
    tally.operation(_name(instruction), kind, seconds)
    at_peak = bytes_ / self.chip.hbm_bytes_per_second
    tally.work(
      low=max(work.flops / self.chip.peak_flops, at_peak),
      high=max(cycles, at_peak),
      flops=work.flops,
      bytes_=bytes_,
    )

  def _kind(self, instruction: hlo.Instruction) -> str:
    """Of an instruction without matrix products: what takes the time in it."""
    opcodes = {instruction.opcode}
    if instruction.opcode == "fusion":
      called = self.module.computations[instruction.called]
      opcodes = {each.opcode for each in called.instructions} - set(_FREE)
    if opcodes & {"reduce", "reduce-window"}:
      return "reduce"
    return "copy" if opcodes <= {"copy", "transpose", "reshape"} else "elementwise"

  def _matrix_work(self, name: str) -> matrices.Work:
    """Matrix products in a fused computation and those that it calls."""
    inside, work = self.module.computations[name], matrices.Work()
    for each in inside.instructions:
      if each.opcode in matrices.OPCODES:
        work += matrices.of_instruction(inside, each, self.chip.mxu_lanes)
      elif each.opcode in ("fusion", "call"):
        work += self.matrix_work(each.called)
    return work

  def _inner_collective(self, name: str) -> tuple[hlo.Computation, hlo.Instruction] | None:
    """The collective in a computation or in what it calls, and where it stands."""
    inside = self.module.computations[name]
    for each in inside.instructions:
      if collectives.kind_of(each):
        return inside, each
      found = self.inner_collective(each.called) if each.opcode in ("fusion", "call") else None
      if found:
        return found
    return None


def _rendezvous(instruction: hlo.Instruction) -> str:
  """What a `send` and the `recv` of its answer have in common."""
  attributes = instruction.values.get("frontend_attributes", "")
  found = re.search(r'host_transfer_rendezvous="([^"]*)"', attributes)
  return f"rendezvous {found.group(1)}" if found else instruction.name


def _name(instruction: hlo.Instruction) -> str:
  """Where it comes from and the shape it makes; copies of one line of Python share it."""
  name = instruction.op_name or re.sub(r"[.\d]+$", "", instruction.name)
  name = re.sub(r"jit\(\w+\)/|closed_call/|checkpoint/|rematted_computation/|jvp\(\)/", "", name)
  shape = f" {instruction.arrays[0]}" if instruction.arrays else ""
  return name[-80:] + shape
