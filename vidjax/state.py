"""TrainState: all that a step changes, as one pytree."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from vidjax.nn.params import Params
from vidjax.optim import ema, packing


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
  """The whole state of training; with the seed and the data it determines all that follows.

  Trained weights are packed (`vidjax.optim.packing`), others stand by their name.

  Attributes:
    step: int32, updates done.
    samples: uint32, samples seen; the next sample's global index.
    skipped: int32, updates skipped because loss or gradient was not finite.
    params: float32 weights.
    opt_state: optax state of the trained weights.
    ema: float32 averages of the trained weights, by decay (`vidjax.optim.ema`).
  """

  step: jax.Array
  samples: jax.Array
  skipped: jax.Array
  params: Params
  opt_state: Any
  ema: dict[str, Params]


def create(
  params: Mapping[str, jax.Array],
  optimizer: optax.GradientTransformation,
  trained: frozenset[str],
  ema_decays: Sequence[float],
) -> TrainState:
  """Fresh state around `params`, given by name; jit it, so that all is made in its sharding."""
  live = packing.pack({name: p for name, p in params.items() if name in trained})
  fixed = {name: p for name, p in params.items() if name not in trained}
  return TrainState(
    step=jnp.int32(0),
    samples=jnp.uint32(0),
    skipped=jnp.int32(0),
    params=live | fixed,
    opt_state=optimizer.init(live),
    ema=ema.create(live, ema_decays),
  )


def averaged(state: TrainState, ema_decays: Sequence[float]) -> Params:
  """Packed weights: those that are trained as their first average has them, if there is one."""
  return state.params | (state.ema[ema.key(ema_decays[0])] if ema_decays else {})


def by_name(
  weights: Mapping[str, Any], abstract: Mapping[str, Any], trained: frozenset[str]
) -> dict[str, Any]:
  """Weights of a state (`params`, or an average with what is not trained) by their own names.

  Args:
    weights: packed, as in a `TrainState`; device or host arrays.
    abstract: shape of each parameter (`Network.abstract`).
    trained: names that were given to `create`.
  """
  live = packing.unpack(weights, {name: a for name, a in abstract.items() if name in trained})
  return {name: live[name] if name in trained else weights[name] for name in abstract}


def as_dict(state: TrainState) -> dict[str, Any]:
  """The state as a dict of its fields, the form in which it is saved."""
  return {f.name: getattr(state, f.name) for f in dataclasses.fields(state)}
