"""Averages follow their definition, whatever the decay and however often they are updated."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from two_layers import CONFIG, NETWORK, batch, config, run

from vidjax import state as states
from vidjax.optim import ema, packing


def test_one_update_follows_its_definition():
  value, average = jnp.float32(0.0), {"w": jnp.float32(0.0)}
  for step in range(50):
    value += 1.0
    average = ema.update(average, {"w": value}, ema.weight_at(jnp.int32(step), 0.9))
  expected = 0.0
  for step in range(50):
    decay = min(0.9, (1 + step) / (10 + step))
    expected = decay * expected + (1 - decay) * (step + 1)
  np.testing.assert_allclose(average["w"], expected, rtol=1e-5)


@pytest.mark.parametrize("decay", [0.9, 0.9999, 0.999999])
@pytest.mark.parametrize("every", [1, 8, 100])
def test_weight_of_the_newest_is_exact(decay, every):
  """Also where the decay is so near 1 that float32 rounds 1 - decay by a percent."""
  for step in (every - 1, 10 * every - 1, 10**6 * every - 1):
    exact = 1 - np.float64(min(decay, (1 + step) / (10 + step))) ** every
    np.testing.assert_allclose(ema.weight_at(jnp.int32(step), decay, every), exact, rtol=1e-5)


@pytest.mark.parametrize("every", [1, 3])
def test_each_average_is_of_the_weights_that_were(every):
  decays, steps = (0.9, 0.3), 7
  of = config(ema_decays=decays, ema_every_steps=every)
  done = run(of, [batch(step) for step in range(steps)])
  assert done.state.ema.keys() == {"0.9", "0.3"}
  for decay in decays:
    expected = done.packed[0]
    for step in range(every - 1, steps, every):
      kept = min(decay, (1 + step) / (10 + step)) ** every
      expected = {
        name: kept * value + (1 - kept) * done.packed[step + 1][name]
        for name, value in expected.items()
      }
    for name, value in expected.items():
      average = done.state.ema[ema.key(decay)][name]
      np.testing.assert_allclose(average, value, rtol=1e-4, atol=1e-6)


def test_the_first_average_is_what_others_see():
  done = run(config(ema_decays=(0.9, 0.3)), [batch(0)])
  first = states.averaged(done.state, (0.9, 0.3))
  np.testing.assert_array_equal(first["a"], done.state.ema["0.9"]["a"])
  none = run(config(ema_decays=()), [batch(0)])
  assert none.state.ema == {}
  np.testing.assert_array_equal(states.averaged(none.state, ())["a"], none.state.params["a"])


def test_averages_are_stored_as_the_weights_are():
  state = run(config(ema_decays=(0.9, 0.3), ema_every_steps=2), [batch(0)], devices=8).state
  for average in state.ema.values():
    assert average.keys() == packing.pack(NETWORK.init(jax.random.key(0))).keys()
    assert {name: a.sharding for name, a in average.items()} == {
      name: p.sharding for name, p in state.params.items()
    }
    assert average["a"].addressable_shards[0].data.shape == (256, 32)


@pytest.mark.parametrize("decays", [(0.9, 0.9), (1.0,), (0.0,), (0.9, -0.1)])
def test_decays_that_make_no_average_are_refused(decays):
  with pytest.raises(ValueError, match=r"optimizer\.ema_decays' takes different numbers"):
    dataclasses.replace(CONFIG.optimizer, ema_decays=decays)
