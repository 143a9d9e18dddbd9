"""Plans of a config on a topology: from the whole step compiled, or quickly from its pieces."""

import dataclasses
import math

import jax

from vidjax import config as configs
from vidjax import denoising, divisibility, storage
from vidjax import program as programs
from vidjax.conditioning.modes import MODES
from vidjax.encoders.tokenizers import RANDOM_TINY
from vidjax.parallel import mesh as meshes
from vidjax.planning import compilation, pricing, quick
from vidjax.planning.compilation import Cache
from vidjax.planning.figures import Hbm, Plan
from vidjax.planning.quick import Estimate
from vidjax.planning.topology import Topology

# Windows of 16 frames at 256x384 that one core decodes in a second from curated shards
# (benchmarks/results/video_input.md); other windows in proportion to their pixels. Cached latents
# take 0.6 ms a window (latent_input.md), which is no core.
_DECODED_PIXELS_PER_SECOND = 70.0 * 16 * 256 * 384
_CHIPS_PER_HOST = 4
_UNREAD = "unread"  # stands for a data set: planning reads none

_ESTIMATED = (
  "Times are estimates: XLA's own cycle counts of each instruction of the compiled program, between"
  " bounds from its FLOPs and HBM bytes, and a ring model of the network; the constants in"
  " vidjax/planning are judgement and published peaks. Nothing was calibrated on a TPU: take"
  " differences below 10 % as ties."
)
_WHOLE = (
  "The true training step was compiled by XLA for this topology: memory, the program's FLOPs and"
  " its collectives are XLA's own figures. "
) + _ESTIMATED
_QUICK = (
  "Quick: distinct blocks of the step were compiled by XLA for one cell of the mesh, and counted;"
  " other layers, the optimizer, memory and data parallelism's collectives are arithmetic, in which"
  " most of each gather hides behind the computation and sums of gradients do not hide. "
) + _ESTIMATED


@dataclasses.dataclass(frozen=True)
class Site:
  """Where a run is planned for.

  Attributes:
    topology: of the slices.
    devices: of the topology.
    limit: bytes of HBM that a program may use on one of them.
  """

  topology: Topology
  devices: list
  limit: int


def site_of(topology: Topology) -> Site:
  """The site of a topology.

  Raises:
    ValueError: libtpu is missing or does not know the topology.
  """
  devices = list(compilation.devices_of(topology))
  return Site(topology, devices, compilation.memory_limit(devices, topology.chip.hbm_bytes))


def load(flag: str, overrides: list[str]) -> tuple[configs.TrainConfig, list[str]]:
  """A config to plan for, and what stands in for files that are not there.

  No data and no encoder is needed: shapes are all that counts.

  Raises:
    ValueError: as `vidjax.config.load`.
  """
  values = (
    configs.apply_overrides(configs.TrainConfig, configs.load_file(flag), overrides)
    if not flag.endswith(".json")
    else storage.read_json(flag)
  )
  data = dict(values.get("data", {}))
  if not data.get("path") and not data.get("sets") and data.get("kind") != "procedural":
    data["path"] = _UNREAD
  config = configs.from_dict(configs.TrainConfig, {**values, "data": data})
  is_tiny = config.model.preset == "tiny"
  notes, found = [], {}
  needed = ("vae", MODES[config.conditioning.mode].encoder) if config.task == "diffusion" else ()
  for kind in needed:
    spec = getattr(config.encoders, kind)
    if spec == RANDOM_TINY or (spec and storage.Path(spec).exists()):
      continue
    found[kind] = RANDOM_TINY if is_tiny else ""
    what = f"{spec!r} is not here" if spec else "is not named"
    notes.append(
      f"encoders.{kind} {what}: {RANDOM_TINY if is_tiny else 'that of SVD'} stands in for it"
    )
  return dataclasses.replace(config, encoders=dataclasses.replace(config.encoders, **found)), notes


def mesh_of(config: configs.TrainConfig, site: Site) -> jax.sharding.Mesh:
  """The mesh of the config on the devices of the site.

  Raises:
    ValueError: it does not fit them.
  """
  return meshes.make_mesh(config.mesh, site.devices)


def describe(config: configs.TrainConfig, site: Site) -> programs.Program:
  """The training program on the mesh of the site.

  Raises:
    ValueError: the mesh does not fit the devices, or the config not the mesh.
  """
  mesh = mesh_of(config, site)
  divisibility.check(config, mesh.shape)
  return programs.make(config, mesh, weights=False)


