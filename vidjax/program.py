"""The training program of a config on a mesh: what `train` runs, and what `plan` compiles.

It is made of descriptions only. Devices of the mesh may be those of this machine, or of a topology
that is not here.
"""

from collections.abc import Mapping
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from vidjax import autoencoding, denoising, divisibility, flops, latent_sets, lazy
from vidjax import config as configs
from vidjax import state as states
from vidjax import step as steps
from vidjax.conditioning.modes import MODES
from vidjax.diffusion import noise
from vidjax.encoders import frozen as encoders
from vidjax.encoders import tokenizers
from vidjax.nn.params import Params
from vidjax.optim import freezing
from vidjax.optim import optimizer as optimizers
from vidjax.parallel import plan
from vidjax.state import TrainState
from vidjax.step import Task


@dataclasses.dataclass(frozen=True)
class Program:
  """A training step and the shapes and layouts of what goes through it.

  Attributes:
    config: of the run, its batch in as many parts as the mesh needs (`divisibility.in_parts`).
    mesh: where it runs.
    task: what is trained.
    trained: names of the parameters that get gradients.
    optimizer: of their packed form.
  """

  config: configs.TrainConfig
  mesh: jax.sharding.Mesh
  task: Task
  trained: frozenset[str]
  optimizer: optax.GradientTransformation

  @functools.cached_property
  def shardings(self) -> dict[str, jax.NamedSharding]:
    """Stored layout of each parameter."""
    return plan.param_shardings(self.task.network.roles, self.task.network.abstract, self.mesh)

  @functools.cached_property
  def params(self) -> dict[str, jax.ShapeDtypeStruct]:
    """Each parameter by name: shape, dtype, layout."""
    return {
      name: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=self.shardings[name])
      for name, a in self.task.network.abstract.items()
    }

  @functools.cached_property
  def state(self) -> TrainState:
    """The training state: shapes, dtypes, layouts."""
    return steps.abstract_state(self._create, self.shardings, self.mesh)

  @functools.cached_property
  def frozen(self) -> dict[str, Params]:
    """Weights of the frozen encoders: shapes, dtypes, layouts. Each device stores its share."""
    return {kind: self._placed(encoder) for kind, encoder in self.task.frozen.encoders.items()}

  @functools.cached_property
  def batch(self) -> dict[str, Any]:
    """A batch of videos, with its pictures if it has some: shapes, dtypes, layouts."""
    data, images = self.config.data, self.config.data.images
    views = data.buckets or ((data.height, data.width),)
    largest = max(views, key=lambda view: view[0] * view[1])
    batch = self._rows(self.config.batch_size - images.rows, data.num_frames, largest)
    if images.rows:
      view = (images.height or data.height, images.width or data.width)
      batch["images"] = self._rows(images.rows, 1, view)
    return batch

  @functools.cached_property
  def step(self) -> Any:
    """`(state, frozen, batch) -> (state, metrics)`, jitted, the state donated."""
    return jax.jit(
      steps.make_train_step(self.task, self.config, self.optimizer, self.trained),
      donate_argnums=0,
      out_shardings=(self.state_shardings, None),
    )

  @property
  def state_shardings(self) -> TrainState:
    """Layout of each leaf of the state."""
    return jax.tree.map(lambda a: a.sharding, self.state)

  def trace(self, batch: dict[str, Any] | None = None) -> Any:
    """The step, traced for batches like this one (arrays or shapes), by default of videos."""
    with jax.set_mesh(self.mesh):
      return self.step.trace(self.state, self.frozen, self.batch if batch is None else batch)

  def lower(self, batch: dict[str, Any] | None = None) -> Any:
    """The step, traced and lowered for the mesh; to be compiled."""
    with jax.set_mesh(self.mesh):
      return self.trace(batch).lower()

  def model_flops(self, batch: dict[str, Any] | None = None) -> int:
    """FLOPs that the model asks for in one step, all devices (`vidjax.flops`).

    Args:
      batch: arrays or shapes; by default that of videos.

    Raises:
      ValueError: they cannot be counted.
    """
    videos = dict(self.batch if batch is None else batch)
    parts = [part for part in (videos.pop("images", None), videos) if part is not None]
    live = {name: p for name, p in self.params.items() if name in self.trained}
    fixed = {name: p for name, p in self.params.items() if name not in self.trained}

    def loss(live: Params, fixed: Params, frozen: dict[str, Params], part: dict[str, Any]) -> Any:
      keys_B = noise.sample_keys(self.config.seed, part["sample_index_B"])
      return self.task.loss({**live, **fixed}, frozen, part, keys_B)

    with jax.set_mesh(self.mesh):
      return sum(flops.step_flops(loss, live, fixed, self.frozen, part).total for part in parts)

  def fresh(self) -> TrainState:
    """A state with weights drawn from the seed, made in its layout."""
    return jax.jit(self._create, out_shardings=self.state_shardings)()

  def started(self, params: Params) -> TrainState:
    """A state around `params`, which come in their layout."""
    create = jax.jit(self._around)
    return jax.device_put(create(params), self.state_shardings)

  def draw(self, names: frozenset[str]) -> Params:
    """Fresh values of some parameters: the program that makes them holds no others."""

    def some(key: jax.Array) -> Params:
      return {name: p for name, p in self.task.network.init(key).items() if name in names}

    placed = {name: self.shardings[name] for name in names}
    return jax.jit(some, out_shardings=placed)(jax.random.key(self.config.seed))

  def by_name(self, weights: Mapping[str, Any]) -> dict[str, Any]:
    """Weights of a state, or averages over those that are frozen, by their own names."""
    return states.by_name(weights, self.task.network.abstract, self.trained)

  def load_frozen(self) -> dict[str, Params]:
    """Reads the weights of the encoders onto the devices, each process what its devices hold."""
    return {
      kind: {
        name: lazy.place(encoder.params[name], like) for name, like in self.frozen[kind].items()
      }
      for kind, encoder in self.task.frozen.encoders.items()
    }

  def _create(self) -> TrainState:
    return self._around(self.task.network.init(jax.random.key(self.config.seed)))

  def _around(self, params: Params) -> TrainState:
    decays = self.config.optimizer.ema_decays
    return states.create(params, self.optimizer, self.trained, decays)

  def _placed(self, encoder: encoders.Encoder[Any]) -> Params:
    network = encoder.network
    shardings = plan.param_shardings(network.roles, network.abstract, self.mesh)
    return {
      name: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=shardings[name])
      for name, a in network.abstract.items()
    }

  def _rows(self, rows: int, frames: int, view: tuple[int, int]) -> dict[str, Any]:
    """One part of a batch, see `vidjax.data.batches`."""
    config, (height, width) = self.config, view
    arrays: dict[str, tuple[tuple[int, ...], Any]] = dict.fromkeys(
      ("fps_B", "motion_score_B", *(f"{score}_B" for score in config.data.scores)),
      ((), jnp.float32),
    )
    arrays["sample_index_B"] = ((), jnp.uint32)
    if config.task == "diffusion" and latent_sets.cached(config.data):
      of = self.task.frozen
      latent = (height // of.downsampling, width // of.downsampling, 2 * of.latent_channels)
      arrays["latents_BTHWC"] = ((frames, *latent), jnp.float16)
    else:
      arrays["video_BTHWC"] = ((frames, height, width, 3), jnp.uint8)
    if text := latent_sets.text_shape(config.data):
      arrays["text_BLX"] = (text, jnp.float16)
    elif "text" in self.task.frozen.encoders:
      arrays["tokens_BL"] = ((_token_count(self.task, config.encoders.text),), jnp.int32)
    sharding = jax.NamedSharding(self.mesh, plan.batch_spec(self.mesh))
    return {
      name: jax.ShapeDtypeStruct((rows, *shape), dtype, sharding=sharding)
      for name, (shape, dtype) in arrays.items()
    }


def make(config: configs.TrainConfig, mesh: jax.sharding.Mesh, *, weights: bool = True) -> Program:
  """Describes the training program; nothing is compiled and no weight is read yet.

  Args:
    config: of the run.
    mesh: where it is to run.
    weights: the encoders that the config names have to be there. Without, SVD's stand in for those
      that it does not name, and nothing can be run (`vidjax plan`).

  Raises:
    ValueError: the config does not describe a model, or not one that the mesh can hold.
  """
  latent_sets.check_use(config)
  config = divisibility.in_parts(config, mesh.shape)
  if config.task == "autoencoder":
    task = autoencoding.make_task(config)
  elif weights:
    task = denoising.make_task(config)
  else:
    kind = MODES[config.conditioning.mode].encoder
    described = encoders.describe(config.encoders, kind, dtype=config.encoders.dtype)
    task = denoising.make_task(config, described)
  trained = freezing.trained_names(config.optimizer, task.network.abstract)
  return Program(config, mesh, task, trained, optimizers.make_optimizer(config.optimizer))


def _token_count(task: Task, spec: str) -> int:
  if spec:
    return tokenizers.load(spec).length
  return task.frozen.encoders["text"].config.max_position_embeddings  # the stand-in is CLIP's
