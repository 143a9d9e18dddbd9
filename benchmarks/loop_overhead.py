"""What the training loop adds to the compiled step: its own work, and waiting for data.

  JAX_PLATFORMS=cpu python -m benchmarks.loop_overhead --work=DIR [--elsewhere_ms=50]

Caches the latents of procedural clips in --work (kept for the next run), then runs
`vidjax.train.train` on them. After each --steps steps of the loop, when they have ended, as many
calls of the same program are timed back to back on one batch that stays on the device; that time is
not the loop's. Both wait for the step before the last but one, and in both the last step ends
within the time. Neighbours in time are compared: a machine that is busy is so for both.

A CPU is its own device: the step takes the cores that the loop and the loader need. With
--elsewhere_ms, a program that keeps one core busy for so long stands in for the step, as if it ran
on a device apart; all else is the same.

Latents, since decoding would take the step's own cores on a machine that is its own device: this is
about the loop, not about what data cost (`benchmarks.data_input`). While the bare calls run, the
loader fills what it makes ahead, a few batches of the --steps that the loop then takes.
"""

import collections
import dataclasses
import functools
import itertools
import os
import statistics
import time
from typing import Any
from unittest import mock

from absl import app, flags
import jax
import jax.numpy as jnp

from vidjax import cache_latents, compiling, feed, program, storage, train
from vidjax import config as configs
from vidjax.data import latents, loader
from vidjax.encoders import tokenizers
from vidjax.observe import meter, writers
from vidjax.parallel import mesh as meshes
from vidjax.parallel import plan

_WORK = flags.DEFINE_string("work", None, "Folder for latents and the run.", required=True)
_PAIRS = flags.DEFINE_integer("pairs", 25, "Timings of each.")
_STEPS = flags.DEFINE_integer("steps", 20, "Steps of a timing.")
_BATCH = flags.DEFINE_integer("batch", 2, "Clips of a step; sets how long it takes.")

_ELSEWHERE = flags.DEFINE_float("elsewhere_ms", 0.0, "Time of a step that takes one core.")


def settings() -> configs.TrainConfig:
  """A tiny stage on cached latents, which are made where they are missing."""
  folder = f"{_WORK.value}/latents"
  overrides = [
    f"batch_size={_BATCH.value}",
    f"total_samples={_BATCH.value * (_STEPS.value * (_PAIRS.value + 1) + 1)}",
    "log_every_steps=10",
    "checkpoint.every_steps=1000000",
    "init_from=",
    "encoders.vae=random:tiny",
  ]
  tiny = "configs/svd/video_lowres.py:tiny"
  clips = "data.options={'num_clips': 32, 'duration_s': 4.0}"
  pixels = configs.load(tiny, [*overrides, "data.kind=procedural", clips])
  if not (storage.Path(folder) / latents.MANIFEST).exists():
    cache_latents.cache(pixels, folder, ["train"])
  return configs.load(tiny, [*overrides, "data.kind=latents", f"data.path={folder}"])


@functools.partial(jax.jit, static_argnums=2)
def elsewhere(state: Any, metrics: Any, rounds: int) -> Any:
  """Stands in for a step: the same results, after products so small that one core computes them.

  It runs behind its dispatch, as on a device apart; a call of Python in it would not.
  """
  start = jnp.arange(4096.0).reshape(64, 64) / 4096 + state.step.astype(jnp.float32)
  done = jax.lax.fori_loop(0, rounds, lambda _, x: jnp.tanh(x @ x), start)
  nothing = 0.0 * done.max()
  state = dataclasses.replace(state, step=state.step + nothing.astype(jnp.int32))
  return state, jax.tree.map(lambda value: value + nothing.astype(value.dtype), metrics)


def rounds_for(seconds: float, state: Any, metrics: Any) -> int:
  """How many rounds of `elsewhere` take so long here."""
  rounds = 5000
  jax.block_until_ready(elsewhere(state, metrics, rounds))
  took = []
  for _ in range(9):
    began = time.perf_counter()
    jax.block_until_ready(elsewhere(state, metrics, rounds))
    took.append(time.perf_counter() - began)
  return round(rounds * seconds / min(took))


