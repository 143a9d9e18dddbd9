"""What each kind of block of a training step costs, by the program that XLA makes of it for a TPU.

  python -m benchmarks.blocks [--only='VideoTransformer 320'] [--topology=v5e:1x1] [--operations=12]

Takes the distinct trained blocks of a config with so many clips on one chip (`vidjax.planning`),
compiles each alone, forward and backward with what runs twice, and prices it: seconds with bounds,
share of the peak that its own FLOPs reach, HBM at its fullest, and the operations that take most.
The last line adds them up, each as often as the step runs it; layers that are not compiled (first
and last convolution, embeddings, changes of resolution) are arithmetic.
`--texts=DIR` writes the programs for other tools. Nothing runs; libtpu is needed, no TPU.
"""

import dataclasses
import pathlib
import re

from absl import app, flags
import jax

from vidjax import storage
from vidjax.planning import cell as cells
from vidjax.planning import compilation, piece_costs, pieces, planner, pricing, products, quick
from vidjax.planning import topology as topologies

_MILLI = 1e3
_GIB = 2**30


def define_flags() -> None:
  """Defines the flags; only the process that runs this has them."""
  flags.DEFINE_string("config", "configs/svd/image_to_video.py:paper", "Of the training run.")
  flags.DEFINE_string("topology", "v5e:1x1", "Of which chip, how many of them.")
  flags.DEFINE_integer("clips", 1, "On one chip at once.")
  flags.DEFINE_multi_string("override", [], "KEY=VALUE of the config.")
  flags.DEFINE_string("only", "", "Regular expression of the names of blocks.")
  flags.DEFINE_integer("operations", 0, "How many operations to name of each block.")
  flags.DEFINE_string("cache", None, "Folder of compiled programs; as `vidjax plan`.")
  flags.DEFINE_string("texts", None, "Folder to write the programs to.")


@dataclasses.dataclass(frozen=True)
class Block:
  """A distinct block, priced.

  Attributes:
    name: kind, channels and size.
    count: how often a step runs it.
    flops: of its forward pass.
    cost: of one run, forward and backward.
    peak_bytes: of HBM at its fullest, its inputs, results and weights included.
  """

  name: str
  count: int
  flops: float
  cost: pricing.Cost
  peak_bytes: int


def main(_: list[str]) -> None:
  """Prices the blocks."""
  jax.config.update("jax_platforms", "cpu")
  given = flags.FLAGS
  topology = topologies.parse(given.topology, 1)
  overrides = [f"batch_size={given.clips * topology.device_count}", *given.override]
  config, _ = planner.load(given.config, overrides)
  site = planner.site_of(topology)
  program = planner.describe(config, site)
  cell = cells.make(program.config, program.mesh, topology)
  steps = pieces.record(cell.program)
  cache = compilation.Cache(given.cache or storage.cache_folder() / "plan")
  peak = topology.chip.peak_flops
  rest = [piece_costs.small(c, topology) for c in steps.calls if c.trained and not c.compiled]
  seconds, model = sum(cost.seconds for cost in rest), sum(cost.matrix_flops for cost in rest)
  low, high = sum(c.low_seconds for c in rest), sum(c.high_seconds for c in rest)
  for call, count in steps.distinct.values():
    name = quick.name_of(call)
    if not (call.trained and call.compiled and re.search(given.only, name)):
      continue
    lowered = piece_costs.lower(call, call.both_ways, cell.program.mesh)
    compiled = compilation.compile_lowered(lowered, topology, cache)
    cost = pricing.price(compiled.hlo_text, topology)
    if given.texts:
      folder = pathlib.Path(given.texts)
      folder.mkdir(parents=True, exist_ok=True)
      (folder / f"{re.sub('[^a-zA-Z0-9]+', '_', name)}.txt").write_text(compiled.hlo_text)
    flops = 3 * products.count(call)
    print(
      f"{name:32s} x{count}  {_MILLI * cost.seconds:7.2f} ms"
      f" ({_MILLI * cost.low_seconds:.2f} to {_MILLI * cost.high_seconds:.2f})"
      f"  MFU {100 * flops / peak / cost.seconds:4.1f} %"
      f"  {compiled.memory.total / _GIB:5.2f} GiB  {cost.bytes_accessed / 1e9:6.2f} GB"
      f"  program/model {cost.matrix_flops / flops:.2f}  compiled in {compiled.seconds:.0f} s",
      flush=True,
    )
    print(
      "   ", {kind: round(_MILLI * s, 2) for kind, s in cost.by_kind.items()}, cost.unpriced or ""
    )
    for operation, kind, each, times in cost.top_ops[: given.operations]:
      print(f"    {_MILLI * each:7.2f} ms x{times:<3d} {kind:12s} {operation}")
    seconds, model = seconds + count * cost.seconds, model + count * flops
    low, high = low + count * cost.low_seconds, high + count * cost.high_seconds
  print(
    f"all: {_MILLI * seconds:.1f} ms ({_MILLI * low:.1f} to {_MILLI * high:.1f}),"
    f" {model / 1e12:.2f} TFLOP, MFU {100 * model / peak / seconds:.1f} %"
    f" (at worst {100 * model / peak / high:.1f} %)"
  )


if __name__ == "__main__":
  define_flags()
  app.run(main)
