"""What each kind of block of a training step costs, by the program that XLA makes of it for a TPU.

  python -m benchmarks.blocks [--only='VideoTransformer 320'] [--topology=v5e:1x1] [--operations=12]

Takes the distinct trained blocks of a config with so many clips on one chip (`vidjax.planning`),
compiles each alone, forward and backward with what runs twice, and prices it: seconds with bounds,
share of the peak that its own FLOPs reach, HBM at its fullest, and the operations that take most.
The last line adds them up, each as often as the step runs it; layers that are not compiled (first
and last convolution, embeddings, changes of resolution) are arithmetic.
`--texts=DIR` writes the programs for other tools. Nothing runs; libtpu is needed, no TPU.
"""

from collections.abc import Iterator, Sequence
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


@dataclasses.dataclass(frozen=True)
class Block:
  """A distinct block, compiled and priced.

  Attributes:
    name: kind, channels and size.
    count: how often a step runs it.
    flops: of the model, forward and backward; nothing twice.
    compiled: its program.
    cost: of one run of that.
  """

  name: str
  count: int
  flops: float
  compiled: compilation.Compiled
  cost: pricing.Cost


def cell_of(config: str, topology: str, clips: int, overrides: Sequence[str]) -> cells.Cell:
  """One chip, or those that share a clip, with its part of a batch of so many clips a chip."""
  where = topologies.parse(topology, 1)
  batch = f"batch_size={clips * where.device_count}"
  loaded, _ = planner.load(config, [batch, *overrides])
  program = planner.describe(loaded, planner.site_of(where))
  return cells.make(program.config, program.mesh, where)


def priced(
  cell: cells.Cell, steps: pieces.Steps, only: str, cache: compilation.Cache
) -> Iterator[Block]:
  """Compiles the trained blocks whose names hold the regular expression `only`, one by one."""
  for call, count in steps.distinct.values():
    name = quick.name_of(call)
    if not (call.trained and call.compiled and re.search(only, name)):
      continue
    lowered = piece_costs.lower(call, call.both_ways, cell.program.mesh)
    compiled = compilation.compile_lowered(lowered, cell.topology, cache)
    cost = pricing.price(compiled.hlo_text, cell.topology)
    yield Block(name, count, 3 * products.count(call), compiled, cost)


def main(_: list[str]) -> None:
  """Prices the blocks and prints them."""
  jax.config.update("jax_platforms", "cpu")
  given = flags.FLAGS
  cell = cell_of(given.config, given.topology, given.clips, given.override)
  steps = pieces.record(cell.program)
  peak = cell.topology.chip.peak_flops
  small = [
    piece_costs.small(call, cell.topology)
    for call in steps.calls
    if call.trained and not call.compiled
  ]
  seconds, low, high = (
    sum(getattr(cost, name) for cost in small)
    for name in ("seconds", "low_seconds", "high_seconds")
  )
  flops = sum(cost.matrix_flops for cost in small)
  cache = compilation.Cache(given.cache or storage.cache_folder() / "plan")
  for block in priced(cell, steps, given.only, cache):
    show(block, peak, given.operations)
    if given.texts:
      folder = pathlib.Path(given.texts)
      folder.mkdir(parents=True, exist_ok=True)
      name = re.sub("[^a-zA-Z0-9]+", "_", block.name)
      (folder / f"{name}.txt").write_text(block.compiled.hlo_text)
    seconds += block.count * block.cost.seconds
    low += block.count * block.cost.low_seconds
    high += block.count * block.cost.high_seconds
    flops += block.count * block.flops
  print(
    f"all: {_MILLI * seconds:.1f} ms ({_MILLI * low:.1f} to {_MILLI * high:.1f}),"
    f" {flops / 1e12:.2f} TFLOP, MFU {100 * flops / peak / seconds:.1f} %"
    f" (at worst {100 * flops / peak / high:.1f} %)"
  )


def show(block: Block, peak: float, operations: int) -> None:
  """Prints a block, and so many of its operations."""
  cost, memory = block.cost, block.compiled.memory
  print(
    f"{block.name:32s} x{block.count}  {_MILLI * cost.seconds:7.2f} ms"
    f" ({_MILLI * cost.low_seconds:.2f} to {_MILLI * cost.high_seconds:.2f})"
    f"  MFU {100 * block.flops / peak / cost.seconds:4.1f} %"
    f"  {memory.total / _GIB:5.2f} GiB  {cost.bytes_accessed / 1e9:6.2f} GB"
    f"  program/model {cost.matrix_flops / block.flops:.2f}"
    f"  compiled in {block.compiled.seconds:.0f} s",
    flush=True,
  )
  kinds = {kind: round(_MILLI * seconds, 2) for kind, seconds in cost.by_kind.items()}
  print("   ", kinds, cost.unpriced or "")
  for operation, kind, seconds, times in cost.top_ops[:operations]:
    print(f"    {_MILLI * seconds:7.2f} ms x{times:<3d} {kind:12s} {operation}")


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


if __name__ == "__main__":
  define_flags()
  app.run(main)
