"""Metric rows survive kills and NaN, on a local disk and in an object store."""

import importlib.util
import json
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import object_store
import pytest

from vidjax import storage
from vidjax.observe import journal
from vidjax.observe.writers import MetricsWriter, read_metrics


@pytest.fixture(params=["local", "gs"])
def workdir(request, tmp_path):
  if request.param == "local":
    yield storage.Path(tmp_path / "run")
    return
  with object_store.serve() as store, store.environment():
    yield storage.Path("gs://bucket/run")


def test_rows_come_back(workdir):
  row = {"loss": np.float32(0.5), "sample_ids_hash": "ab", "mfu": None, "by_bin": jnp.arange(2)}
  with MetricsWriter(workdir, 3) as writer:
    writer.write(10, row)
    writer.write(20, {"loss": 1})
  expected = {"attempt": 3, "step": 10, "loss": 0.5, "sample_ids_hash": "ab", "mfu": None}
  assert read_metrics(workdir) == [
    expected | {"by_bin": [0, 1]},
    {"attempt": 3, "step": 20, "loss": 1},
  ]
  events = storage.list_files(workdir / "tensorboard")
  assert len(events) == 1
  assert b"by_bin/1" in storage.read_bytes(events[0])


def test_not_finite_is_null(workdir):
  with MetricsWriter(workdir, 0) as writer:
    writer.write(1, {"a": float("nan"), "b": np.inf, "c": [1.0, float("nan")], "d": jnp.nan})
  assert read_metrics(workdir) == [
    {"attempt": 0, "step": 1, "a": None, "b": None, "c": [1.0, None], "d": None}
  ]


def test_last_row_of_a_step_wins_over_attempts(workdir):
  for attempt, steps in ((9, (1, 2, 3)), (10, (2, 3, 4))):
    with MetricsWriter(workdir, attempt) as writer:
      for step in steps:
        writer.write(step, {})
  assert [(row["step"], row["attempt"]) for row in read_metrics(workdir)] == [
    (1, 9),
    (2, 10),
    (3, 10),
    (4, 10),
  ]


def test_local_rows_are_on_disk_without_close(tmp_path):
  writer = MetricsWriter(tmp_path, 0)
  writer.write(1, {"loss": 2.0})
  assert json.loads((tmp_path / "metrics.jsonl").read_text())["loss"] == 2.0
  writer.close()


def test_torn_last_line_is_dropped_on_reopening(tmp_path):
  with MetricsWriter(tmp_path, 0) as writer:
    writer.write(1, {})
  path = tmp_path / "metrics.jsonl"
  path.write_text(path.read_text() + '{"attempt": 0, "st')
  assert [row["step"] for row in read_metrics(tmp_path)] == [1]
  with MetricsWriter(tmp_path, 1) as writer:
    writer.write(2, {})
  assert [row["step"] for row in read_metrics(path)] == [1, 2]
  assert len(path.read_text().splitlines()) == 2


def test_broken_line_in_the_middle_is_named(tmp_path):
  (tmp_path / "metrics.jsonl").write_text('{"step": 1}\nnonsense\n{"step": 2}\n')
  with pytest.raises(ValueError, match=r"metrics\.jsonl line 2"):
    read_metrics(tmp_path)


def test_no_metrics(tmp_path):
  with pytest.raises(FileNotFoundError, match="no metrics"):
    read_metrics(tmp_path)


def test_remote_rows_are_uploaded_from_time_to_time(monkeypatch):
  with object_store.serve() as store, store.environment():
    writer = MetricsWriter("gs://bucket/run", 0)
    writer.write(1, {})
    assert store.names("bucket") == []
    monkeypatch.setattr(journal, "UPLOAD_SECONDS", 0.0)
    writer.write(2, {})
    assert [row["step"] for row in read_metrics("gs://bucket/run")] == [1, 2]
    writer.close()


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
def test_training_does_not_import_torch():
  """Two copies of cuDNN in a process are one too many."""
  code = "import sys, vidjax.train; print('torch' in sys.modules); import torch"
  made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
  assert made.stdout.split() == ["False"]
