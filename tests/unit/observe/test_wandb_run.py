"""The copy on Weights & Biases, with a stand-in for the package: what it is told, how it fails."""

import dataclasses
import logging
import sys
import types

import pytest

from vidjax import config as configs
from vidjax import storage
from vidjax.observe import wandb_run
from vidjax.observe.writers import MetricsWriter, read_metrics

CONFIG = configs.TrainConfig(
  total_samples=8,
  data=configs.DataConfig(path="none"),
  wandb=configs.WandbConfig(project="films", mode="offline"),
)


class Service:
  """A stand-in for the package; `fails` names the calls that raise."""

  def __init__(self, *fails):
    self.fails, self.started, self.rows, self.finished = fails, [], [], 0

  def _maybe(self, name):
    if name in self.fails:
      raise ConnectionError(f"{name}: no route to host")

  def init(self, **arguments):
    self._maybe("init")
    self.started.append(arguments)
    return self

  def define_metric(self, name, step_metric):
    assert (name, step_metric) == ("*", "step")

  def log(self, row):
    self._maybe("log")
    self.rows.append(row)

  def finish(self):
    self._maybe("finish")
    self.finished += 1


@pytest.fixture
def install(monkeypatch):
  def install(service):
    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=service.init))
    return service

  return install


def write(tmp_path, steps=(1, 2)):
  root = storage.Path(tmp_path) / "stage"
  with MetricsWriter(root, 1, wandb_run.copies(CONFIG, root)) as writer:
    for step in steps:
      writer.write(step, {"loss": 0.5, "grad_norm": {"mid": 2.0}, "bins": [1.0, None], "id": "a"})
  return [row["step"] for row in read_metrics(root)]


def test_numbers_arrive_under_flat_names(install, tmp_path):
  service = install(Service())
  assert write(tmp_path) == [1, 2]
  assert service.rows == [
    {"step": step, "loss": 0.5, "grad_norm/mid": 2.0, "bins/0": 1.0} for step in (1, 2)
  ]
  assert service.finished == 1
  (started,) = service.started
  assert (started["project"], started["name"], started["mode"]) == ("films", "stage", "offline")
  assert started["config"]["total_samples"] == 8


def test_attempts_are_one_run(install, tmp_path):
  service = install(Service())
  write(tmp_path)
  write(tmp_path, (2, 3))
  first, second = service.started
  assert first["id"] == second["id"]
  assert second["resume"] == "allow"


@pytest.mark.parametrize("call", ["init", "log", "finish"])
def test_failure_is_said_once_and_training_goes_on(install, tmp_path, caplog, call):
  install(Service(call))
  with caplog.at_level(logging.WARNING):
    assert write(tmp_path, (1, 2, 3)) == [1, 2, 3]
  assert caplog.text.count("no more metrics go to wandb") == 1


def test_missing_package_is_named_before_anything_runs(monkeypatch):
  monkeypatch.setitem(sys.modules, "wandb", None)  # as if it were not installed
  with pytest.raises(ValueError, match="pip install wandb"):
    wandb_run.require(CONFIG.wandb)
  wandb_run.require(configs.WandbConfig())


def test_nothing_is_imported_unless_asked_for(monkeypatch, tmp_path):
  monkeypatch.setitem(sys.modules, "wandb", None)
  config = dataclasses.replace(CONFIG, wandb=configs.WandbConfig())
  assert wandb_run.copies(config, storage.Path(tmp_path)) == ()


def test_unknown_mode_is_refused():
  with pytest.raises(ValueError, match=r"wandb\.mode"):
    dataclasses.replace(CONFIG, wandb=configs.WandbConfig(project="films", mode="onlin"))
