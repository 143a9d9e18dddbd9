"""Collectives: who takes part, how many bytes, and how long on the links.

The model is a ring over all links of the torus axes that the group covers (`Topology`): an
all-gather of b bytes among n devices brings (n-1)/n of b into each device, an all-reduce twice
that. A group over several slices first works within its slice, then exchanges the parts over the
data centre's network. Rates of the links are published ones and latencies are judgement; what a
real ring reaches of them was not measured.
"""

import dataclasses
import math
import re

import numpy as np

from vidjax.planning import hlo
from vidjax.planning.topology import Topology

OPCODES = (
  "all-gather",
  "all-reduce",
  "reduce-scatter",
  "all-to-all",
  "ragged-all-to-all",
  "collective-permute",
  "collective-broadcast",
)
HOP_SECONDS = 2e-6  # for each doubling of the group; judgement
DCN_HOP_SECONDS = 50e-6  # the same between slices; judgement


def kind_of(instruction: hlo.Instruction) -> str:
  """ "all-gather" for "all-gather-start" and its like; empty for what is no collective."""
  opcode = re.sub(r"-(start|done)$", "", instruction.opcode)
  return opcode if opcode in OPCODES else ""


@dataclasses.dataclass(frozen=True)
class Group:
  """Devices of one replica group: `size` in all, over `slices` slices."""

  size: int
  slices: int = 1

  @property
  def within(self) -> int:
    """Devices of the group in one slice."""
    return max(1, self.size // self.slices)


@dataclasses.dataclass(frozen=True)
class Collective:
  """One collective: its kind, its bytes (of the full array, in memory layout) and its group."""

  kind: str
  bytes: int
  group: Group


def of_instruction(
  inside: hlo.Computation, instruction: hlo.Instruction, topology: Topology
) -> Collective:
  """Describes `instruction`, a collective or the start of one."""
  kind = kind_of(instruction)
  if kind == "all-gather":
    arrays = instruction.arrays
    if instruction.opcode.endswith("-start"):  # (operands..., results..., context)
      arrays = arrays[len(instruction.operands) : 2 * len(instruction.operands)]
  else:
    arrays = tuple(array for each in inside.operands(instruction) for array in each.arrays)
  return Collective(
    kind, sum(array.physical_bytes for array in arrays), _group(instruction, topology)
  )


def seconds(collective: Collective, topology: Topology) -> float:
  """Time on the network of one collective that has it to itself."""
  kind, size, group = collective.kind, collective.bytes, collective.group
  if group.size < 2:
    return 0.0
  inner = _on_links(kind, size, group.within, topology) if group.within > 1 else 0.0
  if group.slices == 1:
    return inner
  if kind in ("all-gather", "all-reduce", "reduce-scatter"):
    size = size // group.within  # the other devices of the slice carry the rest
  return inner + between_slices(kind, size, group.slices, topology)


def _on_links(kind: str, size: int, devices: int, topology: Topology) -> float:
  """Within one slice."""
  share = (devices - 1) / devices
  bandwidth = topology.group_bandwidth(devices)
  if kind == "collective-permute":  # to a neighbour
    return size / (2 * topology.chip.ici_bytes_per_second) + HOP_SECONDS
  if kind == "all-reduce":  # reduce-scatter, then all-gather
    moved = 2 * size * share
  elif kind in ("all-to-all", "ragged-all-to-all"):
    # Half of the traffic goes either way round; on long axes it passes many links.
    moved = size * share / 2 * max(1.0, math.sqrt(devices) / 4)
  elif kind == "collective-broadcast":
    moved = size
  else:
    moved = size * share
  return moved / bandwidth + HOP_SECONDS * math.log2(devices)


def between_slices(kind: str, size: int, slices: int, topology: Topology) -> float:
  """Of `size` bytes per device over the data centre's network."""
  share = (slices - 1) / slices
  moved = size * (2 * share if kind == "all-reduce" else share)
  if kind in ("collective-permute", "collective-broadcast"):
    moved = size
  return moved / topology.chip.dcn_bytes_per_second + DCN_HOP_SECONDS * math.log2(slices)


def _group(instruction: hlo.Instruction, topology: Topology) -> Group:
  """The first replica group; devices are numbered slice by slice, as meshes lay them out."""
  members = replica_group(instruction, topology.device_count)
  slices = {member // topology.devices_per_slice for member in members}
  return Group(len(members), max(1, len(slices)))


def replica_group(instruction: hlo.Instruction, device_count: int) -> list[int]:
  """Device numbers of the first replica group; all of `device_count` where none is written.

  Reads the three notations: lists `{{0,1},{2,3}}`, arrays `[2,4]<=[4,2]T(1,0)`, and mesh axes
  `mesh['a'=2,'b'=4] {'b'}` or, for a part of an axis, `{'b':(2)2}`: size 2 after 2 outer ones.
  """
  pairs = instruction.values.get("source_target_pairs")
  if pairs is not None:
    # The pair that goes furthest decides whether slices are crossed.
    found = re.findall(r"\{(\d+),(\d+)\}", pairs)
    return max(([int(a), int(b)] for a, b in found), key=lambda pair: abs(pair[0] - pair[1]))
  text = instruction.values.get("replica_groups", "")
  listed = re.match(r"\{\{([\d,]+)\}", text)
  if listed:
    return [int(word) for word in listed.group(1).split(",")]
  array = re.match(r"\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", text)
  if array:
    shape, source, order = (
      [int(word) for word in part.split(",")] if part else None for part in array.groups()
    )
    numbers = np.arange(math.prod(source or [])).reshape(source)
    return [int(n) for n in numbers.transpose(order).reshape(shape)[0]]
  mesh = re.match(r"mesh\[([^\]]*)\].*?\{([^}]*)\}$", text)
  if mesh:
    sizes = [(name, int(size)) for name, size in re.findall(r"'([^']+)'=(\d+)", mesh.group(1))]
    members = [0]
    for name, before, part in re.findall(r"'([^']+)'(?::\((\d+)\)(\d+))?", mesh.group(2)):
      position = [axis for axis, _ in sizes].index(name)
      stride = math.prod(size for _, size in sizes[position + 1 :])
      count = sizes[position][1]
      if part:
        stride, count = stride * (count // (int(before) * int(part))), int(part)
      members = [member + stride * step for member in members for step in range(count)]
    return members
  return list(range(device_count))
