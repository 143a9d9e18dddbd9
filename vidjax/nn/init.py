"""Initial values of weights, and the keys they are drawn from."""

import jax
from jax.nn import initializers
import jax.numpy as jnp

# Uniform in +-1/sqrt(fan_in): what the PyTorch implementations of these models start from.
fan_in_uniform = initializers.variance_scaling(1 / 3, "fan_in", "uniform")
zeros = initializers.zeros


def middle_tap(key: jax.Array, shape: tuple[int, int, int]) -> jax.Array:
  """A kernel (3, C, C) along time that passes the middle frame unchanged."""
  del key  # nothing is drawn
  nothing = jnp.zeros(shape[1:])
  return jnp.stack([nothing, jnp.eye(*shape[1:]), nothing])


class Keys:
  """A key for each parameter, in the order of construction: `rngs.params()`.

  Stands in for `nnx.Rngs`, whose counters are traced values: describing a model of a thousand
  parameters with them takes ten times as long.
  """

  def __init__(self, root: jax.Array):
    self._root = root
    self._drawn = 0

  def params(self) -> jax.Array:
    """The next key."""
    self._drawn += 1
    return jax.random.fold_in(self._root, self._drawn)
