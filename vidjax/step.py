"""One training step, on one screen: loss and gradient -> guard -> optimizer -> EMA.

What the loss is belongs to a `Task`: `vidjax.denoising` (diffusion) or `vidjax.autoencoding`.
"""

from collections.abc import Callable
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from vidjax import state as states
from vidjax.config import TrainConfig
from vidjax.diffusion import noise
from vidjax.encoders.frozen import Frozen
from vidjax.nn.params import Network, Params
from vidjax.optim import ema, packing, schedules
from vidjax.parallel import plan
from vidjax.state import TrainState

Batch = dict[str, Any]  # arrays; under "images" such a dict again
Metrics = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Task:
  """What is trained.

  Attributes:
    network: the trained module without its values.
    frozen: the encoders that the loss reads but does not train. Their weights are arguments of the
      compiled step, not constants in it, and are read from where they are when they are placed.
    loss: `(params, frozen, batch, keys_B) -> (mean loss, metrics)`; one PRNG key per sample.
  """

  network: Network
  frozen: Frozen
  loss: Callable[[Params, dict[str, Params], Batch, jax.Array], tuple[jax.Array, Metrics]]


def make_train_step(
  task: Task,
  config: TrainConfig,
  optimizer: optax.GradientTransformation,
  trained: frozenset[str],
) -> Callable[[TrainState, dict[str, Params], Batch], tuple[TrainState, Metrics]]:
  """The pure step function; the caller jits it with the state donated."""

  def train_step(
    state: TrainState, frozen: dict[str, Params], batch: Batch
  ) -> tuple[TrainState, Metrics]:
    videos = jax.tree.map(plan.shard_batch, batch)
    images = videos.pop("images", None)
    params = states.by_name(state.params, task.network.abstract, trained)
    fixed = {name: p for name, p in params.items() if name not in trained}
    live = {name: p for name, p in params.items() if name in trained}

    def loss_of(part: Batch, live: Params) -> tuple[jax.Array, Metrics]:
      keys_B = noise.sample_keys(config.seed, part["sample_index_B"])
      return task.loss({**live, **fixed}, frozen, part, keys_B)

    def loss_fn(live: Params) -> tuple[jax.Array, Metrics]:
      loss, metrics = loss_of(videos, live)
      if images is None:
        return loss, metrics
      # Pictures beside videos are a second pass, of T = 1; a row counts like any other row.
      loss_images, _ = loss_of(images, live)
      share = len(images["sample_index_B"]) / config.batch_size
      parts = {"loss_videos": loss, "loss_images": loss_images}
      return (1.0 - share) * loss + share * loss_images, metrics | parts

    (loss, metrics), grads = jax.value_and_grad(loss_fn, has_aux=True)(live)

    # Update, on packed weights.
    grads = packing.pack(grads)
    old = {name: state.params[name] for name in grads}
    updates, opt_state = optimizer.update(grads, state.opt_state, old)
    lr = schedules.learning_rate(config.optimizer, state.samples)
    updates = jax.tree.map(lambda u: -lr * u, updates)
    new = optax.apply_updates(old, updates)
    new_ema = ema.update(state.ema, new, ema.decay_at(state.step, config.optimizer.ema_decay))

    # A loss or gradient that is not finite must not reach the weights: everything but the counters
    # stays as it was. `where` keeps one program; the choice costs a read of the state.
    grad_norm = optax.tree.norm(grads)
    ok = jnp.isfinite(loss) & jnp.isfinite(grad_norm)

    def keep(new: Any, old: Any) -> Any:
      return jax.tree.map(lambda n, o: jnp.where(ok, n, o), new, old)

    new_state = TrainState(
      step=state.step + 1,
      samples=state.samples + jnp.uint32(config.batch_size),
      skipped=state.skipped + jnp.where(ok, 0, 1).astype(jnp.int32),
      params=keep(new, old) | fixed,
      opt_state=keep(opt_state, state.opt_state),
      ema=keep(new_ema, state.ema),
    )
    metrics |= {
      "loss": loss,
      "lr": lr,
      "grad_norm": grad_norm,
      "param_norm": optax.tree.norm(new),
      "update_norm": optax.tree.norm(updates),
      "skipped_steps": new_state.skipped,
    }
    return new_state, metrics

  return train_step


def abstract_state(create: Callable[[], Any], shardings: dict[str, Any], mesh: Any) -> Any:
  """Shapes, dtypes and target shardings of the state that `create` would make, without making it.

  Weights, moments and averages of one name share its stored layout; scalars are replicated.
  """

  def place(path: tuple, leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    names = [entry.key for entry in path if isinstance(entry, jax.tree_util.DictKey)]
    sharding = next((shardings[name] for name in names if name in shardings), None)
    sharding = sharding or jax.NamedSharding(mesh, jax.P())
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

  return jax.tree_util.tree_map_with_path(place, jax.eval_shape(create))
