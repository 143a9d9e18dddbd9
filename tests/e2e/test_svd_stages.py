"""SVD's stages in tiny form train, go on, sample and export, by the commands of docs/svd.md."""

import json
import pathlib
import shlex
import shutil
import subprocess
import sys
from typing import Any

from miniature_job import ONE_LEVEL, PICTURES, SMALL, environment, run_vidjax
import numpy as np
import pytest

from launch import chain
from vidjax import export, pretrained
from vidjax import pipeline as pipelines
from vidjax.conditioning.modes import MODES
from vidjax.data import video
from vidjax.observe import writers

HERE = "tests/e2e/test_svd_stages.py::test_documented_commands"
SIZES = [*SMALL, *PICTURES, *ONE_LEVEL, "--config.batch_size=2"]
# The configs beside the chain of the guide, each with what it starts from.
OTHERS = """
name = "others"
workdir = "others"

[[stages]]
name = "ablation"
config = "configs/svd/ablation.py:tiny"
init_from = "fresh"

[[stages]]
name = "ablation_highres"
config = "configs/svd/ablation.py:highres,tiny"
init_from = "ablation"

[[stages]]
name = "interpolation"
config = "configs/svd/interpolation.py:tiny"
init_from = "HIGHRES"
overrides.data.fps = 8.0

[[stages]]
name = "multi_view"
config = "configs/svd/multi_view.py:tiny"
init_from = "HIGHRES"
"""


def commands() -> list[str]:
  import documented_commands

  return [c for c, where in documented_commands.RUN_BY.items() if where == HERE]


@pytest.fixture
def place(job, videos, tmp_path, repo_root, monkeypatch):
  """A folder in which the guide's place holders are names of things that are there."""
  monkeypatch.syspath_prepend(str(repo_root / "tests" / "repo"))
  monkeypatch.chdir(tmp_path)
  for name in ("configs", "launch", "vidjax", "data_pipelines"):
    (tmp_path / name).symlink_to(repo_root / name)
  (tmp_path / "VAE").symlink_to(job / "autoencoder" / "export")
  (tmp_path / "HIGHRES").symlink_to(job / "video_highres")
  # Orbits are clips with an elevation; to the other stages it is one score more.
  shutil.copytree(videos / "nested", tmp_path / "VIDEOS")
  names = sorted(path.name for path in (tmp_path / "VIDEOS").glob("*.mp4"))
  rows = [f"VIDEOS/{name},a square,{10 * i}" for i, name in enumerate(names)]
  (tmp_path / "LIST.csv").write_text("\n".join(["file_name,text,elevation", *rows]) + "\n")
  flags = ["--config.select.min_motion_score=0.01", "--config.encode.short_side=48"]
  run_vidjax("curate", "--videos=LIST.csv", "--out=CLIPS", *flags)
  frame = video.read_frames_at((tmp_path / "VIDEOS" / names[0]).read_bytes(), [0.0])[0]
  from vidjax import render

  render.write_png("IMAGE_FILE", frame)
  return tmp_path


def run_chain(arguments: list[str], samples: int) -> str:
  """Runs `python ARGUMENTS` in the sizes of a test, until each stage has seen so many clips."""
  command = [sys.executable, *arguments, *SIZES, f"--config.total_samples={samples}"]
  done = subprocess.run(
    command, capture_output=True, text=True, timeout=1500, env=environment(), check=False
  )
  assert done.returncode == 0, done.stdout + done.stderr
  return done.stdout


@pytest.mark.slow
def test_documented_commands(place):
  train, *after = [shlex.split(line) for line in commands()]
  assert train[:3] == ["python", "-m", "launch.chain"]
  run_and_go_on(train[1:], 8)
  for words in after:
    run_vidjax(*words[1:], *(["--steps=2"] if words[1] == "sample" else []))
  assert video.probe((place / "clip.mp4").read_bytes()).num_frames == 16
  assert (place / "EXPORT" / "model_index.json").exists()


@pytest.mark.slow
def test_the_configs_beside_the_chain(place):
  (place / "others.toml").write_text(OTHERS)
  flags = ["--config.data.path=CLIPS/shards", "--config.encoders.vae=VAE"]
  run_and_go_on(["-m", "launch.chain", "others.toml", "--on=local", *flags], 4)


def run_and_go_on(arguments: list[str], count: int) -> None:
  """Runs a chain of so many stages to the half, then to the end, and looks at each."""
  run_chain(arguments, 4)
  assert run_chain(arguments, 8).count("resuming at step 2 of 4") == count
  stages = chain.load(arguments[2], ["data.path=CLIPS/shards"])
  assert len(stages) == count
  for stage in stages:
    check(stage)


def check(stage: chain.Stage) -> None:
  """It trained and went on, its clips are finite, and its export is the model."""
  workdir = pathlib.Path(stage.job.workdir)
  rows = writers.read_metrics(workdir / "metrics.jsonl")
  assert [(row["step"], row["attempt"]) for row in rows] == [(1, 1), (2, 1), (3, 2), (4, 2)]
  assert all(np.isfinite(row["loss"]) and not row["skipped_steps"] for row in rows)
  if stage.job.init_from != "fresh":
    init = json.loads((workdir / "init.json").read_text())
    assert init["source"].startswith(f"{stage.job.init_from}/checkpoints/")
    assert "copied" in init["parameters"].values()

  pipe = pipelines.Pipeline.from_pretrained(str(workdir))
  config = pipe.config
  mode = MODES[config.conditioning.mode]
  frames = 1 if mode.stills else config.data.num_frames
  rng = np.random.default_rng(0)
  given: dict[str, Any] = {
    name: rng.uniform(0, 1, (16, 24, 3)).astype(np.float32)
    for name in ("image", "last_image")[: len(mode.images)]
  }
  if mode.encoder == "text":
    given["prompt"] = "a square"
  if "elevation" in mode.scores:
    given["elevation"] = 10.0
  clip_THWC = np.asarray(pipe(**given, seed=0, steps=2))
  assert clip_THWC.shape == (frames, 16, 24, 3)
  assert np.isfinite(clip_THWC).all()

  export.export(str(workdir), "ema", f"{stage.name}_export")
  mine, theirs = (
    pretrained.load(folder).params for folder in (str(workdir), f"{stage.name}_export")
  )
  assert mine.keys() == theirs.keys()
  for name in mine:
    np.testing.assert_array_equal(np.asarray(mine[name]), np.asarray(theirs[name]))
