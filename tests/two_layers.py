"""A network of two layers, and its training: what the step and its parts are tested on."""

import dataclasses
from typing import Any

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np

from vidjax import config as configs
from vidjax import state as states
from vidjax import step as steps
from vidjax.encoders import frozen
from vidjax.nn.params import network
from vidjax.optim import freezing
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
ROWS = 8
CONFIG = configs.TrainConfig(
  total_samples=80,
  batch_size=ROWS,
  data=configs.DataConfig(path="none"),
  optimizer=configs.OptimizerConfig(learning_rate=1e-3, ema_decays=(0.9,)),
)


def loss(params, frozen, batch, keys_B):
  """Mean square, and sums over the rows whose first number is large, of which there may be none."""
  del frozen
  noise_BC = jax.vmap(lambda key: jax.random.normal(key, (2,)))(keys_B)
  error_B = jnp.mean(
    jnp.square(NETWORK.bind(params)(batch["x_BC"]) - 1.0 + 0.01 * noise_BC), axis=1
  )
  hit_B = (batch["x_BC"][:, :1] > jnp.array([[0.0, 100.0]])).astype(jnp.float32)
  sums = {"sum": jnp.sum(hit_B * error_B[:, None], axis=0), "count": jnp.sum(hit_B, axis=0)}
  return jnp.mean(error_B), sums


def report(means):
  return {"loss_per_bin": means["sum"] / means["count"]}


TASK = steps.Task(NETWORK, frozen.Frozen({}), loss, report)


def config(**optimizer: Any) -> configs.TrainConfig:
  """`CONFIG` with other values of its optimizer."""
  return dataclasses.replace(CONFIG, optimizer=dataclasses.replace(CONFIG.optimizer, **optimizer))


def batch(step: int, rows: int = ROWS, value: float | None = None) -> dict[str, np.ndarray]:
  x_BC = np.random.default_rng(step).normal(size=(rows, 256)).astype(np.float32)
  if value is not None:
    x_BC[3, 5] = value
  return {
    "x_BC": x_BC,
    "sample_index_B": np.arange(rows * step, rows * step + rows, dtype=np.uint32),
  }


@dataclasses.dataclass
class Run:
  """A training run."""

  first: dict[str, np.ndarray]  # weights by name before it
  weights: dict[str, np.ndarray]  # and after it
  state: states.TrainState  # on devices
  history: list[dict[str, Any]]  # metrics of each step
  packed: list[dict[str, np.ndarray]]  # packed weights before it and after each step


def run(config: configs.TrainConfig, batches: list[dict[str, Any]], devices: int = 1) -> Run:
  """Trains on `batches` on a mesh of so many devices."""
  trained = freezing.trained_names(config.optimizer, NETWORK.abstract)
  optimizer = optimizers.make_optimizer(config.optimizer)
  mesh = meshes.make_mesh(meshes.MeshConfig(fsdp=devices), jax.devices()[:devices])
  # optax raises a Python float to the power of an int32 count: its own promotion, not ours.
  with jax.set_mesh(mesh), jax.numpy_dtype_promotion("standard"):

    def create():
      params = NETWORK.init(jax.random.key(0))
      return states.create(params, optimizer, trained, config.optimizer.ema_decays)

    shardings = plan.param_shardings(NETWORK.roles, NETWORK.abstract, mesh)
    abstract = steps.abstract_state(create, shardings, mesh)
    placed = jax.tree.map(lambda a: a.sharding, abstract)
    state = jax.jit(create, out_shardings=placed)()
    step = jax.jit(
      steps.make_train_step(TASK, config, optimizer, trained),
      donate_argnums=0,
      out_shardings=(placed, None),
    )
    first = jax.device_get(states.by_name(state.params, NETWORK.abstract, trained))
    history, packed = [], [jax.device_get(state.params)]
    for one in batches:
      rows = jax.NamedSharding(mesh, plan.batch_spec(mesh))
      state, metrics = step(state, {}, jax.device_put(one, rows))
      history.append(jax.device_get(metrics))
      packed.append(jax.device_get(state.params))
    weights = jax.device_get(states.by_name(state.params, NETWORK.abstract, trained))
  return Run(first, weights, state, history, packed)
