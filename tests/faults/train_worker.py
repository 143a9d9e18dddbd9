"""`vidjax train` and `vidjax replay` with a fault in them, for the tests beside this file.

python train_worker.py FAULT[,FAULT...] [replay] [flags of `vidjax train`, or of replay]

  nan=A-B        the loss of a batch with one of the samples A to B of the stream is NaN
  huge=A-B       it is a thousand times as large
  hang=STEP[@P]  before step STEP, process P (0) sleeps for ever
  pace=S         each step takes S seconds more
  clock=STEP/S   at step STEP the clock of the machine jumps by S seconds
  slow_save=S    each save takes S seconds more
"""

from collections.abc import Callable
import dataclasses
import os
import sys
import time
from typing import Any


def main() -> None:
  faults, sys.argv[1:] = sys.argv[1].split(","), sys.argv[2:]
  from vidjax import command, replay, train
  from vidjax.parallel import distributed

  for fault in filter(None, faults):
    kind, _, value = fault.partition("=")
    _FAULTS[kind](value)
  verb = replay if "replay" in sys.argv[1:2] else train
  if verb is replay:
    del sys.argv[1]
  verb.define_flags()
  command.run(verb.main, depart=distributed.depart)


def scale_loss(value: str, factor: float) -> None:
  """Multiplies the loss of batches that hold one of the samples A-B."""
  import jax.numpy as jnp

  from vidjax import denoising

  first, last = map(int, value.split("-"))
  make_task = denoising.make_task

  def made(*args: Any) -> Any:
    task = make_task(*args)

    def loss(params: Any, frozen: Any, batch: Any, keys_B: Any) -> Any:
      index_B = batch["sample_index_B"]
      hit = jnp.any((index_B >= first) & (index_B <= last))
      mean, means = task.loss(params, frozen, batch, keys_B)
      return jnp.where(hit, jnp.float32(factor), jnp.float32(1.0)) * mean, means

    return dataclasses.replace(task, loss=loss)

  denoising.make_task = made


def _hang(value: str) -> None:
  at, _, process = value.partition("@")

  def hang(number: int) -> None:
    if number == int(at) and os.environ.get("VIDJAX_PROCESS_INDEX", "0") == (process or "0"):
      time.sleep(10_000)

  _at_each_step(hang)


def _pace(value: str) -> None:
  _at_each_step(lambda number: time.sleep(float(value)))


def _clock(value: str) -> None:
  at, _, jump = value.partition("/")
  clock = time.time

  def jumped(number: int) -> None:
    if number == int(at):
      time.time = lambda: clock() + float(jump)

  _at_each_step(jumped)


def _at_each_step(what: Callable[[int], None]) -> None:
  from vidjax.observe.watchdog import Watchdog

  beat = Watchdog.beat

  def beaten(self: Watchdog, number: int) -> None:
    beat(self, number)
    what(number)

  Watchdog.beat = beaten


def _slow_save(value: str) -> None:
  from vidjax.checkpoint.checkpointer import Checkpointer

  finish = Checkpointer._finish

  def slow(self: Checkpointer) -> None:
    finish(self)
    time.sleep(float(value))

  Checkpointer._finish = slow


_FAULTS = {
  "nan": lambda value: scale_loss(value, float("nan")),
  "huge": lambda value: scale_loss(value, 1000.0),
  "hang": _hang,
  "pace": _pace,
  "clock": _clock,
  "slow_save": _slow_save,
}

if __name__ == "__main__":
  main()