def plan_whole(flag: str, program: programs.Program, site: Site, cache: Cache) -> Plan:
  """Compiles the whole step. A program that does not fit has no times; see `Plan.hbm`."""
  compiled = compilation.compile_lowered(program.lower(), site.topology, cache)
  memory = compiled.memory
  if compiled.too_large:
    total = max(memory.total, site.limit + 1)
    hbm = Hbm(site.limit, total, 0, 0, 0)
    return _plan(
      flag,
      program,
      site,
      hbm,
      model_flops_per_step=float(program.model_flops()),
      compile_seconds=compiled.seconds,
      method=_WHOLE,
    )
  cost = pricing.price(compiled.hlo_text, site.topology)
  exposed = sum(c.exposed_seconds for c in cost.collectives.values())
  return _plan(
    flag,
    program,
    site,
    Hbm(site.limit, memory.total, memory.arguments, memory.temporaries, memory.code),
    model_flops_per_step=float(program.model_flops()),
    hardware_flops_per_step=cost.matrix_flops * site.topology.device_count,
    bytes_accessed=cost.bytes_accessed,
    collectives={kind: dataclasses.asdict(c) for kind, c in cost.collectives.items()},
    compute_seconds=cost.seconds - exposed,
    step_seconds=cost.seconds,
    step_seconds_low=cost.low_seconds + exposed,
    step_seconds_high=max(cost.high_seconds + exposed, cost.seconds),
    compile_seconds=compiled.seconds,
    top_ops=[
      {"name": f"{name} ({kind}, x{count})", "share": seconds / cost.seconds}
      for name, kind, seconds, count in cost.top_ops
    ],
    by_kind=cost.by_kind,
    assumed_share=cost.assumed_seconds / cost.seconds,
    unpriced=cost.unpriced,
    method=_WHOLE,
  )


def of_measured(flag: str, program: programs.Program, site: Site, measured: quick.Measured) -> Plan:
  """The quick plan of a program whose pieces were compiled."""
  return of_estimate(flag, program, site, quick.assemble(program, measured, site.topology))


def of_estimate(flag: str, program: programs.Program, site: Site, found: Estimate) -> Plan:
  """The plan that a quick estimate makes."""
  cost, exposed = found.cost, found.traffic.exposed_seconds
  inside = {kind: values[3] for kind, values in cost.collectives.items()}
  collectives: dict[str, dict[str, float]] = {}
  for values_of in (cost.collectives, found.traffic.collectives):
    for kind, values in values_of.items():
      names = ("count", "bytes", "seconds", "exposed_seconds")
      old = collectives.get(kind, dict.fromkeys(names, 0.0))
      collectives[kind] = {
        name: old[name] + value for name, value in zip(names, values, strict=True)
      }
  hbm = Hbm(
    site.limit,
    math.ceil(found.total_bytes),
    round(found.arguments),
    round(found.temporaries),
    round(cost.code),
    is_estimate=True,
  )
  return _plan(
    flag,
    program,
    site,
    hbm,
    model_flops_per_step=found.model_flops_per_row * program.config.batch_size,
    hardware_flops_per_step=cost.matrix_flops * site.topology.device_count,
    bytes_accessed=cost.bytes_accessed,
    collectives=collectives,
    compute_seconds=cost.seconds - sum(inside.values()),
    step_seconds=found.seconds,
    step_seconds_low=cost.low_seconds + exposed,
    step_seconds_high=max(cost.high_seconds, cost.seconds) + exposed,
    compile_seconds=found.compile_seconds,
    top_ops=[
      {"name": f"{name} (x{count})", "share": seconds / found.seconds}
      for name, seconds, count in found.parts
    ],
    by_kind=cost.by_kind,
    assumed_share=(cost.assumed_seconds + found.arithmetic_seconds) / found.seconds,
    unpriced=cost.unpriced,
    method=_QUICK,
  )


def _plan(flag: str, program: programs.Program, site: Site, hbm: Hbm, **figures) -> Plan:
  config, topology = program.config, site.topology
  nothing = {
    "hardware_flops_per_step": 0.0,
    "bytes_accessed": 0.0,
    "collectives": {},
    "compute_seconds": 0.0,
    "step_seconds": 0.0,
    "step_seconds_low": 0.0,
    "step_seconds_high": 0.0,
    "top_ops": [],
    "by_kind": {},
    "assumed_share": 0.0,
    "unpriced": {},
  }
  plan = Plan(
    config=flag,
    topology=topology.name,
    slices=topology.slices,
    devices=topology.device_count,
    mesh=dict(program.mesh.shape),
    batch_size=config.batch_size,
    accumulation_steps=config.accumulation_steps,
    remat=_remat_of(config),
    hbm=hbm,
    peak_flops=topology.chip.peak_flops,
    total_samples=config.total_samples,
    host_decode_cores=0.0,
    **nothing | figures,
  )
  cores = decode_cores(config, topology, plan.clips_per_second)
  return dataclasses.replace(plan, host_decode_cores=cores)


def decode_cores(config: configs.TrainConfig, topology: Topology, clips_per_second: float) -> float:
  """Cores of each host that decoding keeps busy; 0 for cached latents."""
  data = config.data
  if any(member.kind == "latents" for member in data.members):
    return 0.0
  chips = math.prod(topology.shape) * topology.slices
  hosts = max(1, chips // _CHIPS_PER_HOST)
  pixels = data.num_frames * data.height * data.width
  return clips_per_second * pixels / _DECODED_PIXELS_PER_SECOND / hosts


def _remat_of(config: configs.TrainConfig) -> tuple[str, ...]:
  if config.task != "diffusion":
    return ()
  return denoising.unet_config(config, 8).remat
