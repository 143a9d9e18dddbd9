"""What the training loop adds to the compiled step: its own work, and waiting for data.

  JAX_PLATFORMS=cpu python -m benchmarks.loop_overhead --work=DIR

Caches the latents of procedural clips in --work (kept for the next run), then measures in turns, in
this process: the compiled step called back to back on one batch that stays on the device; and
`vidjax.train.train` from its first step to its last on the cached latents, with its loader, metrics
and everything else. Both wait for the step before the last but one, as the loop does. Each run of
the loop is compared with the mean of the bare timings before and after it.

Latents, since decoding would take the step's own cores on a machine that is its own device: this is
about the loop, not about what data cost (`benchmarks.data_input`).
"""

import collections
import itertools
import os
import statistics
import time

from absl import app, flags
import jax

from vidjax import cache_latents, compiling, feed, program, storage, train
from vidjax import config as configs
from vidjax.data import latents, loader
from vidjax.encoders import tokenizers
from vidjax.observe import meter, writers
from vidjax.parallel import mesh as meshes
from vidjax.parallel import plan

_WORK = flags.DEFINE_string("work", None, "Folder for latents and runs.", required=True)
_ROUNDS = flags.DEFINE_integer("rounds", 6, "Runs of the loop.")
_STEPS = flags.DEFINE_integer("steps", 60, "Steps of a run and of a bare timing.")
_BATCH = flags.DEFINE_integer("batch", 2, "Clips of a step; sets how long it takes.")
_EVERY = 10  # steps of a row of metrics


def settings() -> configs.TrainConfig:
  """A tiny stage on cached latents, which are made where they are missing."""
  folder = f"{_WORK.value}/latents"
  overrides = [
    f"batch_size={_BATCH.value}",
    f"total_samples={_BATCH.value * _STEPS.value}",
    f"log_every_steps={_EVERY}",
    "checkpoint.every_steps=1000000",
    "init_from=",
    "encoders.vae=random:tiny",
    f"compile_cache={_WORK.value}/compiled",
  ]
  tiny = "configs/svd/video_lowres.py:tiny"
  pixels = configs.load(
    tiny, [*overrides, "data.kind=procedural", "data.options={'num_clips': 32, 'duration_s': 4.0}"]
  )
  if not (storage.Path(folder) / latents.MANIFEST).exists():
    cache_latents.cache(pixels, folder, ["train"])
  return configs.load(tiny, [*overrides, "data.kind=latents", f"data.path={folder}"])


class Bare:
  """The compiled step and one batch on the device."""

  def __init__(self, config: configs.TrainConfig):
    mesh = meshes.make_mesh(config.mesh)
    with jax.set_mesh(mesh):
      made = program.make(config, mesh)
      self._frozen, self._state = made.load_frozen(), made.fresh()
      with feed.Feed(
        loader.make_loader(
          config.data,
          global_batch=config.batch_size,
          start_sample=0,
          seed=config.seed,
          tokenizer=tokenizers.load(config.encoders.text),
        ),
        jax.NamedSharding(mesh, plan.batch_spec(mesh)),
      ) as batches:
        self._batch = next(batches).arrays
      self._step = made.lower(self._batch).compile()

  def seconds(self) -> float:
    """Of a step, over as many as a run of the loop has."""
    pending: collections.deque = collections.deque()
    began = 0.0
    for number in range(_STEPS.value):
      if number == _EVERY:  # as the first row of the loop is left out
        began = time.perf_counter()
      self._state, metrics = self._step(self._state, self._frozen, self._batch)
      pending.append(metrics)
      if len(pending) > meter.LAG:
        jax.block_until_ready(pending.popleft())
    jax.block_until_ready(pending)
    return (time.perf_counter() - began) / (_STEPS.value - _EVERY)


def loop_seconds(config: configs.TrainConfig) -> tuple[float, float]:
  """(step_seconds, data_wait_seconds) of a run: means of its rows without the first ones."""
  workdir = f"{_WORK.value}/run"
  storage.remove(workdir)
  train.train(config, workdir)
  rows = [row for row in writers.read_metrics(workdir) if row["step"] > _EVERY]
  return tuple(
    statistics.mean(row[k] for row in rows) for k in ("step_seconds", "data_wait_seconds")
  )


def main(_: list[str]) -> None:
  config = settings()
  compiling.use_cache(config.compile_cache)
  loop_seconds(config)  # fills the compile cache: both then run the program that comes from there
  bare = Bare(config)
  bare.seconds()
  bares, loops, waits = [bare.seconds()], [], []
  for _round in range(_ROUNDS.value):
    step, wait = loop_seconds(config)
    loops.append(step)
    waits.append(wait)
    bares.append(bare.seconds())
  beside = [(before + after) / 2 for before, after in itertools.pairwise(bares)]
  ratios = [loop / of for loop, of in zip(loops, beside, strict=True)]
  shares = [wait / loop for wait, loop in zip(waits, loops, strict=True)]
  print(f"\nload average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n")
  print("| | median | lowest, highest |\n|---|---|---|")
  for name, values, factor, digits in (
    ("bare step, ms", bares, 1e3, 2),
    ("step of the loop, ms", loops, 1e3, 2),
    ("loop / bare", ratios, 1.0, 4),
    ("share of waiting for data, %", shares, 100.0, 3),
  ):
    median, low, high = (factor * f(values) for f in (statistics.median, min, max))
    print(f"| {name} | {median:.{digits}f} | {low:.{digits}f}, {high:.{digits}f} |")


if __name__ == "__main__":
  app.run(main)
