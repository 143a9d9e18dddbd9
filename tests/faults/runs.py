"""Training runs of one process or several, as real processes: started, watched, hurt, compared.

Four devices in all: of one process, two or four.
"""

from collections.abc import Mapping
import dataclasses
import os
import pathlib
import re
import socket
import subprocess
import sys
import time

from miniature_job import environment

from vidjax import storage
from vidjax.checkpoint import layout
from vidjax.observe import writers

WORKER = pathlib.Path(__file__).with_name("train_worker.py")
DEVICES = 4
STEPS, EVERY, BATCH = 16, 4, 4
LAST_TO_HURT = STEPS - 5  # a step after which there is still time, also on a busy machine
ARGUMENTS = (
  "--config=configs/svd/image.py:tiny",
  "--config.data.kind=procedural",
  "--config.encoders.vae=random:tiny",
  f"--config.batch_size={BATCH}",
  f"--config.total_samples={STEPS * BATCH}",
  "--config.log_every_steps=1",
  f"--config.checkpoint.every_steps={EVERY}",
  "--config.data.height=16",
  "--config.data.width=24",
  # One level, just wide enough that something is stored in parts: it is compiled often.
  "--config.model.overrides.block_out_channels=(96,)",
  "--config.model.overrides.attention=(False,)",
  "--config.model.overrides.layers_per_block=(1,)",
  "--config.model.overrides.transformer_layers_per_block=(1,)",
  "--config.model.overrides.num_attention_heads=(4,)",
  "--heartbeat_timeout=20",
)
ENDS_WITHIN = 300.0  # seconds, whatever happens to a run

_started: "list[Run]" = []


@dataclasses.dataclass
class Run:
  """The processes of a run, under way or ended."""

  workdir: pathlib.Path
  processes: list[subprocess.Popen]
  logs: list[pathlib.Path]

  def end(self, timeout: float = ENDS_WITHIN) -> list[int]:
    """Waits for all; returns their exit codes, negative for signals. Kills what does not end."""
    deadline = time.monotonic() + timeout
    try:
      return [p.wait(max(0.1, deadline - time.monotonic())) for p in self.processes]
    except subprocess.TimeoutExpired:
      raise AssertionError(f"still there after {timeout:g} s\n{self.said()}") from None
    finally:
      self.kill()

  def kill(self) -> None:
    for process in self.processes:
      process.kill()
      process.wait()

  def said(self, process: int | None = None) -> str:
    """What all, or one of them, printed."""
    logs = self.logs if process is None else [self.logs[process]]
    return "\n".join(f"--- {log.name}\n{log.read_text()}" for log in logs)

  def wait_for(self, happened) -> None:
    """Until `happened()`; fails if the run ends first."""
    deadline = time.monotonic() + ENDS_WITHIN
    while not happened():
      assert all(p.poll() is None for p in self.processes), f"ended too early\n{self.said()}"
      assert time.monotonic() < deadline, f"did not happen\n{self.said()}"
      time.sleep(0.02)

  def wait_for_step(self, step: int) -> None:
    self.wait_for(lambda: steps_logged(self.workdir) >= step)


def start(
  workdir: pathlib.Path,
  processes: int = 1,
  *flags: str,
  faults: str = "",
  env: Mapping[str, str] | None = None,
) -> Run:
  """Starts a run, or goes on with it."""
  workdir.parent.mkdir(parents=True, exist_ok=True)
  environ = environment(env) | {"JAX_NUM_CPU_DEVICES": str(DEVICES // processes)}
  environ["PYTHONPATH"] += f"{os.pathsep}{WORKER.parents[2]}"
  if processes > 1:
    environ["VIDJAX_COORDINATOR"] = f"127.0.0.1:{_free_port()}"
    environ["VIDJAX_PROCESS_COUNT"] = str(processes)
  started, logs = [], []
  for index in range(processes):
    if processes > 1:
      environ["VIDJAX_PROCESS_INDEX"] = str(index)
    logs.append(workdir.with_name(f"{workdir.name}_{time.monotonic_ns()}_{index}.log"))
    command = [sys.executable, str(WORKER), faults, *ARGUMENTS, f"--workdir={workdir}", *flags]
    with logs[-1].open("w") as log:
      started.append(
        subprocess.Popen(command, env=environ, stdout=log, stderr=log, cwd=WORKER.parents[2])
      )
  _started.append(Run(workdir, started, logs))
  return _started[-1]


def kill_what_is_left() -> None:
  """Kills all processes of all runs: a test that failed did not."""
  while _started:
    _started.pop().kill()


def finish(workdir: pathlib.Path, processes: int = 1, *flags: str, faults: str = "") -> Run:
  """Runs to the end, or goes on until there."""
  run = start(workdir, processes, *flags, faults=faults)
  codes = run.end()
  assert codes == [0] * processes, f"{codes}\n{run.said()}"
  return run


def _free_port() -> int:
  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    return probe.getsockname()[1]


def checkpoints(workdir: pathlib.Path) -> list[int]:
  """Complete steps."""
  folder = workdir / "checkpoints"
  return layout.complete_steps(storage.Path(folder)) if folder.exists() else []


def saving(workdir: pathlib.Path) -> bool:
  """Whether a checkpoint is being written."""
  folder = workdir / "checkpoints"
  return folder.exists() and any("tmp" in path.name for path in folder.iterdir())


def steps_logged(workdir: pathlib.Path) -> int:
  rows = metrics(workdir)
  return max(rows) if rows else 0


def metrics(workdir: pathlib.Path) -> dict[int, dict]:
  if not (workdir / "metrics.jsonl").exists():
    return {}
  return {row["step"]: row for row in writers.read_metrics(workdir)}


def resumed_at(run: Run) -> int:
  """The step at which a run went on; 0 if it began anew."""
  found = re.findall(r"resuming at step (\d+)", run.said(0))
  return int(found[-1]) if found else 0


def assert_same_end(workdir: pathlib.Path, reference: pathlib.Path) -> None:
  """To the last bit: the final state, the loss and the samples of each step."""
  one, other = (
    layout.read_record(storage.Path(w / "checkpoints" / str(STEPS))) for w in (workdir, reference)
  )
  assert one.leaves == other.leaves  # shapes, dtypes and checksums
  assert one.position["samples"] == other.position["samples"]
  mine, theirs = metrics(workdir), metrics(reference)
  assert mine.keys() == theirs.keys()
  for step, row in theirs.items():
    for field in ("loss", "grad_norm", "sample_ids_hash", "skipped_steps", "samples"):
      assert mine[step][field] == row[field], (step, field)
