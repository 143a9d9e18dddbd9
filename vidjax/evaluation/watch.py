"""Evaluates the checkpoints of a training run as they appear, in a process of its own.

Training is not held up: it neither waits for this nor knows of it. Each step is scored with the
same prompts, seeds and real features: what changes between two points of a curve is the model.

  vidjax evaluate --protocol=svd-ucf101 --limit=256 --model=WORKDIR --watch --out=WORKDIR/eval ...

A few hundred samples say little in the plain Frechet distance, which is then mostly bias: read the
kernel distance and the extrapolated one.
"""

from collections.abc import Callable
import time

import jax

from vidjax import config as configs
from vidjax import storage
from vidjax.checkpoint import layout
from vidjax.errors import CheckpointError
from vidjax.evaluation import table
from vidjax.observe import console

POLL_SECONDS = 20.0

Evaluate = Callable[[str, str], None]  # (checkpoint step, folder of the result)


def folder_of(out: storage.PathLike, step: int) -> storage.Path:
  """Where the result of a step is."""
  return storage.Path(out) / f"step_{step:08d}"


def follow(workdir: str, out: str, evaluate: Evaluate, poll_seconds: float = POLL_SECONDS) -> None:
  """Evaluates every step that is or comes to be in a workdir, until that of the run's end.

  A step that the run has removed before its turn is left out.

  Raises:
    ValueError: `workdir` is none of a training run, or there are several processes, which would
      not see the same steps at the same time.
  """
  if jax.process_count() > 1:
    raise ValueError("--watch runs in one process: leave --coordinator and its like away")
  root = storage.Path(workdir)
  if not (root / "config.json").exists():
    raise ValueError(
      f"--model={workdir}: --watch needs the workdir of a training run (config.json)"
    )
  last = configs.load(str(root / "config.json")).total_steps
  done: set[int] = set()
  waiting = False
  while last not in done:
    steps = layout.complete_steps(root / "checkpoints") if (root / "checkpoints").exists() else []
    due = sorted(set(steps) - done)
    if not due:
      if not waiting:
        console.line(f"{workdir}: waiting for a checkpoint, the last will be step {last}")
      waiting = True
      time.sleep(poll_seconds)
      continue
    step, waiting = due[0], False
    done.add(step)
    if (folder_of(out, step) / table.RESULT).exists():
      continue
    try:
      evaluate(str(root / "checkpoints" / str(step)), str(folder_of(out, step)))
    except CheckpointError:
      if layout.is_complete(root / "checkpoints" / str(step)):
        raise
      console.line(f"step {step} was removed by the run before it could be read: left out")
