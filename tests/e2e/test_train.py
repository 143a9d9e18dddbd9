"""Training through the real command: what it writes, how it resumes, how it refuses."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import jax
from miniature_job import SMALL, VIDEO, environment, run_vidjax
import numpy as np
import pytest

from vidjax import checkpoint, goodput
from vidjax.observe import writers


def stage(job: pathlib.Path, workdir: pathlib.Path, *flags: str) -> list[str]:
  """Arguments of the low-resolution stage: eight steps of two clips."""
  return [
    "train",
    "--config=configs/svd/video_lowres.py:tiny",
    f"--workdir={workdir}",
    f"--config.data.path={job}/clips/shards",
    f"--config.encoders.vae={job}/autoencoder/export",
    f"--config.init_from={job}/image",
    "--config.batch_size=2",
    "--config.total_samples=16",
    *SMALL,
    *VIDEO,
    *flags,
  ]


def test_stages_write_what_the_contract_lists(job):
  for name in ("autoencoder", "image", "video_lowres", "video_highres"):
    workdir = job / name
    config = json.loads((workdir / "config.json").read_text())
    assert config["seed"] == 0
    run = json.loads((workdir / "run.json").read_text())
    assert run["attempt"] == 1
    assert run["devices"] == 1
    assert list((workdir / "tensorboard").glob("events.out.tfevents.*"))
    rows = [json.loads(row) for row in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    needed = {"attempt", "step", "samples", "loss", "grad_norm", "param_norm", "update_norm", "lr"}
    needed |= {"step_seconds", "data_wait_seconds", "clips_per_second", "skipped_steps"}
    needed |= {"tflops_per_device", "mfu", "sample_ids_hash"}
    assert needed <= rows[-1].keys()
    assert all(np.isfinite(row["loss"]) and row["skipped_steps"] == 0 for row in rows)
    if name != "autoencoder":
      assert len(rows[-1]["loss_per_sigma_bin"]) == 7
    assert rows[-1]["tflops_per_device"] > 0
    assert rows[-1]["mfu"] is None  # of a CPU
    (program,) = run["programs"]  # one form of batch, foreseen before the first came
    assert program["model_flops"] > 0
    assert program["compile_cache"] in ("hit", "miss")
    (attempt,) = goodput.read(workdir).attempts
    assert (attempt.outcome, attempt.from_step, attempt.last_step) == ("done", 0, 4)
    assert {"init", "compile", "steps", "save", "data_wait"} <= attempt.seconds.keys()


def test_finished_run_has_nothing_to_do(job):
  before = sorted(p.name for p in (job / "image").iterdir())
  arguments = [
    "train",
    "--config=configs/svd/image.py:tiny",
    f"--workdir={job}/image",
    f"--config.data.path={job}/clips/shards",
    f"--config.encoders.vae={job}/autoencoder/export",
    "--config.batch_size=4",
    "--config.total_samples=16",
  ]
  assert "nothing to do" in run_vidjax(*arguments).stdout
  assert sorted(p.name for p in (job / "image").iterdir()) == before


# So long that the run is still under way when a signal reaches it.
THIRTY_STEPS = ("--config.total_samples=60", "--config.checkpoint.every_steps=10")


@pytest.fixture(scope="module")
def undisturbed(job, tmp_path_factory) -> pathlib.Path:
  """Workdir of a run of thirty steps."""
  workdir = tmp_path_factory.mktemp("undisturbed") / "whole"
  run_vidjax(*stage(job, workdir, *THIRTY_STEPS))
  return workdir


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "preempted"])
def test_interrupted_run_ends_where_an_undisturbed_one_does(job, undisturbed, tmp_path, number):
  arguments = stage(job, tmp_path / "parts", *THIRTY_STEPS)
  process = subprocess.Popen(
    [sys.executable, "-m", "vidjax.cli", *arguments],
    stderr=subprocess.PIPE,
    text=True,
    env=environment(),
  )
  metrics = tmp_path / "parts" / "metrics.jsonl"
  deadline = time.monotonic() + 200
  while not (metrics.exists() and len(metrics.read_text().splitlines()) >= 3):
    assert process.poll() is None, "ended before it was interrupted"
    assert time.monotonic() < deadline
    time.sleep(0.02)
  process.send_signal(number)
  _, err = process.communicate(timeout=120)
  assert process.returncode == (130 if number == signal.SIGINT else 75), err
  assert "state saved" in err

  run_vidjax(*arguments)
  assert json.loads((tmp_path / "parts" / "run.json").read_text())["attempt"] == 2
  workdirs = (undisturbed, tmp_path / "parts")
  steps = [sorted(p.name for p in (w / "checkpoints").iterdir()) for w in workdirs]
  assert steps[0] == steps[1]
  for which in ("ema", "raw"):
    whole, parts = (checkpoint.restore_params(w / "checkpoints" / "30", which) for w in workdirs)
    assert whole.keys() == parts.keys()
    for name in whole:
      np.testing.assert_array_equal(whole[name], parts[name], err_msg=name)
  rows = [writers.read_metrics(w / "metrics.jsonl") for w in workdirs]
  for a, b in zip(*rows, strict=True):
    for field in ("step", "loss", "sample_ids_hash"):
      assert a[field] == b[field]


@pytest.mark.slow
def test_eight_devices_train_as_one_does(job, tmp_path):
  """The same samples, the same loss up to the order of sums, on a mesh of three axes."""
  flags = ("--config.batch_size=8", "--config.total_samples=16")
  run_vidjax(*stage(job, tmp_path / "one", *flags))
  env = {"XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8"}
  axes = ("--config.mesh.context=2", "--config.mesh.tensor=2")
  run_vidjax(*stage(job, tmp_path / "eight", *flags, *axes), env=env)
  mesh = json.loads((tmp_path / "eight" / "run.json").read_text())["mesh"]
  assert mesh == {"replica": 1, "fsdp": 2, "context": 2, "tensor": 2}
  one, eight = (writers.read_metrics(tmp_path / n / "metrics.jsonl") for n in ("one", "eight"))
  for a, b in zip(one, eight, strict=True):
    assert a["sample_ids_hash"] == b["sample_ids_hash"]
    np.testing.assert_allclose(a["loss"], b["loss"], rtol=2e-4)
  # And the sharded checkpoint goes on, on one device, without losing a sample.
  more = ("--config.batch_size=8", "--config.total_samples=24")
  run_vidjax(*stage(job, tmp_path / "one", *more))
  run_vidjax(*stage(job, tmp_path / "eight", *more))
  one, eight = (writers.read_metrics(tmp_path / n / "metrics.jsonl") for n in ("one", "eight"))
  np.testing.assert_allclose(one[-1]["loss"], eight[-1]["loss"], rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
  ("flags", "code", "message"),
  [
    (["--config.bach_size=2"], 2, "unknown config key 'bach_size': did you mean 'batch_size'"),
    (["--config.data.path=nowhere"], 2, "nowhere"),
    (["--config.init_from=nowhere"], 2, "nowhere"),
    (["--config.encoders.vae=nowhere"], 2, "nowhere"),
    (["--config.model.preset=svdd"], 2, "model.preset='svdd'"),
    (["--config.data.num_frames=1000"], 3, "1000"),
    (["--config.mesh.fsdp=3"], 2, "mesh"),
    (["--config.optimizer.train_only=['nothing.*']"], 2, "'nothing.*' matches no parameter"),
    (["--wrkdir=x"], 2, "wrkdir"),
  ],
  ids=lambda v: v[0].split("=")[0].removeprefix("--config.") if isinstance(v, list) else None,
)
def test_bad_input_is_one_clear_line(job, tmp_path, flags, code, message):
  done = run_vidjax(*stage(job, tmp_path / "w", *flags), code=code)
  assert message in done.stderr
  assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_changed_data_are_refused_on_resume(job, tmp_path):
  workdir = tmp_path / "w"
  run_vidjax(*stage(job, workdir, "--config.total_samples=4"))
  clips = tmp_path / "clips"
  shutil.copytree(job / "clips", clips)
  done = run_vidjax(
    *stage(job, workdir, f"--config.data.path={clips}/shards", "--config.data.fps=2"), code=3
  )
  assert "fps" in done.stderr
  assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_full_disk_ends_with_its_own_code(job, tmp_path):
  mounted = subprocess.run(
    ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(tmp_path)], capture_output=True
  )
  if mounted.returncode:
    pytest.skip("mounting a small file system needs root")
  try:
    done = run_vidjax(*stage(job, tmp_path / "w"), code=7)
    assert "free" in done.stderr
    assert "Traceback" not in done.stderr
  finally:
    subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.slow
def test_samples_and_traces_while_training(job, tmp_path):
  flags = (
    "--config.sample_every_steps=2",
    "--config.profile.at_steps=(3,)",
    "--config.total_samples=8",
  )
  done = run_vidjax(*stage(job, tmp_path / "w", *flags))
  names = sorted(p.name for p in (tmp_path / "w" / "samples").iterdir())
  assert names == ["00000002.mp4", "00000002.png", "00000004.mp4", "00000004.png"]
  assert "trace from step 3 on" in done.stdout
  (trace,) = (tmp_path / "w" / "profile_traces" / "00000003").rglob("*.xplane.pb")
  data = jax.profiler.ProfileData.from_file(str(trace))
  events = [event for plane in data.planes for line in plane.lines for event in line.events]
  assert {dict(e.stats)["step_num"] for e in events if e.name == "step"} == {3, 4}
