"""AdamW as an optax chain without its learning rate, which the step applies (`schedules`)."""

from collections.abc import Iterable
import fnmatch

import jax
import optax

from vidjax.config import OptimizerConfig
from vidjax.nn.params import Params


def make_optimizer(config: OptimizerConfig) -> optax.GradientTransformation:
  """Clip by global norm, Adam, decoupled weight decay on matrices and kernels only."""
  return optax.chain(
    optax.clip_by_global_norm(config.clip_norm),
    optax.scale_by_adam(b1=config.b1, b2=config.b2),
    optax.add_decayed_weights(config.weight_decay, mask=_is_matrix),
  )


def trained_names(config: OptimizerConfig, names: Iterable[str]) -> frozenset[str]:
  """Names of the parameters that get gradients and moments.

  Raises:
    ValueError: a pattern of `optimizer.train_only` matches no parameter.
  """
  names = list(names)
  if not config.train_only:
    return frozenset(names)
  trained = set()
  for pattern in config.train_only:
    hits = fnmatch.filter(names, pattern)
    if not hits:
      raise ValueError(
        f"optimizer.train_only: {pattern!r} matches no parameter; names look like {names[0]!r}"
      )
    trained.update(hits)
  return frozenset(trained)


def _is_matrix(params: Params) -> dict[str, bool]:
  return {name: isinstance(leaf, jax.Array) and leaf.ndim > 1 for name, leaf in params.items()}
