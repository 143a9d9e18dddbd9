"""Progress is what the workdir says; and no JAX is needed to read it."""

import subprocess
import sys

import jax.numpy as jnp
import object_store
import pytest

from launch import progress
from vidjax import storage
from vidjax.checkpoint import Checkpointer


@pytest.fixture(params=["local", "gs"])
def workdir(request, tmp_path):
  if request.param == "local":
    yield storage.Path(tmp_path / "run")
    return
  with object_store.serve() as store, store.environment():
    yield storage.Path("gs://bucket/run")


def test_nothing_is_none(workdir):
  assert progress.newest_step(workdir) is None
  storage.write_text(workdir / "run.json", "{}")
  assert progress.newest_step(workdir) is None


def test_newest_checkpoint_that_is_complete(workdir):
  with Checkpointer(workdir / "checkpoints", keep=5) as checkpointer:
    for step in (9, 12):
      checkpointer.save(step, {"x": jnp.zeros(3)}, {})
  storage.write_text(workdir / "checkpoints" / "100" / "state" / "part", "half-written")
  storage.write_text(workdir / "checkpoints" / "200.tmp" / "commit_success.txt", "no step")
  assert progress.newest_step(workdir) == 12


def test_newest_row_of_metrics_though_older_ones_came_again(workdir):
  lines = ['{"attempt": 1, "step": 30, "loss": null}', '{"attempt": 2, "step": 21}']
  storage.write_text(workdir / "metrics.jsonl", "\n".join(lines) + '\n{"attempt": 2, "st')
  assert progress.newest_step(workdir) == 30


def test_no_jax_is_imported_to_supervise():
  code = "import sys, launch.supervise; print({'jax', 'numpy', 'orbax'} & set(sys.modules))"
  done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
  assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
  ("environ", "name"),
  [
    ({}, ""),
    ({"SLURM_PROCID": "3", "JOB_COMPLETION_INDEX": "1"}, "3"),
    ({"JOB_COMPLETION_INDEX": "0"}, "0"),
    ({"VIDJAX_PROCESS_INDEX": "7", "SLURM_PROCID": "3"}, "7"),
  ],
)
def test_the_task_is_what_the_cluster_says(environ, name):
  assert progress.task_name(environ) == name
