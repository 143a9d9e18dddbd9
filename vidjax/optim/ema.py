"""Exponential moving average of the weights, float32, sharded like them."""

from typing import Any

import jax
import jax.numpy as jnp

from vidjax.nn.params import Params


def decay_at(step: jax.Array, decay: float) -> jax.Array:
  """min(decay, (1 + step) / (10 + step)): a short run is not dominated by its first weights."""
  n = step.astype(jnp.float32)
  return jnp.minimum(jnp.float32(decay), (1.0 + n) / (10.0 + n))


def update(ema: Params, params: Any, decay: jax.Array) -> Params:
  """One step of the average: ema + (1 - decay) (params - ema)."""
  return jax.tree.map(lambda e, p: e + (1.0 - decay) * (p - e), ema, params)
