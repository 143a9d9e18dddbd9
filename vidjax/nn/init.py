"""Initial values of weights."""

import jax
from jax.nn import initializers

# Uniform in +-1/sqrt(fan_in): what the PyTorch implementations of these models start from.
fan_in_uniform = initializers.variance_scaling(1 / 3, "fan_in", "uniform")
zeros = jax.nn.initializers.zeros
