"""Optimizers of optax by name, as chains without their learning rate, which the step applies.

  adamw      1711.05101; b1 = 0.9, b2 = 0.999
  adafactor  1804.04235, alg. 4, without its relative step size: the learning rate means what it
             means for adamw. Kernels keep row and column means of squares in place of a second
             moment. No first moment unless b1 is given; b2 is that of the paper, 1 - t^-0.8
  lion       2302.06675; b1 = 0.9, b2 = 0.99. Its learning rate is a third to a tenth of adamw's
  muon       K. Jordan, 2024, with the scale of 2502.16982, so that adamw's learning rate serves;
             b1 = 0.95. Vectors and small parameters are updated by adamw
  sgd        with momentum, b1 = 0.9; no b2

All moments are float32. Weight decay is decoupled and of matrices and kernels only. Small
parameters come joined (`vidjax.optim.packing`): what an optimizer takes of a tensor as a whole, as
adafactor does for its clipping, it takes of them together.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from vidjax.config import OptimizerConfig
from vidjax.nn.params import Params
from vidjax.optim.packing import MATRICES

_USUAL = {
  "adamw": (0.9, 0.999),
  "adafactor": (None, None),
  "lion": (0.9, 0.99),
  "muon": (0.95, 0.999),
  "sgd": (0.9, None),
}


def make_optimizer(config: OptimizerConfig) -> optax.GradientTransformation:
  """The direction of an update from clipped gradients; the step scales it by minus its rate.

  Raises:
    ValueError: `b2` is given to an optimizer that has none.
  """
  b1, b2 = _USUAL[config.name]
  if config.b2 is not None and b2 is None:
    raise ValueError(f"optimizer.b2={config.b2}: {config.name} has none, leave it out")
  b1 = b1 if config.b1 is None else config.b1
  b2 = b2 if config.b2 is None else config.b2
  return optax.chain(
    _direction(config.name, b1, b2),
    optax.add_decayed_weights(config.weight_decay, mask=_is_matrix),
  )


def _direction(name: str, b1: float | None, b2: float | None) -> optax.GradientTransformation:
  match name, b1, b2:
    case "adamw", float(b1), float(b2):
      return optax.scale_by_adam(b1=b1, b2=b2)
    case "lion", float(b1), float(b2):
      return optax.scale_by_lion(b1=b1, b2=b2)
    case "sgd", float(b1), None:
      return optax.trace(decay=b1)
    case "adafactor", _, None:
      return _adafactor(b1)
    case "muon", float(b1), float(b2):
      return _muon(b1, b2)
  raise AssertionError(name)  # the config knows all names


def _adafactor(b1: float | None) -> optax.GradientTransformation:
  """Adafactor, whose means of rows and columns stay in the layout in which they come."""
  parts = [optax.scale_by_factored_rms(), optax.clip_by_block_rms(1.0)]
  if b1 is not None:
    parts.append(optax.ema(b1, debias=False, accumulator_dtype=jnp.float32))
  inner = optax.chain(*parts)

  def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
    updates, new = inner.update(updates, state, params)
    if jax.sharding.get_abstract_mesh().empty:
      return updates, new
    # A mean over the dim that is not split is split as the gradient is; what is stored may not be.
    layout = jax.tree.map(lambda x: jax.typeof(x).sharding, state)
    return updates, jax.tree.map(jax.reshard, new, layout)

  return optax.GradientTransformation(inner.init, update)


def _muon(b1: float, b2: float) -> optax.GradientTransformation:
  """Muon of kernels, seen as matrices (all that goes in, out); adamw of the rest."""

  def dims(params: Any) -> dict[str, optax.contrib.MuonDimensionNumbers | None]:
    inputs = {
      name: tuple(range(params[name].ndim - 1)) if matrix and name != MATRICES else None
      for name, matrix in _is_matrix(params).items()
    }
    return {
      name: None if dims is None else optax.contrib.MuonDimensionNumbers(dims, -1)
      for name, dims in inputs.items()
    }

  inner = optax.contrib.muon(
    -1.0,  # optax turns the sign of an update for a rate; ours is turned by the step
    beta=b1,
    adam_b2=b2,
    consistent_rms=0.2,
    muon_weight_dimension_numbers=dims,  # pyright: ignore[reportArgumentType]
  )

  def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
    """Leaves it to the compiler how products of sharded matrices are shared out."""
    if jax.sharding.get_abstract_mesh().empty:
      return inner.update(updates, state, params)
    layout = jax.tree.map(lambda x: jax.typeof(x).sharding, (updates, state))
    shared_out: Any = jax.sharding.auto_axes(inner.update, out_sharding=layout)
    return shared_out(updates, state, params)

  return optax.GradientTransformation(inner.init, update)


def _is_matrix(params: Params) -> dict[str, bool]:
  return {name: isinstance(leaf, jax.Array) and leaf.ndim > 1 for name, leaf in params.items()}
