"""Learning rates as functions of samples seen, so that a change of batch size moves no schedule."""

import jax
import jax.numpy as jnp

from vidjax.config import OptimizerConfig


def learning_rate(config: OptimizerConfig, samples: jax.Array) -> jax.Array:
  """Linear warm-up over `warmup_samples`, then constant. Float32 scalar."""
  seen = samples.astype(jnp.float32)
  ramp = jnp.minimum(1.0, (seen + 1.0) / (config.warmup_samples + 1.0))
  return jnp.float32(config.learning_rate) * ramp
