"""`vidjax replay` of a run that gave up: it finds out what was done to it."""

import subprocess
import sys

import jax
from miniature_job import environment
import pytest
import runs
import train_worker

from vidjax import config as configs
from vidjax import denoising, storage
from vidjax import replay as replays

pytestmark = pytest.mark.slow

BATCH = 8  # the devices of this process
FIRST = 9 * BATCH  # sample from which on the loss is NaN
FLAGS = (
  f"--config.batch_size={BATCH}",
  f"--config.total_samples={runs.STEPS * BATCH}",
  "--config.guard.max_skips=1",
  "--config.guard.max_rollbacks=0",
)


@pytest.fixture(scope="module")
def failed(tmp_path_factory):
  """Workdir of a run that gave up at step 10, of the samples 72 to 79."""
  workdir = tmp_path_factory.mktemp("replay") / "run"
  run = runs.start(workdir, 1, *FLAGS, faults=f"nan={FIRST}-999999")
  assert run.end() == [5], run.said()
  return storage.Path(workdir)


def replayed(workdir, step=None):
  bundle = replays.find_bundle(workdir, step)
  config = configs.from_dict(configs.TrainConfig, bundle["config"])
  with jax.numpy_dtype_promotion("standard"):  # as in the command
    return replays.replay(bundle, config)


@pytest.mark.parametrize(
  ("faults", "kind", "samples"),
  [
    (f"{FIRST}-999999", "numerics", []),
    (f"{FIRST + 2}-{FIRST + 2}", "data", [FIRST + 2]),
    ("", "hardware", []),
  ],
  ids=["all samples", "one sample", "not here"],
)
def test_verdict(failed, monkeypatch, faults, kind, samples):
  monkeypatch.setattr(denoising, "make_task", denoising.make_task)  # and undone after the test
  if faults:
    train_worker.scale_loss(faults, float("nan"))
  verdict = replayed(failed)
  assert verdict.kind == kind, verdict
  assert [one["sample"] for one in verdict.samples] == samples


def test_step_that_is_in_order(failed):
  assert replayed(failed, step=6).kind == "nothing"


def test_steps_and_bundles_that_are_not_there(failed, tmp_path):
  with pytest.raises(ValueError, match="--step=99"):
    replays.find_bundle(failed, 99)
  (tmp_path / "replay").mkdir()
  with pytest.raises(ValueError, match="no trouble to replay"):
    replays.find_bundle(storage.Path(tmp_path), None)


def test_command(failed):
  command = [sys.executable, str(runs.WORKER), f"nan={FIRST}-999999", "replay"]
  environ = environment()
  environ["PYTHONPATH"] += f":{runs.WORKER.parents[2]}"
  done = subprocess.run(
    [*command, f"--workdir={failed}"], env=environ, capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr
  assert "step 10: numerics" in done.stdout
  verdict = storage.read_json(failed / "replay" / "00000010.verdict.json")
  assert verdict["kind"] == "numerics"
