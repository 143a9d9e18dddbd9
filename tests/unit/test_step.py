"""The step's own duties, on a task of two layers: guard, layout, packing."""

import dataclasses

import jax
import numpy as np
import pytest
from two_layers import CONFIG, NETWORK, batch, config, run

from vidjax import config as configs
from vidjax.optim import packing


def test_training_lowers_the_loss():
  done = run(CONFIG, [batch(step) for step in range(60)])
  assert np.mean([m["loss"] for m in done.history[-5:]]) < 0.5 * done.history[0]["loss"]
  state = jax.device_get(done.state)
  assert (state.step, state.samples, state.guard.skipped_3.tolist()) == (60, 480, [0, 0, 0])


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("every", [1, 2])
def test_step_that_is_not_finite_changes_nothing_but_counters(value, every):
  of = config(ema_decays=(0.9, 0.5), ema_every_steps=every)
  good, bad = batch(0), batch(1, value=value)
  before, after = run(of, [good]), run(of, [good, bad])
  state = jax.device_get(after.state)
  assert not np.isfinite(after.history[1]["loss"])
  assert (state.step, state.samples, state.guard.skipped_3.tolist()) == (2, 16, [1, 0, 0])
  assert after.history[1]["skipped_steps"] == after.history[1]["skipped_nonfinite"] == 1
  for field in ("params", "opt_state", "ema"):
    old, new = (jax.device_get(getattr(done.state, field)) for done in (before, after))
    jax.tree.map(np.testing.assert_array_equal, old, new)
  # And the run goes on as if that batch had never been.
  on = run(of, [good, bad, batch(2), batch(3)])
  assert any((on.weights[name] != after.weights[name]).any() for name in on.weights)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.device_get(on.state)))


def test_step_with_a_spike_changes_nothing_either():
  """A batch a thousand times as large, once the guard knows what is usual; and before it does."""
  of = dataclasses.replace(CONFIG, guard=configs.GuardConfig(spike_sigmas=8.0, window=20))
  usual = [batch(step) for step in range(20)]
  bad = batch(20)
  bad["x_BC"] *= 1000.0
  before, after = run(of, usual), run(of, [*usual, bad])
  assert after.history[-1]["skip_cause"] == 2
  assert jax.device_get(after.state.guard.skipped_3).tolist() == [0, 1, 0]
  for field in ("params", "opt_state", "ema"):
    old, new = (jax.device_get(getattr(done.state, field)) for done in (before, after))
    jax.tree.map(np.testing.assert_array_equal, old, new)
  young = run(of, [*usual[:19], bad])
  assert young.history[-1]["skip_cause"] == 0


def test_eight_devices_store_a_share_and_compute_the_same():
  batches = [batch(step) for step in range(4)]
  one, eight = run(CONFIG, batches), run(CONFIG, batches, devices=8)
  for name in one.weights:
    np.testing.assert_allclose(one.weights[name], eight.weights[name], rtol=1e-4, atol=1e-6)
  state = eight.state
  for branch in (state.params, state.ema["0.9"], state.opt_state[0].mu):
    shard = branch["a"].addressable_shards[0].data
    assert shard.shape == (256, 32)
    assert branch[packing.VECTORS].sharding.is_fully_replicated


def test_packing_is_undone_exactly():
  params = NETWORK.init(jax.random.key(1))
  packed = packing.pack(params)
  assert {name: p.shape for name, p in packed.items()} == {
    "a": (256, 256),
    packing.VECTORS: (256,),
    packing.MATRICES: (1, 512),
  }
  back = packing.unpack(packed, NETWORK.abstract)
  for name in params:
    np.testing.assert_array_equal(params[name], back[name])
