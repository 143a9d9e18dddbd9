"""Training by several processes through the real command: as one process trains, to the last sum.

Eight devices in all: of one process, two or four.
"""

import json
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

from miniature_job import environment
import numpy as np
import pytest

from vidjax import goodput
from vidjax.observe import writers

pytestmark = pytest.mark.slow

DEVICES = 8
STEPS = 20
ARGUMENTS = (
  "--config=configs/svd/image.py:tiny",
  "--config.data.kind=procedural",
  "--config.encoders.vae=random:tiny",
  "--config.batch_size=8",
  "--config.log_every_steps=1",
  "--config.checkpoint.every_steps=10",
  # One level, just wide enough that something is stored in parts: it is compiled often.
  "--config.model.overrides.block_out_channels=(96,)",
  "--config.model.overrides.attention=(False,)",
  "--config.model.overrides.layers_per_block=(1,)",
  "--config.model.overrides.transformer_layers_per_block=(1,)",
  "--config.model.overrides.num_attention_heads=(4,)",
  # Sums of another order must not grow to another course: no larger steps.
  "--config.optimizer.learning_rate=1e-5",
  "--config.optimizer.warmup_samples=0",
)


def free_port() -> int:
  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    return probe.getsockname()[1]


def start(
  workdir: pathlib.Path, processes: int, steps: int = STEPS, differ: str = ""
) -> list[subprocess.Popen]:
  """Starts the processes of a run; `differ` is a flag of which each gets its own number."""
  command = [sys.executable, "-m", "vidjax.train", *ARGUMENTS, f"--workdir={workdir}"]
  command += [f"--config.total_samples={8 * steps}"]
  environ = environment() | {"JAX_NUM_CPU_DEVICES": str(DEVICES // processes)}
  if processes > 1:
    environ["VIDJAX_COORDINATOR"] = f"127.0.0.1:{free_port()}"
    environ["VIDJAX_PROCESS_COUNT"] = str(processes)
  return [
    subprocess.Popen(
      [*command, *([f"--process_index={index}"] if processes > 1 else [])]
      + ([f"{differ}={index}"] if differ else []),
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
      env=environ,
    )
    for index in range(processes)
  ]


def end(started: list[subprocess.Popen], code: int = 0) -> list[str]:
  """Waits for the processes of a run; returns what each of them said."""
  try:
    said = [process.communicate(timeout=300)[0] for process in started]
  finally:
    for process in started:
      process.kill()
  for process, text in zip(started, said, strict=True):
    assert process.returncode == code, text
    assert "Traceback" not in text
  return said


def rows(workdir: pathlib.Path) -> list[dict]:
  return writers.read_metrics(workdir / "metrics.jsonl")


def assert_same_course(workdir: pathlib.Path, of: pathlib.Path) -> None:
  """The same samples at each step and, up to the order of sums, the same loss and gradient."""
  mine, theirs = rows(workdir), rows(of)
  assert [row["step"] for row in mine] == list(range(1, len(mine) + 1))
  for a, b in zip(mine, theirs, strict=False):
    assert a["sample_ids_hash"] == b["sample_ids_hash"]
    np.testing.assert_allclose(a["loss"], b["loss"], rtol=1e-5, err_msg=f"step {a['step']}")
    np.testing.assert_allclose(a["grad_norm"], b["grad_norm"], rtol=1e-5)


def steps_of(workdir: pathlib.Path) -> list[str]:
  return sorted(p.name for p in (workdir / "checkpoints").iterdir())


@pytest.fixture(scope="module")
def one(tmp_path_factory) -> pathlib.Path:
  """Workdir of a run by one process."""
  workdir = tmp_path_factory.mktemp("hosts") / "one"
  end(start(workdir, 1))
  return workdir


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> pathlib.Path:
  """Workdir of a run by two processes."""
  workdir = tmp_path_factory.mktemp("hosts") / "two"
  said = end(start(workdir, 2))
  assert "trained 20 steps" in said[0]
  assert "trained" not in said[1], "one process speaks for all"
  return workdir


def before(step: int, workdir: pathlib.Path, copy: pathlib.Path) -> pathlib.Path:
  """A copy of a run as it was before it saved `step`."""
  shutil.copytree(workdir, copy)
  shutil.rmtree(copy / "checkpoints" / str(step))
  return copy


def test_two_processes_train_as_one(one, two):
  assert len(rows(two)) == STEPS
  assert_same_course(two, one)
  run = json.loads((two / "run.json").read_text())
  assert (run["processes"], run["devices"], run["attempt"]) == (2, DEVICES, 1)
  (attempt,) = goodput.read(two).attempts
  assert (attempt.outcome, attempt.last_step) == ("done", STEPS)
  assert len(list((two / "tensorboard").iterdir())) == 1


def test_four_processes_train_as_one(one, tmp_path):
  end(start(tmp_path / "four", 4))
  assert len(rows(tmp_path / "four")) == STEPS
  assert_same_course(tmp_path / "four", one)


def test_one_process_goes_on_where_two_were(one, two, tmp_path):
  workdir = before(20, two, tmp_path / "w")
  end(start(workdir, 1))
  assert rows(workdir)[10]["attempt"] == 2
  assert_same_course(workdir, one)


def test_two_processes_go_on_where_one_was(one, tmp_path):
  workdir = before(20, one, tmp_path / "w")
  end(start(workdir, 2))
  assert rows(workdir)[10]["attempt"] == 2
  assert_same_course(workdir, one)


def test_signal_to_one_process_stops_both_after_the_same_step(two, tmp_path):
  workdir = tmp_path / "w"
  started = start(workdir, 2)
  deadline = time.monotonic() + 250
  while not (workdir / "metrics.jsonl").exists() or len(rows(workdir)) < 2:
    assert all(process.poll() is None for process in started), end(started)
    assert time.monotonic() < deadline
    time.sleep(0.02)
  started[1].send_signal(signal.SIGTERM)
  said = end(started, code=75)
  (saved,) = steps_of(workdir)
  assert all(f"stopped at step {saved}, state saved" in text for text in said)
  assert len(rows(workdir)) == int(saved) < STEPS

  end(start(workdir, 2))
  assert steps_of(workdir) == steps_of(two)
  assert [row["loss"] for row in rows(workdir)] == [row["loss"] for row in rows(two)]


def test_flags_that_are_missing_are_named(tmp_path):
  command = [sys.executable, "-m", "vidjax.train", *ARGUMENTS, f"--workdir={tmp_path / 'w'}"]
  done = subprocess.run([*command, "--process_index=0"], capture_output=True, text=True)
  assert done.returncode == 2
  assert "--coordinator (or VIDJAX_COORDINATOR)" in done.stderr
  assert "Traceback" not in done.stderr


def test_processes_with_other_flags_are_refused(tmp_path):
  for text in end(start(tmp_path / "w", 2, differ="--config.seed"), code=2):
    assert "of process 0 and of process 1 differ: start all with the same flags" in text
  assert not (tmp_path / "w").exists()


def test_coordinator_that_is_not_there(tmp_path):
  address = f"127.0.0.1:{free_port()}"
  flags = [f"--coordinator={address}", "--process_index=1", "--process_count=2", "--join_timeout=1"]
  command = [sys.executable, "-m", "vidjax.train", *ARGUMENTS, f"--workdir={tmp_path / 'w'}"]
  done = subprocess.run([*command, *flags], capture_output=True, text=True)
  assert done.returncode == 6
  assert f"--coordinator={address}: not reached in 1 s" in done.stderr
  assert "Traceback" not in done.stderr
  assert not (tmp_path / "w").exists()
