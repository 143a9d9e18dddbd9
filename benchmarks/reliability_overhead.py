"""What trust costs: the step guard in the step, and the part of a save that training waits for.

  JAX_PLATFORMS=cpu python -m benchmarks.reliability_overhead --work=DIR [--channels=64]

The guard: the compiled step beside one whose guard only asks whether loss and gradient are finite,
and one without any, in turns. A save: how long `Checkpointer.save` keeps the loop waiting, and how
much of that are the checksums, while steps go on in between as in training. Shares are of
`checkpoint.every_steps` = 100 steps.
"""

import os
import statistics
import time
from typing import Any
from unittest import mock

from absl import app, flags
import jax
import jax.numpy as jnp
import numpy as np

from vidjax import config as configs
from vidjax import program, storage
from vidjax import state as states
from vidjax.checkpoint import Checkpointer, checkpointer
from vidjax.optim import guard
from vidjax.parallel import mesh as meshes

_WORK = flags.DEFINE_string("work", None, "Folder for checkpoints.", required=True)
_CHANNELS = flags.DEFINE_integer("channels", 64, "Of the network; sets the size of the state.")
_BATCH = flags.DEFINE_integer("batch", 2, "Clips of a step.")
_ROUNDS = flags.DEFINE_integer("rounds", 60, "Timings of the steps.")
_STEPS = flags.DEFINE_integer("steps", 4, "Steps of a timing.")
_SAVES = flags.DEFINE_integer("saves", 15, "Timings of a save.")

_INTERVAL = 100  # steps between two saves


def _finite_only(config: Any, state: Any, loss: jax.Array, norm: jax.Array) -> guard.Verdict:
  del config
  ok = jnp.isfinite(loss) & jnp.isfinite(norm)
  return guard.Verdict(ok, jnp.where(ok, 0, 1).astype(jnp.int32), state)


def _none(config: Any, state: Any, loss: jax.Array, norm: jax.Array) -> guard.Verdict:
  del config, loss, norm
  return guard.Verdict(jnp.array(True), jnp.int32(0), state)  # the compiler drops the choice


def main(_: list[str]) -> None:
  channels = f"({_CHANNELS.value}, {_CHANNELS.value})"
  config = configs.load(
    "configs/svd/video_lowres.py:tiny",
    [
      "encoders.vae=random:tiny",
      "data.kind=procedural",
      "init_from=",
      f"batch_size={_BATCH.value}",
      f"model.overrides.block_out_channels={channels}",
    ],
  )
  mesh = meshes.make_mesh(config.mesh)
  with jax.set_mesh(mesh):
    described = program.make(config, mesh)
    frozen = described.load_frozen()
    batch = jax.tree.map(
      lambda a: jax.device_put(np.zeros(a.shape, a.dtype), a.sharding), described.batch
    )
    compiled = {}
    for name, judge in (("none", _none), ("finite", _finite_only), ("guard", guard.judge)):
      with mock.patch.object(guard, "judge", judge):
        compiled[name] = program.make(config, mesh).lower().compile()

    state, seconds = described.fresh(), {name: [] for name in compiled}
    for number in range(_ROUNDS.value + 1):
      for name, step in compiled.items():
        began = time.perf_counter()
        for _ in range(_STEPS.value):
          state, metrics = step(state, frozen, batch)
        jax.block_until_ready((state, metrics))
        if number:
          seconds[name].append((time.perf_counter() - began) / _STEPS.value)

    step_seconds = statistics.median(seconds["guard"])
    blocked, checksums = _saves(compiled["guard"], state, frozen, batch)

  size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(described.state))
  print(
    f"\nload average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; state {size / 1e6:.0f} MB"
  )
  print(f"step {step_seconds * 1e3:.1f} ms\n\n| | median | quartiles |\n|---|---|---|")
  interval = _INTERVAL * step_seconds
  for name, values in (
    ("step with the guard / without any", _ratios(seconds["guard"], seconds["none"])),
    ("step with the guard / finite or not", _ratios(seconds["guard"], seconds["finite"])),
    ("waiting for a save, % of 100 steps", [100 * s / interval for s in blocked]),
    ("checksums of a save, % of 100 steps", [100 * s / interval for s in checksums]),
  ):
    low, median, high = statistics.quantiles(values, n=4)
    print(f"| {name} | {median:.3f} | {low:.3f}, {high:.3f} |")


def _ratios(some: list[float], others: list[float]) -> list[float]:
  return [a / b for a, b in zip(some, others, strict=True)]


def _saves(step: Any, state: Any, frozen: Any, batch: Any) -> tuple[list[float], list[float]]:
  """Seconds that saves keep the loop waiting, and of their checksums."""
  storage.remove(f"{_WORK.value}/checkpoints")
  blocked, checksums, original = [], [], checkpointer.fingerprints

  def timed(leaves: Any) -> Any:
    began = time.perf_counter()
    result = original(leaves)
    checksums.append(time.perf_counter() - began)
    return result

  with (
    mock.patch.object(checkpointer, "fingerprints", timed),
    Checkpointer(f"{_WORK.value}/checkpoints", keep=2) as saver,
  ):
    for number in range(1, _SAVES.value + 2):
      for _ in range(_INTERVAL):
        state, metrics = step(state, frozen, batch)
      jax.block_until_ready((state, metrics))
      began = time.perf_counter()
      saver.save(number, states.as_dict(state), {})
      blocked.append(time.perf_counter() - began)
  return blocked[1:], checksums[1:]


if __name__ == "__main__":
  app.run(main)