class Pairs:
  """Times the loop from within, and the bare step in its pauses."""

  def __init__(self, config: configs.TrainConfig):
    mesh = meshes.make_mesh(config.mesh)
    self.loop: list[float] = []  # seconds of a step
    self.bare: list[float] = []
    self._calls, self._began, self._rounds = 0, 0.0, 0
    self._metrics: Any = None
    with jax.set_mesh(mesh):
      described = program.make(config, mesh)
      self._frozen, self._state = described.load_frozen(), described.fresh()
      stream = loader.make_loader(
        config.data,
        global_batch=config.batch_size,
        start_sample=0,
        seed=config.seed,
        tokenizer=tokenizers.load(config.encoders.text),
      )
      sharding = jax.NamedSharding(mesh, plan.batch_spec(mesh))
      with feed.Feed(stream, sharding) as batches:
        self._batch = next(batches).arrays

  def around(self, step: compiling.CompiledStep) -> compiling.CompiledStep:
    """The step of the loop, with pauses."""
    if _ELSEWHERE.value and self._metrics is None:
      self._state, self._metrics = step.call(self._state, self._frozen, self._batch)
    if _ELSEWHERE.value:
      metrics = self._metrics
      if not self._rounds:
        self._rounds = rounds_for(_ELSEWHERE.value / 1e3, self._state, metrics)
      rounds = self._rounds
      step = compiling.CompiledStep(
        lambda state, _, __: elsewhere(state, metrics, rounds), step.model_flops
      )

    def call(state: Any, frozen: Any, batch: Any) -> Any:
      if self._calls % _STEPS.value == 0:
        jax.block_until_ready(state)
        self.loop.append((time.perf_counter() - self._began) / _STEPS.value)
        self.bare.append(self._bare(step))
        self._began = time.perf_counter()
      self._calls += 1
      return step.call(state, frozen, batch)

    return compiling.CompiledStep(call, step.model_flops)

  def _bare(self, step: compiling.CompiledStep) -> float:
    pending: collections.deque = collections.deque()
    began = time.perf_counter()
    for _ in range(_STEPS.value):
      self._state, metrics = step.call(self._state, self._frozen, self._batch)
      pending.append(metrics)
      if len(pending) > meter.LAG:
        jax.block_until_ready(pending.popleft())
    jax.block_until_ready(self._state)
    return (time.perf_counter() - began) / _STEPS.value


def main(_: list[str]) -> None:
  config, workdir = settings(), f"{_WORK.value}/run"
  pairs, original = Pairs(config), compiling.CompiledSteps.of
  storage.remove(workdir)
  with mock.patch.object(
    compiling.CompiledSteps, "of", lambda self, batch: pairs.around(original(self, batch))
  ):
    train.train(config, workdir)
  rows = writers.read_metrics(workdir)[2:]

  # The first timing of the loop is the compilation's, and the first pair warms up.
  loops, bares = pairs.loop[2:], pairs.bare[1:]
  beside = [(a + b) / 2 for a, b in itertools.pairwise(bares)]
  ratios = [loop / of for loop, of in zip(loops, beside, strict=True)]
  waits = [row["data_wait_seconds"] / statistics.median(loops) for row in rows]  # of ten steps
  print(f"\nload average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n")
  print("| | median | quartiles |\n|---|---|---|")
  for name, values, factor, digits in (
    ("bare step, ms", bares, 1e3, 2),
    ("step of the loop, ms", loops, 1e3, 2),
    ("loop / bare", ratios, 1.0, 4),
    ("waiting for data, % of a step", waits, 100.0, 3),
  ):
    low, median, high = (factor * value for value in statistics.quantiles(values, n=4))
    print(f"| {name} | {median:.{digits}f} | {low:.{digits}f}, {high:.{digits}f} |")


if __name__ == "__main__":
  app.run(main)
