"""What a topology is where it is rented: type, machines, chips of each. One table for all places.

Sources, under https://docs.cloud.google.com/:
  kubernetes-engine/docs/concepts/plan-tpus   labels, machine types and shapes of node pools
  tpu/docs/{v4,v5e,v5p,v6e,tpu7x}             shapes, chips of a machine, names of the TPU API
  tpu/docs/supported-tpu-versions             software of TPU VMs
and xpk's table of the same (AI-Hypercomputer/xpk, src/xpk/core/system_characteristics.py).
"""

import dataclasses
import difflib
import math
import re

from vidjax.planning import topology as topologies
from vidjax.planning.topology import Topology

_GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Generation:
  """A generation of TPUs, by its names.

  Attributes:
    label: of its nodes in GKE, `cloud.google.com/gke-tpu-accelerator`.
    machine: machine type, to which the chips of a machine are added.
    api: name before the dash of an accelerator type; of the TPU API, and of xpk.
    counts: what the number behind the dash counts for each chip: cores or chips.
    runtime: software version of TPU VMs; "" where the TPU API does not offer them.
    most: chips of the largest slice.
  """

  label: str
  machine: str
  api: str
  counts: int
  runtime: str
  most: int


# Of TPU7x the TPU API says that it is not offered there: GKE is the way.
GENERATIONS = {
  "v4": Generation("tpu-v4-podslice", "ct4p-hightpu", "v4", 2, "tpu-ubuntu2204-base", 4096),
  "v5e": Generation(
    "tpu-v5-lite-podslice", "ct5lp-hightpu", "v5litepod", 1, "v2-alpha-tpuv5-lite", 256
  ),
  "v5p": Generation("tpu-v5p-slice", "ct5p-hightpu", "v5p", 2, "v2-alpha-tpuv5", 6144),
  "v6e": Generation("tpu-v6e-slice", "ct6e-standard", "v6e", 1, "v2-alpha-tpuv6e", 256),
  "tpu7x": Generation("tpu7x", "tpu7x-standard", "tpu7x", 2, "", 9216),
}
_FLAT = ((1, 1), (2, 2), (2, 4), (4, 4), (4, 8), (8, 8), (8, 16), (16, 16))
_SMALL = ((2, 2, 1), (2, 2, 2), (2, 2, 4), (2, 4, 4))  # of three axes; larger ones are of cubes
_CUBE = 4

# Memory of one device by NVIDIA's data sheets, GB taken as GiB: the cards report about as much.
GPUS = {"a100": 80, "a100_40gb": 40, "h100": 80, "h200": 141, "b200": 180}


@dataclasses.dataclass(frozen=True)
class TpuSlices:
  """TPU slices as they are rented.

  Attributes:
    topology: see `vidjax.planning.topology`.
  """

  topology: Topology

  @property
  def generation(self) -> Generation:
    """Names of the generation."""
    return GENERATIONS[self.topology.chip.name]

  @property
  def shape(self) -> str:
    """Chips along each axis, "8x8x8"."""
    return "x".join(map(str, self.topology.shape))

  @property
  def chips(self) -> int:
    """Of one slice."""
    return math.prod(self.topology.shape)

  @property
  def chips_per_host(self) -> int:
    """1 or 4; the eight chips of a 2x4 slice are one machine of v5e and v6e."""
    return self.chips if self.chips in (1, 8) and len(self.topology.shape) == 2 else _host(self)

  @property
  def hosts_per_slice(self) -> int:
    """Machines of one slice."""
    return self.chips // self.chips_per_host

  @property
  def hosts(self) -> int:
    """Machines of all slices."""
    return self.hosts_per_slice * self.topology.slices

  @property
  def machine_type(self) -> str:
    """Of Compute Engine and GKE's node pools, "ct5p-hightpu-4t"."""
    return f"{self.generation.machine}-{self.chips_per_host}t"

  @property
  def accelerator_type(self) -> str:
    """Of the TPU API, "v5p-1024"."""
    return f"{self.generation.api}-{self.chips * self.generation.counts}"

  @property
  def xpk_type(self) -> str:
    """Of xpk, which also takes shapes: "v5p-8x8x8"."""
    return f"{self.generation.api}-{self.shape}"


@dataclasses.dataclass(frozen=True)
class GpuNodes:
  """Nodes of GPUs.

  Attributes:
    kind: in `GPUS`.
    nodes: of the run.
    per_node: GPUs of each.
  """

  kind: str
  nodes: int
  per_node: int

  @property
  def count(self) -> int:
    """GPUs of all nodes."""
    return self.nodes * self.per_node

  @property
  def memory(self) -> int:
    """Bytes of one GPU."""
    return GPUS[self.kind] * _GIB


def tpu_slices(text: str, slices: int) -> TpuSlices:
  """Reads a topology that can be rented.

  Raises:
    ValueError: there is no such topology, or only on paper.
  """
  topology = topologies.parse(text, slices)
  found = TpuSlices(topology)
  shape, most = topology.shape, found.generation.most
  if len(shape) == 2:
    if shape not in _FLAT:
      known = ", ".join("x".join(map(str, one)) for one in _FLAT)
      raise ValueError(f"topology {text!r}: slices of {topology.chip.name} are rented as {known}")
  elif shape not in _SMALL:
    if any(size % _CUBE for size in shape) or list(shape) != sorted(shape):
      raise ValueError(
        f"topology {text!r}: slices of {topology.chip.name} are rented as 2x2x1, 2x2x2, 2x2x4,"
        " 2x4x4, and as multiples of 4 in rising order, as 4x4x8"
      )
    if found.chips > most:
      raise ValueError(f"topology {text!r}: {found.chips} chips, the largest slice has {most}")
  return found


def gpu_nodes(text: str) -> GpuNodes:
  """Reads "h100:8x8": eight nodes of eight.

  Raises:
    ValueError: it has another form, or the GPU is not known.
  """
  form = re.fullmatch(r"(\w+):(\d+)x(\d+)", text)
  if not form or "0" in form.groups():
    raise ValueError(f"gpus {text!r}: write KIND:NODESxGPUS, as h100:8x8")
  kind, nodes, per_node = form.groups()
  if kind not in GPUS:
    near = difflib.get_close_matches(kind, GPUS, n=1)
    hint = f" (nearest: {near[0]})" if near else ""
    raise ValueError(f"gpus {text!r}: unknown GPU {kind!r}{hint}; known: {', '.join(GPUS)}")
  return GpuNodes(kind, int(nodes), int(per_node))


def _host(slices: TpuSlices) -> int:
  return min(4, slices.chips)
