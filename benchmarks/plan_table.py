"""What each stage of SVD costs on TPU slices that are natural for it: the table of docs/svd.md.

  python -m benchmarks.plan_table [--stage=video_lowres:base] [--chip=v5p]

A quick plan of each row (`vidjax plan --quick`): the distinct blocks of the step are compiled for
the chip, the rest is arithmetic. Rows that differ only in the number of chips share their blocks,
compiled for as many clips as a chip of the smallest slice takes at once.
Each row is appended to benchmarks/results/plans.jsonl as it is done; run it again and it goes on.
A row whose settings have changed is made anew. `--report` only writes the table.
Needs libtpu (extra `tpu`), no TPU; hours on two cores with an empty cache.
"""

import dataclasses
import functools
import hashlib
import json
import math
import os
import pathlib
from typing import Any

from absl import app, flags
import jax

from vidjax import config as configs
from vidjax import storage
from vidjax.parallel import plan as sharding
from vidjax.planning import planner, quick, search
from vidjax.planning import topology as topologies
from vidjax.planning.compilation import Cache

_ROOT = pathlib.Path(__file__).parents[1]
_OUT = _ROOT / "benchmarks" / "results" / "plans.jsonl"
GUIDE = _ROOT / "docs" / "svd.md"
_BEGIN, _END = "<!-- plans: python -m benchmarks.plan_table -->\n", "<!-- end of plans -->\n"

# Stage -> what it is called; each phase of a config is one.
STAGES = {
  "image:time_embedding": "I-a, image, time embedding, 512x512",
  "image": "I-b, image, 256x384",
  "video_lowres": "II-a, video, 256x384",
  "video_lowres:base": "II-b, video, 320x576 (base)",
  "video_highres": "III, text to video, 576x1024",
  "image_to_video": "III, image to video, 320x576",
  "image_to_video:highres": "III, image to video, 576x1024 (SVD)",
  "image_to_video:highres,xt": "III, image to video, 25 frames (SVD-XT)",
  "ablation": "the recipe of the ablations, 256x256",
}
# Slice and how many of them: 16 to 1024 chips.
SLICES = (
  ("v5e:4x4", 1),
  ("v5e:8x8", 1),
  ("v5e:16x16", 1),
  ("v5e:16x16", 2),
  ("v5p:2x2x4", 1),
  ("v5p:4x4x4", 1),
  ("v5p:4x8x8", 1),
  ("v5p:8x8x8", 1),
  ("v5p:8x8x8", 2),
  ("v6e:4x4", 1),
  ("v6e:8x8", 1),
  ("v6e:16x16", 1),
  ("v6e:16x16", 4),
)
# What config files say on which no plan depends.
_NO_PART_OF_IT = ("seed", "log_every_steps", "sample_every_steps", "checkpoint", "diffusion")
_PROGRAM = 2  # raised where the model compiles to another program: all rows are then made anew
_MOST_SHARDS_OF_STATE = 64  # channels are multiples of 64 everywhere: all kernels are divided


