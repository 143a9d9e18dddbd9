"""Which batch, policy of recomputation and mesh give the most clips per second that fit.

The blocks are compiled once, for the config as it is; candidates are arithmetic on those: time and
activations go with the rows of a device, a policy says what is stored and what runs twice, a mesh
how far the state is sharded; what "offload" moves to the host has no price here. So look at the
table for what is promising, and plan that without `--search` before believing it.
"""

from collections.abc import Iterator, Sequence
import dataclasses

from vidjax import config as configs
from vidjax.observe import console
from vidjax.parallel import plan as sharding
from vidjax.parallel import remat
from vidjax.planning import planner, quick
from vidjax.planning.compilation import Cache
from vidjax.planning.figures import Plan
from vidjax.planning.planner import Site
from vidjax.planning.quick import Measured

HEADER = ("batch", "per cell", "remat", "mesh", "clips/s", "MFU", "step", "memory", "")
_MOST_ROWS = 64  # of a cell
_GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Candidate:
  """One point of the search.

  Attributes:
    config: the config that it stands for.
    rows: of each cell.
    policy: of recomputation in all blocks.
    plan: what it costs.
  """

  config: configs.TrainConfig
  rows: int
  policy: str
  plan: Plan


class Estimator:
  """Quick plans of configs on one site, with what was compiled kept for the search.

  Args:
    flag: name of the config in plans.
    site: where.
    cache: of compiled programs.
    jobs: programs compiled side by side.
  """

  def __init__(self, flag: str, site: Site, cache: Cache, jobs: int):
    self.flag, self.site = flag, site
    self._cache, self._jobs = cache, jobs

  def __call__(self, config: configs.TrainConfig) -> Plan:
    """The quick plan of `config`."""
    program = planner.describe(config, self.site)
    return planner.of_measured(self.flag, program, self.site, self.measure(config))

  def measure(self, config: configs.TrainConfig) -> Measured:
    """Compiles the blocks of `config`, or finds them compiled."""
    program = planner.describe(config, self.site)
    with console.Progress("compiling blocks", 1) as bar:

      def progress(done: int, total: int, name: str) -> None:
        bar.update(done, name, total)

      return quick.measure(program, self.site.topology, self._cache, self._jobs, progress)


def search(config: configs.TrainConfig, estimator: Estimator) -> list[Candidate]:
  """All candidates: those that fit first, by falling clips per second.

  Batches are powers of two per cell, up to the first that does not fit; meshes shard the state
  over all devices of a slice, or over fewer with copies in `mesh.replica`. How many rows a device
  takes at once is what is searched: `rows_per_device` sets no limit here.
  """
  mesh = planner.mesh_of(config, estimator.site)
  shards = sharding.batch_divisor(mesh) * config.accumulation_steps
  nearest = max(1, round(config.batch_size / shards)) * shards
  config = dataclasses.replace(config, batch_size=nearest, rows_per_device=0)
  measured = estimator.measure(config)
  found = []
  for mesh_config in _meshes(config, estimator.site):
    for policy in _policies(config):
      found += candidates(mesh_config, policy, measured, estimator)
  return sorted(found, key=lambda c: (not c.plan.hbm.fits, -c.plan.clips_per_second))


def candidates(
  config: configs.TrainConfig, policy: str, measured: Measured, estimator: Estimator
) -> Iterator[Candidate]:
  """One mesh and policy with more and more rows, until they do not fit."""
  program = planner.describe(config, estimator.site)
  shards = sharding.batch_divisor(program.mesh) * config.accumulation_steps
  of_measured = measured.cell.program.config.batch_size
  rows = 1
  while rows <= _MOST_ROWS:
    candidate = dataclasses.replace(config, batch_size=rows * shards)
    found = quick.assemble(
      program, measured, estimator.site.topology, rows=rows / of_measured, policy=policy
    )
    plan = planner.of_estimate(
      estimator.flag, dataclasses.replace(program, config=candidate), estimator.site, found
    )
    if policy:
      plan = dataclasses.replace(plan, remat=(policy,))
    yield Candidate(candidate, rows, policy, plan)
    if not plan.hbm.fits:
      return
    rows *= 2


def largest_batch(config: configs.TrainConfig, estimator: Estimator) -> int:
  """The largest batch, up to that of `config`, that fits by a quick estimate; 0 if none does."""
  program = planner.describe(config, estimator.site)
  measured = estimator.measure(config)
  shards = sharding.batch_divisor(program.mesh) * program.config.accumulation_steps
  rows = config.batch_size // shards
  fitting, too_many = 0, rows + 1
  while too_many - fitting > 1:
    middle = (fitting + too_many) // 2
    found = quick.assemble(program, measured, estimator.site.topology, rows=middle / rows)
    if found.total_bytes <= estimator.site.limit:
      fitting = middle
    else:
      too_many = middle
  return fitting * shards


def rows(found: Sequence[Candidate]) -> list[tuple[str, ...]]:
  """The table under `HEADER`."""
  return [
    (
      str(c.config.batch_size),
      str(c.rows),
      c.policy or "as in the config",
      ", ".join(f"{axis} {size}" for axis, size in c.plan.mesh.items() if size > 1) or "one",
      f"{c.plan.clips_per_second:.1f}",
      f"{100 * c.plan.mfu:.1f} %",
      f"{1e3 * c.plan.step_seconds:.0f} ms",
      f"{c.plan.hbm.total / _GIB:.1f} GiB",
      "" if c.plan.hbm.fits else "does not fit",
    )
    for c in found
  ]


def _policies(config: configs.TrainConfig) -> tuple[str, ...]:
  """Names of policies; the one of the config if it has one for all levels, as it is otherwise."""
  if config.task != "diffusion":
    return ("",)  # an autoencoder stores everything
  return tuple(remat.POLICIES)


def _meshes(config: configs.TrainConfig, site: Site) -> Iterator[configs.TrainConfig]:
  """The config on its own mesh, and with the state sharded over fewer devices."""
  yield config
  base = config.mesh
  inner = site.topology.device_count // (base.context * base.tensor * site.topology.slices)
  for fsdp in (inner, inner // 4):
    replica = site.topology.device_count // (base.context * base.tensor * max(1, fsdp))
    other = dataclasses.replace(base, replica=replica, fsdp=fsdp)
    same = (base.replica, base.fsdp) in ((replica, fsdp), (replica, -1))
    if fsdp > 1 and not same:
      yield dataclasses.replace(config, mesh=other)
