"""Skipped steps: counted within a window, then back to the step before them, then the end."""

import json

import jax
import jax.numpy as jnp
import pytest

from vidjax import config as configs
from vidjax import errors, storage
from vidjax.checkpoint import Checkpointer
from vidjax.data.gaps import Gap
from vidjax.observe.meter import Reading
from vidjax.recovery import Recovery, Unstable, bundles

STATE = {"params": {"a": jnp.ones(3)}}


def config(**guard):
  return configs.TrainConfig(
    total_samples=400,
    batch_size=4,
    data=configs.DataConfig(path="none"),
    guard=configs.GuardConfig(**{"window": 10, "max_skips": 2, "max_rollbacks": 2} | guard),
  )


@pytest.fixture
def saver(tmp_path):
  with Checkpointer(tmp_path / "checkpoints", keep=2) as saver:
    yield saver


def make(tmp_path, saver, **guard):
  return Recovery(config(**guard), storage.Path(tmp_path), saver)


def save(saver, *steps):
  for step in steps:
    saver.save(step, STATE, {"samples": 4 * step})
  saver.wait()


def note(recovery, steps, bad=()):
  for step in steps:
    recovery.note(Reading(step, int(step in bad), float("nan"), 1.0, f"hash{step}"))


def trouble(recovery, steps, bad):
  with pytest.raises(Unstable) as error:
    note(recovery, steps, bad)
  return error.value.skips


def test_skips_far_from_each_other_are_borne(tmp_path, saver):
  recovery = make(tmp_path, saver)
  note(recovery, range(1, 60), bad=(1, 2, 12, 13, 30, 39, 50, 59))
  assert recovery.gaps == ()
  assert not bundles(tmp_path)


def test_going_back(tmp_path, saver, capsys):
  recovery = make(tmp_path, saver)
  save(saver, 4, 8)
  skips = trouble(recovery, range(9, 20), bad=(10, 12, 13))
  assert [skip.step for skip in skips] == [10, 12, 13]
  save(saver, 12)
  recovery.roll_back(skips)
  assert saver.latest_step() == 8
  assert recovery.gaps == (Gap(at=36, samples=16),)
  assert "back to step 8, their 16 samples are left out" in capsys.readouterr().out
  again = make(tmp_path, saver)  # another attempt leaves out the same
  assert again.gaps == recovery.gaps
  (file,) = bundles(storage.Path(tmp_path))
  bundle = json.loads(file.read_text())
  assert (bundle["step"], bundle["checkpoint_step"], bundle["first_sample"]) == (10, 8, 36)
  assert (bundle["loss"], bundle["cause"], bundle["gaps"]) == ("nan", "nonfinite", [])
  assert configs.from_dict(configs.TrainConfig, bundle["config"]) == config()


def test_step_to_go_back_to_stays_whatever_is_saved(tmp_path, saver):
  recovery = make(tmp_path, saver)
  save(saver, 4, 8)
  note(recovery, range(9, 14), bad=(10,))
  save(saver, 12, 13, 14)
  assert saver.latest_step(before=10) == 8
  note(recovery, range(14, 30))
  save(saver, 20, 21, 22)
  assert saver.latest_step(before=10) is None


def test_before_the_first_checkpoint(tmp_path, saver):
  recovery = make(tmp_path, saver)
  recovery.roll_back(trouble(recovery, range(1, 9), bad=(2, 3, 4)))
  assert saver.latest_step() is None
  assert recovery.gaps == (Gap(at=4, samples=12),)


def test_gives_up_after_so_many_times_to_the_same_step(tmp_path, saver):
  recovery = make(tmp_path, saver)
  save(saver, 4)
  for _ in range(2):
    recovery.roll_back(trouble(recovery, range(5, 20), bad=(5, 6, 7)))
  recovery = make(tmp_path, saver)  # counted over attempts
  with pytest.raises(errors.NonFiniteError, match=r"went back to step 4 2 times.*vidjax replay"):
    recovery.roll_back(trouble(recovery, range(5, 20), bad=(5, 6, 7)))
  save(saver, 8)
  recovery.roll_back(trouble(recovery, range(9, 20), bad=(9, 10, 11)))  # it had come further
  assert saver.latest_step() == 8


def test_nothing_else_changes_the_state(saver, tmp_path):
  save(saver, 4, 8)
  recovery = make(tmp_path, saver)
  recovery.roll_back(trouble(recovery, range(5, 9), bad=(5, 6, 7)))
  step, state, _ = saver.restore_latest(jax.eval_shape(lambda: STATE))
  assert step == 4
  assert state["params"]["a"].shape == (3,)
