"""The page and TensorBoard's events of a real run: warm start, three attempts, clips on the way."""

import pathlib
import shutil

from event_files import events
from miniature_job import SMALL, VIDEO, run_vidjax
import pytest
from run_folders import Page

from vidjax import goodput
from vidjax.observe import writers

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def resumed(job, tmp_path_factory) -> pathlib.Path:
  """The low-resolution stage, gone on with twice, two steps each, clips after each of them."""
  workdir = tmp_path_factory.mktemp("resumed") / "RUN"
  shutil.copytree(job / "video_lowres", workdir)
  for total in (12, 16):
    run_vidjax(
      *("train", "--config=configs/svd/video_lowres.py:tiny", f"--workdir={workdir}"),
      f"--config.data.path={job}/clips/shards",
      f"--config.encoders.vae={job}/autoencoder/export",
      f"--config.init_from={job}/image",
      *("--config.batch_size=2", f"--config.total_samples={total}"),
      *("--config.sample_every_steps=2", *SMALL, *VIDEO),
    )
  return workdir


def test_the_documented_command(resumed, job, repo_root, monkeypatch):
  monkeypatch.syspath_prepend(str(repo_root / "tests" / "repo"))
  import documented_commands

  here = "tests/e2e/test_report.py::test_the_documented_command"
  (command,) = (c for c, where in documented_commands.RUN_BY.items() if where == here)
  command = command.replace("RUN", str(resumed)).replace("OTHER", str(job / "image"))
  done = run_vidjax(*command.split()[1:])
  assert done.stdout.startswith("Done: step 8 of 8 (100.0%)")
  assert done.stdout.splitlines()[-1].startswith(f"{resumed}/report.html: ")

  made = Page((resumed / "report.html").read_text())
  rows = writers.read_metrics(resumed)
  assert [row["step"] for row in rows] == list(range(1, 9))
  curves = {
    s["key"]: s["points"] for chart in made.data["charts"] for s in chart["series"] if not s["run"]
  }
  for key in ("loss", "grad_norm", "lr", "clips_per_second", "param_norm"):
    assert curves[key] == [[row["step"], row[key]] for row in rows], key
  assert any(key.startswith("grad_norm/down_blocks") for key in curves)
  assert any(key.startswith("loss_per_sigma_bin/") for key in curves)
  report = goodput.read(resumed)
  assert made.data["goodput"]["seconds"] == pytest.approx(report.seconds)
  assert [a["last_step"] for a in made.data["goodput"]["attempts"]] == [4, 6, 8]
  moving = [p for p in made.pictures if "Moving" in p["alt"]]
  assert [p["alt"].split()[-1] for p in moving] == ["6", "8"]
  words = made.words()
  assert f"From {job}/image/checkpoints/4, ema : " in words
  assert "widened" in words
  assert "attempt 3" in words
  assert "16 x 24" in words
  assert "What differs between the runs" in words


def test_tensorboard_has_the_same(resumed, job):
  found = events(resumed / "tensorboard")
  assert [step for step, _ in found["config/all"]] == [1, 2, 3]
  assert f"From `{job}/image/checkpoints/4, ema`" in found["start"][0][1]
  assert len(found["start"]) == 1, "later attempts start from checkpoints"
  assert sorted(step for step, _ in found["clips"]) == [6, 8]
  assert sorted(step for step, _ in found["loss"]) == list(range(1, 9))
  assert sorted(step for step, _ in found["goodput/share"]) == [0, 4, 4, 6, 6, 8]
