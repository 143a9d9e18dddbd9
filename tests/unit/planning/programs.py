"""A training program small enough to be traced in a test, on devices of this machine."""

import functools

import jax

from vidjax import program as programs
from vidjax.planning import cell, piece_costs, pieces, planner, quick, topology

FLAG = "configs/svd/video_lowres.py:tiny"
TOPOLOGY = topology.parse("v5e:2x2")
BLOCK = "model.overrides.remat=('block',)"
_SMALL = (
  "encoders.vae=random:tiny",
  "batch_size=8",
  "data.num_frames=2",
  "data.height=16",
  "data.width=16",
  "model.overrides.block_out_channels=(32, 128)",
)


def config(*overrides: str):
  return planner.load(FLAG, [*_SMALL, *overrides])[0]


def site(limit: int = 2**30, of: topology.Topology = TOPOLOGY) -> planner.Site:
  return planner.Site(of, jax.devices()[: of.device_count], limit)


@functools.cache
def described(*overrides: str) -> programs.Program:
  return planner.describe(config(*overrides), site())


@functools.cache
def measured(*overrides: str) -> quick.Measured:
  """As `quick.measure` makes it, with arithmetic in place of compiled programs."""
  program = described(*overrides)
  of_cell = cell.make(program.config, program.mesh, TOPOLOGY, lambda _: jax.devices())
  steps = pieces.record(of_cell.program)
  size = of_cell.program.mesh.size
  costs = {
    key: piece_costs.small(call, TOPOLOGY, size) for key, (call, _) in steps.distinct.items()
  }
  return quick.Measured(of_cell, steps, costs, 0.0)
