"""Exponential moving averages of the weights, float32, sharded like them: one for each decay.

An average of decay b that is updated at every k-th step keeps b^k of itself, and so has the memory
of one that is updated at each: 1 / (1 - b) steps. While it is young it keeps less,
((1 + n) / (10 + n))^k at step n: a short run is not dominated by its first weights.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from vidjax.config import OptimizerConfig
from vidjax.nn.params import Params


def create(live: Params, decays: Sequence[float]) -> dict[str, Params]:
  """Averages of no update yet, by decay: what is averaged, as it is."""
  return {key(decay): jax.tree.map(jnp.copy, live) for decay in decays}


def key(decay: float) -> str:
  """How an average is called in a state, a checkpoint and `--params=ema:DECAY`: `0.9999`."""
  return repr(float(decay))


def weight_at(step: jax.Array, decay: float, every: int = 1) -> jax.Array:
  """What the newest weights count for in the update after step number `step`, from 0.

  It is 1 - min(decay, (1 + n) / (10 + n))^every, float32, without the rounding of 1 - decay.
  """
  n = step.astype(jnp.float32)
  young = -jnp.expm1(every * jnp.log1p(-9.0 / (10.0 + n)))
  return jnp.maximum(jnp.float32(1.0 - decay**every), young)


def update(average: Params, params: Params, weight: jax.Array) -> Params:
  """One update of an average: average + weight (params - average)."""
  return jax.tree.map(lambda e, p: e + weight * (p - e), average, params)


def advance(
  config: OptimizerConfig,
  averages: dict[str, Params],
  params: Params,
  step: jax.Array,
  ok: jax.Array,
) -> dict[str, Params]:
  """The averages after step number `step` has made `params`.

  Args:
    config: says which decays, and how often.
    averages: by decay.
    params: the trained weights, packed as the averages are.
    step: int32, from 0.
    ok: whether the step counts; if not, nothing changes.
  """

  def updated(averages: dict[str, Params], params: Params) -> dict[str, Params]:
    return {
      key(decay): update(
        averages[key(decay)], params, weight_at(step, decay, config.ema_every_steps)
      )
      for decay in config.ema_decays
    }

  if config.ema_every_steps == 1:
    # One fused pass with the update of the weights; a branch would keep them apart.
    return jax.tree.map(lambda n, o: jnp.where(ok, n, o), updated(averages, params), averages)
  due = ok & ((step + 1) % config.ema_every_steps == 0)
  return jax.lax.cond(due, updated, lambda averages, _: averages, averages, params)
