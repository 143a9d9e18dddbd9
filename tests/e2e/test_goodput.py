"""Where the time went, of a run that was killed and goes on, and of one under the supervisor."""

import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import time

import pytest

from vidjax import goodput
from vidjax.observe import journal, writers

pytestmark = pytest.mark.slow

EVERY = 10  # steps between checkpoints
ARGUMENTS = (
  "--config=configs/svd/image.py:tiny",
  "--config.data.kind=procedural",
  "--config.encoders.vae=random:tiny",
  "--config.batch_size=8",
  "--config.log_every_steps=1",
  # One level: it is compiled three times or more.
  "--config.model.overrides.block_out_channels=(32,)",
  "--config.model.overrides.attention=(False,)",
  "--config.model.overrides.layers_per_block=(1,)",
  "--config.model.overrides.transformer_layers_per_block=(1,)",
  "--config.model.overrides.num_attention_heads=(4,)",
)


def command(workdir: pathlib.Path, steps: int) -> list[str]:
  return [
    *(sys.executable, "-m", "vidjax.train", *ARGUMENTS, f"--workdir={workdir}"),
    *(f"--config.total_samples={8 * steps}", f"--config.checkpoint.every_steps={EVERY}"),
  ]


def kill_after(process: subprocess.Popen, workdir: pathlib.Path, step: int) -> None:
  """Kills a process without warning when its ledger says that it has done `step`."""
  deadline = time.monotonic() + 250
  while True:
    assert time.monotonic() < deadline
    assert process.poll() is None
    ledger = workdir / "goodput.jsonl"
    rows = [row for _, row in journal.read(ledger)] if ledger.exists() else []
    saved = (workdir / "checkpoints" / str(EVERY) / "commit_success.txt").exists()
    if saved and any((row["last_step"] or 0) >= step for row in rows):
      break
    time.sleep(0.01)
  process.send_signal(signal.SIGKILL)
  process.wait()


def test_every_second_of_a_killed_and_resumed_run(tmp_path):
  workdir = tmp_path / "w"
  environ = os.environ | {"JAX_NUM_CPU_DEVICES": "2"}
  began = time.monotonic()
  first = subprocess.Popen(command(workdir, 5000), env=environ, stdout=subprocess.DEVNULL)
  kill_after(first, workdir, EVERY + 3)
  done = max(row["last_step"] or 0 for _, row in journal.read(workdir / "goodput.jsonl"))
  logged = [row["step"] for row in writers.read_metrics(workdir)][-1]
  time.sleep(2.0)
  second = subprocess.Popen(command(workdir, 5000), env=environ, stdout=subprocess.DEVNULL)
  deadline = time.monotonic() + 250
  while (writers.read_metrics(workdir) or [{"attempt": 1}])[-1]["attempt"] == 1:
    assert second.poll() is None
    assert time.monotonic() < deadline
    time.sleep(0.02)
  second.send_signal(signal.SIGTERM)
  assert second.wait(timeout=120) == 75
  wall = time.monotonic() - began

  printed = subprocess.run(
    [sys.executable, "-m", "vidjax.cli", "goodput", f"--workdir={workdir}", "--json"],
    capture_output=True,
    text=True,
    check=True,
  )
  report = json.loads(printed.stdout)
  killed, resumed = report["attempts"]
  assert (killed["outcome"], resumed["outcome"]) == ("killed", "Preempted")
  assert (killed["from_step"], killed["last_step"]) == (0, done)
  assert logged - done in (0, 1), "its last row may be missing"
  assert resumed["from_step"] % EVERY == 0
  assert killed["wasted_steps"] == done - resumed["from_step"]
  assert resumed["wasted_steps"] == 0
  assert killed["seconds"].get("wasted", 0.0) > 0 or done == resumed["from_step"]
  assert {"init", "compile", "restore", "steps", "idle"} <= resumed["seconds"].keys()
  assert resumed["seconds"]["idle"] >= 2.0
  # What is missing: how long the second process took to end after its last line.
  assert report["wall_seconds"] == pytest.approx(wall, rel=0.05, abs=1.0)
  assert sum(report["seconds"].values()) == pytest.approx(report["wall_seconds"])


def test_the_documented_commands(tmp_path, repo_root, monkeypatch):
  """Training under the supervisor is killed once, goes on by itself, and is added up."""
  monkeypatch.syspath_prepend(str(repo_root / "tests" / "repo"))
  import documented_commands

  here = "tests/e2e/test_goodput.py::test_the_documented_commands"
  training, report = (c for c, where in documented_commands.RUN_BY.items() if where == here)
  monkeypatch.chdir(tmp_path)
  (tmp_path / "configs").symlink_to(repo_root / "configs")
  words = shlex.split(training.replace("vidjax train", f"{sys.executable} -m vidjax.train"))
  more = [a for a in command(pathlib.Path("RUN"), 150)[3:] if not a.startswith("--workdir")]
  supervisor = subprocess.Popen(
    [sys.executable, *words[1:], *more],
    env=os.environ | {"JAX_NUM_CPU_DEVICES": "2", "PYTHONPATH": str(repo_root)},
    stdout=subprocess.DEVNULL,
  )
  deadline = time.monotonic() + 250
  while not (tmp_path / "RUN" / "metrics.jsonl").exists():
    assert time.monotonic() < deadline
    time.sleep(0.02)
  (_, started), *_ = journal.read(tmp_path / "RUN" / "supervisor.jsonl")
  os.kill(started["pid"], signal.SIGKILL)
  assert supervisor.wait(timeout=250) == 0
  ends = [r for _, r in journal.read(tmp_path / "RUN" / "supervisor.jsonl") if r["event"] == "end"]
  assert [(end["code"], end["decision"]) for end in ends] == [(-9, "restart"), (0, "done")]
  assert ends[-1]["step"] == 150
  assert [attempt.outcome for attempt in goodput.read("RUN").attempts] == ["killed", "done"]
  shown = subprocess.run(
    [sys.executable, "-m", "vidjax.cli", *report.split()[1:]],
    env=os.environ | {"PYTHONPATH": str(repo_root)},
    capture_output=True,
    text=True,
    check=True,
  ).stdout
  assert shown.splitlines()[-1].startswith("goodput ")