@dataclasses.dataclass(frozen=True)
class Row:
  """One row: a stage on a slice.

  Attributes:
    stage: of `STAGES`.
    slice_name: topology of a slice.
    slices: how many.
  """

  stage: str
  slice_name: str
  slices: int

  @property
  def topology(self) -> topologies.Topology:
    """All the devices."""
    return topologies.parse(self.slice_name, self.slices)

  @property
  def flag(self) -> str:
    """What `--config` is: the phase, and what fits the chip."""
    name, _, phase = self.stage.partition(":")
    variants = ",".join(filter(None, (phase, self.topology.chip.name)))
    return f"configs/svd/{name}.py:{variants}"

  @property
  def name(self) -> str:
    """For people."""
    return f"{self.stage} {self.slices} x {self.slice_name}"

  @functools.cached_property
  def config(self) -> configs.TrainConfig:
    """The training config, on the mesh of the row.

    Rows of the batch are divided over as many devices as divide it, and frames over those that
    would get none. State is sharded over 64 devices at most, since channels are multiples of that,
    and copied beyond.
    """
    config, _ = planner.load(self.flag, [])
    devices, context = self.topology.device_count, config.mesh.context
    shards = math.gcd(devices // context, config.batch_size)
    replica = max(self.slices, shards // _MOST_SHARDS_OF_STATE)
    mesh = dataclasses.replace(config.mesh, replica=replica, context=devices // shards)
    return dataclasses.replace(config, mesh=mesh)

  @property
  def is_natural(self) -> bool:
    """Whether all devices get something to do: frames have to divide, and pictures have one.

    The cheap recipe is not for slices on which clips would have to be shared.
    """
    context = self.config.mesh.context
    is_cheap = self.stage == "ablation"
    return context == 1 if is_cheap else self.config.data.num_frames % context == 0

  @property
  def settings(self) -> str:
    """Hash of what the plan depends on beside the code: a row with others is made anew."""
    values = configs.load_file(self.flag) | {"mesh": dataclasses.asdict(self.config.mesh)}
    counted = {key: value for key, value in values.items() if key not in _NO_PART_OF_IT}
    text = json.dumps([_PROGRAM, counted], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@functools.cache
def rows() -> list[Row]:
  """All rows, in the order of the table."""
  every = (Row(stage, *where) for stage in STAGES for where in SLICES)
  return [row for row in every if row.is_natural]


def make(row: Row, measured: dict[tuple, quick.Measured], cache: Cache) -> dict[str, Any]:
  """The plan of a row; `measured` holds what rows before it have compiled."""
  site = planner.site_of(row.topology)
  program = planner.describe(row.config, site)
  # What one cell of the mesh computes is the same for any number of them, and goes with its rows.
  key = row.stage, row.topology.chip.name, program.mesh.shape["context"]
  if key not in measured:
    estimator = search.Estimator(row.flag, site, cache, os.cpu_count() or 1)
    measured[key] = estimator.measure(row.config)
  parts = sharding.batch_divisor(program.mesh) * program.config.accumulation_steps
  of_cell = measured[key].cell.program.config.batch_size
  share = row.config.batch_size / parts / of_cell
  estimate = quick.assemble(program, measured[key], site.topology, rows=share)
  content = planner.of_estimate(row.flag, program, site, estimate).to_json()
  keep = (
    *("config", "topology", "slices", "devices", "mesh", "batch_size", "accumulation_steps"),
    *("remat", "fits", "hbm", "compute_seconds", "step_seconds", "step_seconds_low"),
    *("step_seconds_high", "mfu", "clips_per_second", "days_for_config", "host_decode_cores"),
    "assumed_share",
  )
  return {"row": row.name, "settings": row.settings, **{name: content[name] for name in keep}}


def main(_: list[str]) -> None:
  """Makes the rows that are missing, then writes the table."""
  jax.config.update("jax_platforms", "cpu")
  done, given = read(), flags.FLAGS
  if not given.report:
    cache = Cache(given.cache or storage.cache_folder() / "plan")
    measured: dict[tuple, quick.Measured] = {}
    for row in rows():
      if given.stage and row.stage not in given.stage:
        continue
      if given.chip and row.topology.chip.name not in given.chip:
        continue
      if is_made(row, done):
        continue
      done[row.name] = make(row, measured, cache)
      made = [done[one.name] for one in rows() if is_made(one, done)]
      _OUT.write_text("".join(json.dumps(one) + "\n" for one in made))
      print(row.name, "fits" if done[row.name]["fits"] else "does not fit", flush=True)
  write(done)


def table(done: dict[str, dict[str, Any]]) -> str:
  """The table of each stage, in Markdown."""
  lines = []
  for stage, title in STAGES.items():
    found = [done[row.name] for row in rows() if row.stage == stage and row.name in done]
    if not found:
      continue
    name, _, phase = stage.partition(":")
    config = f"configs/svd/{name}.py{':' if phase else ''}{phase}"
    lines += [f"### {title}", "", f"`{config}`, batch {found[0].get('batch_size', '')}:", ""]
    lines += ["| slices | chips | mesh | parts x clips | stored | memory, GiB | step, s | MFU |"]
    lines[-1] += " clips/s | run | cores |"
    lines += ["|" + " --- |" * 11]
    lines += [line(row) for row in found]
    lines += [""]
  return "\n".join(lines)


def line(row: dict[str, Any]) -> str:
  slices = row["row"].rpartition(" ")[2]
  count = row["row"].split()[-3]
  slices = slices if count == "1" else f"{count} x {slices}"
  mesh = [f"{axis} {size}" for axis, size in row["mesh"].items() if size > 1]
  shards = row["mesh"]["replica"] * row["mesh"]["fsdp"]
  each = row["batch_size"] // shards // row["accumulation_steps"]
  hbm = row["hbm"]
  cells = [
    slices,
    str(row["devices"]),
    ", ".join(mesh),
    f"{row['accumulation_steps']} x {each}",
    ", ".join(row["remat"]),
    f"{hbm['total'] / 2**30:.1f} of {hbm['limit'] / 2**30:.1f}",
  ]
  if row["fits"]:
    seconds = [row[f"step_seconds{end}"] for end in ("", "_low", "_high")]
    days = row["days_for_config"]
    cells += [
      "{:.3g} ({:.3g} to {:.3g})".format(*seconds),
      f"{100 * row['mfu']:.0f} %",
      f"{row['clips_per_second']:,.0f}",
      f"{days:.2g} days" if days >= 1 else f"{24 * days:.2g} h",
      f"{row['host_decode_cores']:.1f}",
    ]
  else:
    cells += ["does not fit", "", "", "", ""]
  return f"| {' | '.join(cells)} |"


def write(done: dict[str, dict[str, Any]]) -> None:
  """Puts the table between its marks in the guide."""
  before, _, rest = GUIDE.read_text().partition(_BEGIN)
  _, _, after = rest.partition(_END)
  GUIDE.write_text(f"{before}{_BEGIN}\n{table(done)}\n{_END}{after}")


def read() -> dict[str, dict[str, Any]]:
  """Rows that were made, by name."""
  lines = _OUT.read_text().splitlines() if _OUT.exists() else []
  return {row["row"]: row for row in map(json.loads, lines)}


def is_made(row: Row, done: dict[str, dict[str, Any]]) -> bool:
  """Whether the row is there, with the settings that it has now."""
  return row.name in done and done[row.name]["settings"] == row.settings


def define_flags() -> None:
  """Defines the flags; only the process that runs this has them."""
  flags.DEFINE_multi_string("stage", [], "Only these stages.")
  flags.DEFINE_multi_string("chip", [], "Only slices of these chips.")
  flags.DEFINE_string("cache", None, "Folder of compiled programs; as `vidjax plan`.")
  flags.DEFINE_bool("report", False, "Write the table of the rows that are there.")


if __name__ == "__main__":
  define_flags()
  app.run(main)
