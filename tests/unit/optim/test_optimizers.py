"""Each optimizer trains, holds float32 moments, and does on eight devices what it does on one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from two_layers import batch, config, run

from vidjax.config import OPTIMIZERS, OptimizerConfig
from vidjax.optim import optimizer as optimizers

RATES = {"adamw": 1e-3, "adafactor": 1e-3, "lion": 2e-4, "muon": 1e-3, "sgd": 3e-3}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_lowers_the_loss_alike_on_one_device_and_on_eight(name):
  of = config(name=name, learning_rate=RATES[name])
  batches = [batch(step % 2) for step in range(20)]
  one, eight = run(of, batches), run(of, batches, devices=8)
  losses = [m["loss"] for m in one.history]
  assert np.mean(losses[-2:]) < 0.5 * np.mean(losses[:2])
  rtol = 2e-2 if name in ("lion", "muon") else 1e-3  # signs of what is nearly zero
  np.testing.assert_allclose(losses, [m["loss"] for m in eight.history], rtol=rtol)
  leaves = jax.tree.leaves(eight.state.opt_state)
  assert {leaf.dtype.name for leaf in leaves} <= {"float32", "int32"}
  for leaf in leaves:  # a moment of the large weight is stored in eight parts
    parts = 8 if leaf.shape == (256, 256) else 1
    assert leaf.addressable_shards[0].data.size * parts == leaf.size


def test_adafactor_holds_rows_and_columns():
  batches = [batch(0)]
  large = [x.shape for x in jax.tree.leaves(run(config(name="adafactor"), batches).state.opt_state)]
  assert (256, 256) not in large
  assert large.count((256,)) >= 2
  with_momentum = run(config(name="adafactor", b1=0.9), batches).state.opt_state
  assert (256, 256) in [leaf.shape for leaf in jax.tree.leaves(with_momentum)]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_decay_is_of_matrices_only(name):
  """At a gradient of zero, what is left of an update is the decay."""
  optimizer = optimizers.make_optimizer(OptimizerConfig(name=name, weight_decay=0.1))
  params = {"kernel": jnp.ones((256, 128)), "vector": jnp.ones((256,))}
  zeros = jax.tree.map(jnp.zeros_like, params)
  with jax.numpy_dtype_promotion("standard"):
    updates, _ = optimizer.update(zeros, optimizer.init(params), params)
  np.testing.assert_allclose(updates["kernel"], 0.1, rtol=1e-6)
  np.testing.assert_array_equal(updates["vector"], 0.0)


def test_b2_of_what_has_none_is_refused():
  with pytest.raises(ValueError, match=r"optimizer\.b2=0\.99: sgd has none"):
    optimizers.make_optimizer(OptimizerConfig(name="sgd", b2=0.99))


def test_unknown_names_are_met_with_the_nearest():
  with pytest.raises(ValueError, match=r"'optimizer.name' .* got 'adamv': did you mean 'adamw'"):
    OptimizerConfig(name="adamv")
  with pytest.raises(ValueError, match=r"got 'cosin': did you mean 'cosine'"):
    OptimizerConfig(schedule="cosin")
