"""Checkpoints of a run are evaluated as they appear, and the page has their curves."""

import dataclasses
import json
import pathlib
import threading

import pytest
from tiny_networks import FOLDERS, write_clips

from vidjax import config as configs
from vidjax.checkpoint import layout
from vidjax.errors import CheckpointError
from vidjax.evaluation import fakes, networks, report, run, table, watch


@pytest.fixture
def workdir(tmp_path):
  """A run of 30 steps, as far as its folder says."""
  config = configs.load(
    "configs/svd/image.py:tiny",
    ["batch_size=2", "total_samples=60", "data.kind=procedural", "encoders.vae=random:tiny"],
  )
  (tmp_path / "run").mkdir()
  (tmp_path / "run" / "config.json").write_text(json.dumps(configs.to_dict(config)))
  return tmp_path / "run"


def save(workdir, step):
  folder = workdir / "checkpoints" / str(step)
  folder.mkdir(parents=True)
  (folder / layout._COMMITTED).write_text("")


def remove(workdir, step):
  (workdir / "checkpoints" / str(step) / layout._COMMITTED).unlink()


def follow(workdir, evaluate):
  watch.follow(str(workdir), str(workdir / "eval"), evaluate, poll_seconds=0.02)


def test_steps_are_evaluated_in_order_until_the_last(workdir):
  done = []
  save(workdir, 10)

  def evaluate(step, out):
    done.append((pathlib.Path(step).name, pathlib.Path(out).name))
    if len(done) == 1:
      threading.Timer(0.1, save, (workdir, 20)).start()  # training goes on meanwhile
    if len(done) == 2:
      save(workdir, 30)

  follow(workdir, evaluate)
  assert done == [("10", "step_00000010"), ("20", "step_00000020"), ("30", "step_00000030")]


def test_what_is_done_stays_and_what_is_gone_is_left_out(workdir, capsys):
  for step in (10, 20, 30):
    save(workdir, step)
  (workdir / "eval" / "step_00000010").mkdir(parents=True)
  (workdir / "eval" / "step_00000010" / table.RESULT).write_text("{}")
  done = []

  def evaluate(step, out):
    done.append(int(pathlib.Path(step).name))
    if done[-1] == 20:
      remove(workdir, 20)
      raise CheckpointError("its files are not there")

  follow(workdir, evaluate)
  assert done == [20, 30]
  assert "step 20 was removed by the run before it could be read" in capsys.readouterr().out


def test_a_damaged_step_is_an_error(workdir):
  save(workdir, 10)

  def evaluate(step, out):
    raise CheckpointError("damaged")

  with pytest.raises(CheckpointError, match="damaged"):
    follow(workdir, evaluate)


def test_only_a_run_can_be_followed(tmp_path):
  with pytest.raises(ValueError, match=r"--watch needs the workdir of a training run"):
    follow(tmp_path, lambda step, out: None)


def test_several_processes_would_not_see_the_same_steps(workdir, monkeypatch):
  monkeypatch.setattr("jax.process_count", lambda: 2)
  with pytest.raises(ValueError, match=r"--watch runs in one process"):
    follow(workdir, lambda step, out: None)


def test_what_is_compiled_stays_for_the_next_step(monkeypatch):
  class Pipeline:
    def __init__(self, config, weights, origin):
      self.config, self.weights = config, weights

    def load(self, weights):
      self.weights = weights

  monkeypatch.setattr(fakes.pipelines, "Pipeline", Pipeline)
  models = fakes.Models()
  first = models.pipeline("config", "step 1", "origin")
  assert models.pipeline("config", "step 2", "origin") is first
  assert first.weights == "step 2"
  other = models.pipeline("another config", "step 1", "origin")
  assert other is not first
  assert other.weights == "step 1"


@pytest.mark.usefixtures("tiny_networks")
def test_curves_over_steps_share_the_real_side(tmp_path):
  write_clips(tmp_path / "real", 12, seed=0)
  base = run.Job(
    FOLDERS, data=str(tmp_path / "real"), weights=networks.RANDOM, out=str(tmp_path / "eval")
  )
  for step in (100, 200, 300):
    write_clips(tmp_path / f"fake{step}", 12, seed=step, brightness=60 - step // 5)
    job = dataclasses.replace(base, fake=str(tmp_path / f"fake{step}"))
    # A folder stands for the model of a step; the real side is where `of_step` has it.
    job = dataclasses.replace(
      job, real=str(tmp_path / "eval" / "real"), out=str(watch.folder_of(base.out, step))
    )
    assert run.run(job) is not None
  found = report.history(watch.folder_of(base.out, 300), FOLDERS.hash)
  assert [step for step, _ in found] == [100, 200, 300]
  values = [metrics["fvd/tiny-clips"]["value"] for _, metrics in found]
  assert values == sorted(values, reverse=True)  # the clips come nearer
  page = (watch.folder_of(base.out, 300) / "report.html").read_text()
  assert "Over training" in page
  assert "steps 100 to 300" in page
  assert "Over training" not in (watch.folder_of(base.out, 100) / "report.html").read_text()
  assert report.history(watch.folder_of(base.out, 300), "other") == []
