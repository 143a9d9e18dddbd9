"""The step's own duties, on a task of two layers: guard, freezing, packing, averages."""

import dataclasses

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidjax import config as configs
from vidjax import state as states
from vidjax import step as steps
from vidjax.encoders import frozen
from vidjax.nn.params import network
from vidjax.optim import ema, packing
from vidjax.optim import optimizer as optimizers
from vidjax.parallel import mesh as meshes
from vidjax.parallel import plan


class Layers(nnx.Module):
  """x -> (x a + b) c, with one weight large enough to stay by itself."""

  def __init__(self, rngs: nnx.Rngs):
    init = nnx.initializers.lecun_normal()
    self.a = nnx.Param(init(rngs.params(), (256, 256), jnp.float32), role="dense")
    self.b = nnx.Param(jnp.zeros(256), role="vector")
    self.c = nnx.Param(init(rngs.params(), (256, 2), jnp.float32), role="dense")

  def __call__(self, x_BC: jax.Array) -> jax.Array:
    hidden = x_BC @ plan.gather(self.a[...]) + self.b[...][None]
    return hidden @ plan.gather(self.c[...])


NETWORK = network(Layers)
CONFIG = configs.TrainConfig(
  total_samples=80,
  batch_size=8,
  data=configs.DataConfig(path="none"),
  optimizer=configs.OptimizerConfig(learning_rate=1e-3, ema_decay=0.9),
)


def loss(params, frozen, batch, keys_B):
  del frozen, keys_B
  error = NETWORK.bind(params)(batch["x_BC"]) - 1.0
  return jnp.mean(jnp.square(error)), {}


def batch(step: int, value: float | None = None) -> dict[str, np.ndarray]:
  x_BC = np.random.default_rng(step).normal(size=(8, 256)).astype(np.float32)
  if value is not None:
    x_BC[3, 5] = value
  return {"x_BC": x_BC, "sample_index_B": np.arange(8 * step, 8 * step + 8, dtype=np.uint32)}


def run(config, values, fsdp: int = 1):
  """Trains for `len(values)` steps; returns the state by name, metrics of each step."""
  task = steps.Task(NETWORK, frozen.Frozen({}), loss)
  trained = optimizers.trained_names(config.optimizer, NETWORK.abstract)
  optimizer = optimizers.make_optimizer(config.optimizer)
  mesh = meshes.make_mesh(meshes.MeshConfig(fsdp=fsdp), jax.devices()[:fsdp])
  # optax raises a Python float to the power of an int32 count: its own promotion, not ours.
  with jax.set_mesh(mesh), jax.numpy_dtype_promotion("standard"):

    def create():
      return states.create(NETWORK.init(jax.random.key(0)), optimizer, trained)

    shardings = plan.param_shardings(NETWORK.roles, NETWORK.abstract, mesh)
    abstract = steps.abstract_state(create, shardings, mesh)
    placed = jax.tree.map(lambda a: a.sharding, abstract)
    state = jax.jit(create, out_shardings=placed)()
    step = jax.jit(steps.make_train_step(task, config, optimizer, trained), donate_argnums=0)
    first = jax.device_get(states.by_name(state.params, NETWORK.abstract, trained))
    history = []
    for number, value in enumerate(values):
      rows = jax.NamedSharding(mesh, plan.batch_spec(mesh))
      state, metrics = step(state, {}, jax.device_put(batch(number, value), rows))
      history.append(jax.device_get(metrics))
    weights = jax.device_get(states.by_name(state.params, NETWORK.abstract, trained))
  return first, weights, jax.device_get(state), history, state


def test_training_lowers_the_loss():
  _, _, state, history, _ = run(CONFIG, [None] * 60)
  assert np.mean([m["loss"] for m in history[-5:]]) < 0.5 * history[0]["loss"]
  assert (state.step, state.samples, state.skipped) == (60, 480, 0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_step_that_is_not_finite_changes_nothing_but_counters(value):
  first, weights, state, history, _ = run(CONFIG, [value])
  for name in first:
    np.testing.assert_array_equal(first[name], weights[name])
  assert not np.isfinite(history[0]["loss"])
  assert (state.step, state.samples, state.skipped) == (1, 8, 1)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
  # And the run goes on as if that batch had never been.
  _, after, *_ = run(CONFIG, [value, None])
  assert any((after[name] != first[name]).any() for name in first)


def test_train_only_freezes_the_rest():
  only = dataclasses.replace(CONFIG.optimizer, train_only=("b", "c"))
  first, weights, state, *_ = run(dataclasses.replace(CONFIG, optimizer=only), [None] * 2)
  np.testing.assert_array_equal(first["a"], weights["a"])
  assert (first["c"] != weights["c"]).any()
  assert "a" not in state.ema
  assert all(leaf.size < 256 * 256 for leaf in jax.tree.leaves(state.opt_state))


def test_eight_devices_store_a_share_and_compute_the_same():
  _, one, *_ = run(CONFIG, [None] * 4)
  _, eight, _, _, state = run(CONFIG, [None] * 4, fsdp=8)
  for name in one:
    np.testing.assert_allclose(one[name], eight[name], rtol=1e-4, atol=1e-6)
  for branch in (state.params, state.ema, state.opt_state[1].mu):
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


def test_average_follows_its_definition():
  value, average = jnp.float32(0.0), {"w": jnp.float32(0.0)}
  for step in range(50):
    value += 1.0
    average = ema.update(average, {"w": value}, ema.decay_at(jnp.int32(step), 0.9))
  expected = 0.0
  for step in range(50):
    decay = min(0.9, (1 + step) / (10 + step))
    expected = decay * expected + (1 - decay) * (step + 1)
  np.testing.assert_allclose(average["w"], expected, rtol=1e-5)


def test_unknown_pattern_is_named():
  with pytest.raises(ValueError, match=r"'d\.\*' matches no parameter"):
    optimizers.trained_names(configs.OptimizerConfig(train_only=("d.*",)), NETWORK.abstract)
