"""TrainState: all that a step changes, as one pytree."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from vidjax.nn.params import Params


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
  """The whole state of training; with the seed and the data it determines all that follows.

  Attributes:
    step: int32, updates done.
    samples: uint32, samples seen; the next sample's global index.
    skipped: int32, updates skipped because loss or gradient was not finite.
    params: float32 weights by flat name.
    opt_state: optax state of the trained weights.
    ema: float32 averaged weights by flat name.
  """

  step: jax.Array
  samples: jax.Array
  skipped: jax.Array
  params: Params
  opt_state: Any
  ema: Params


def create(
  params: Params, optimizer: optax.GradientTransformation, trained: frozenset[str]
) -> TrainState:
  """Fresh state around `params`; jit it, so that moments and EMA are made sharded like them."""
  return TrainState(
    step=jnp.int32(0),
    samples=jnp.uint32(0),
    skipped=jnp.int32(0),
    params=params,
    opt_state=optimizer.init({name: params[name] for name in sorted(trained)}),
    ema=jax.tree.map(jnp.copy, params),
  )


def as_dict(state: TrainState) -> dict[str, Any]:
  """The state as a dict of its fields, the form in which it is saved."""
  return {f.name: getattr(state, f.name) for f in dataclasses.fields(state)}
