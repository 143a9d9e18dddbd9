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
from vidjax.optim import accumulation, ema, guard, norms, packing, schedules
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
    loss: `(params, frozen, batch, keys_B) -> (mean loss, means)`; one PRNG key per sample. Means
      are over the rows of the batch, or sums: parts of a batch, of as many rows each, are averaged.
    report: metrics from the means of the whole batch, such as ratios of two of them.
  """

  network: Network
  frozen: Frozen
  loss: Callable[[Params, dict[str, Params], Batch, jax.Array], tuple[jax.Array, Metrics]]
  report: Callable[[Metrics], Metrics] = dict


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
    batch = jax.tree.map(plan.shard_batch, batch)
    params = states.by_name(state.params, task.network.abstract, trained)
    fixed = {name: p for name, p in params.items() if name not in trained}
    live = {name: p for name, p in params.items() if name in trained}

    def loss_of(part: Batch, live: Params) -> tuple[jax.Array, Metrics]:
      keys_B = noise.sample_keys(config.seed, part["sample_index_B"])
      return task.loss({**live, **fixed}, frozen, part, keys_B)

    def loss_fn(live: Params, batch: Batch) -> tuple[jax.Array, tuple[Metrics, Metrics]]:
      videos = dict(batch)
      images = videos.pop("images", None)
      loss, means = loss_of(videos, live)
      if images is None:
        return loss, (means, {})
      # Pictures beside videos are a second pass, of T = 1; a row counts like any other row.
      loss_images, _ = loss_of(images, live)
      share = config.data.images.rows / config.batch_size
      both = {"loss_videos": loss, "loss_images": loss_images}
      return (1.0 - share) * loss + share * loss_images, (means, both)

    loss, (means, both), grads = accumulation.value_and_grad(
      loss_fn, live, batch, config.accumulation_steps, packing.pack
    )

    # Update, on packed weights.
    old = {name: state.params[name] for name in grads}
    grad_norms = norms.per_block(grads, live)
    grads = norms.clip(grads, grad_norms[""], config.optimizer.clip_norm)
    updates, opt_state = optimizer.update(grads, state.opt_state, old)
    lr = schedules.learning_rate(config.optimizer, config.total_samples, state.samples)
    updates = jax.tree.map(lambda u: -lr * u, updates)
    new = jax.tree.map(jnp.add, old, updates)

    # What is broken must not reach the weights: everything but the counters and the guard's own
    # view stays as it was. `where` keeps one program; the choice costs a read of the state.
    verdict = guard.judge(config.guard, state.guard, loss, grad_norms[""])
    ok = verdict.ok

    def keep(new: Any, old: Any) -> Any:
      return jax.tree.map(lambda n, o: jnp.where(ok, n, o), new, old)

    new_state = TrainState(
      step=state.step + 1,
      samples=state.samples + jnp.uint32(config.batch_size),
      guard=verdict.state,
      params=keep(new, old) | fixed,
      opt_state=keep(opt_state, state.opt_state),
      ema=ema.advance(config.optimizer, state.ema, new, state.step, ok),
    )
    metrics = task.report(means) | both | norms.metrics("grad_norm", grad_norms)
    metrics |= norms.metrics("param_norm", norms.per_block(new, live))
    metrics |= norms.metrics("update_norm", norms.per_block(updates, live))
    metrics |= {"loss": loss, "lr": lr} | guard.metrics(verdict)
    return new_state, metrics

  return train_step


def abstract_state(
  create: Callable[[], TrainState], shardings: dict[str, Any], mesh: Any
) -> TrainState:
  """Shapes, dtypes and target shardings of the state that `create` would make, without making it.

  Weights, moments and averages of one name share its stored layout. What an optimizer holds of a
  weight in another shape (adafactor's means of rows and columns) is small, and replicated as
  scalars and packed weights are.
  """
  state = jax.eval_shape(create)
  replicated = jax.NamedSharding(mesh, jax.P())

  def place(path: tuple, leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    names = [entry.key for entry in path if isinstance(entry, jax.tree_util.DictKey)]
    name = next((name for name in names if name in shardings), None)
    alike = name is not None and state.params[name].shape == leaf.shape
    sharding = shardings[name] if name is not None and alike else replicated
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

  return jax.tree_util.tree_map_with_path(place, state)
