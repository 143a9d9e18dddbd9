"""A cell of a mesh: the devices that share the rows of one shard of the batch.

Data parallelism repeats a program: what differs between 4 devices and 4096 is how weights come and
where gradients go. So a quick plan looks at one cell, the devices along the axes `context` and
`tensor` (one device where both are 1), with the rows that it gets, as a program of its own.
"""

from collections.abc import Callable, Sequence
import dataclasses
import math
from typing import Any

import jax

from vidjax import config as configs
from vidjax import program as programs
from vidjax.parallel import mesh as meshes
from vidjax.parallel import plan
from vidjax.planning import compilation
from vidjax.planning.topology import Topology


@dataclasses.dataclass(frozen=True)
class Cell:
  """One cell.

  Attributes:
    program: of the rows of one cell, on its devices alone.
    topology: the smallest slice that holds the cell.
  """

  program: programs.Program
  topology: Topology


def make(
  config: configs.TrainConfig,
  mesh: jax.sharding.Mesh,
  of: Topology,
  devices_of: Callable[[Topology], Sequence[Any]] = compilation.devices_of,
) -> Cell:
  """The cell of a run on `mesh`, with the rows that go through it at once.

  Args:
    config: of the run.
    mesh: of all its devices.
    of: the topology of these.
    devices_of: gives the devices of a topology.

  """
  divisor = plan.batch_divisor(mesh) * config.accumulation_steps
  size = mesh.shape["context"] * mesh.shape["tensor"]
  small = _smallest(of, size)
  sizes = meshes.MeshConfig(1, 1, mesh.shape["context"], mesh.shape["tensor"])
  images = dataclasses.replace(config.data.images, rows=config.data.images.rows // divisor)
  part = dataclasses.replace(
    config,
    batch_size=config.batch_size // divisor,
    accumulation_steps=1,
    data=dataclasses.replace(config.data, images=images),
    mesh=sizes,
  )
  devices = list(devices_of(small))[:size]
  program = programs.make(part, meshes.make_mesh(sizes, devices), weights=False)
  return Cell(program, small)


def _smallest(of: Topology, devices: int) -> Topology:
  chips = -(-devices // of.chip.devices_per_chip)
  shape = [1] * len(of.shape)
  if chips > 1:
    shape[:2] = [2, 2]
  axis = 0
  while math.prod(shape) < chips:
    shape[axis] *= 2
    axis = (axis + 1) % len(shape)
  return Topology(of.chip, tuple(shape))
