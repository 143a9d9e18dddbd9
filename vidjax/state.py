"""TrainState: all that a step changes, as one pytree."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from vidjax.nn.params import Params
from vidjax.optim import ema, guard, packing
from vidjax.optim.guard import GuardState


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
  """The whole state of training; with the seed and the data it determines all that follows.

  Trained weights are packed (`vidjax.optim.packing`), others stand by their name.

  Attributes:
    step: int32, updates done.
    samples: uint32, samples seen; the next sample's global index.
    guard: what the step guard has seen and skipped (`vidjax.optim.guard`).
    params: float32 weights.
    opt_state: optax state of the trained weights.
    ema: float32 averages of the trained weights, by decay (`vidjax.optim.ema`).
  """

  step: jax.Array
  samples: jax.Array
  guard: GuardState
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
    guard=guard.create(),
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
  fields = {f.name: getattr(state, f.name) for f in dataclasses.fields(state)}
  of_guard = {f.name: getattr(state.guard, f.name) for f in dataclasses.fields(GuardState)}
  return fields | {"guard": of_guard}


def from_dict(values: dict[str, Any]) -> TrainState:
  """What `as_dict` has made a dict of."""
  return TrainState(**{**values, "guard": GuardState(**values["guard"])})
