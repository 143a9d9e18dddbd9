"""Learning rates as functions of samples seen, so that a change of batch size moves no schedule.

  rate(n) = learning_rate * min(1, (n + 1) / (w + 1)) * f(n - w),   w = warmup_samples

with f = 1 during the warm-up, and after it, over d = decay_samples, m = n - w, e = final_fraction:

  constant  f = 1
  cosine    f = e + (1 - e) (1 + cos(pi m / d)) / 2     (1608.03983, eq. 5)
  linear    f = 1 - (1 - e) m / d
  rsqrt     f = max(e, sqrt(w / n))                      (1706.03762, eq. 3)
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from vidjax.config import OptimizerConfig


def learning_rate(config: OptimizerConfig, total_samples: int, samples: jax.Array) -> jax.Array:
  """The rate of the update that sees sample `samples` first.

  Args:
    config: names the schedule.
    total_samples: where training, and a decay without a length of its own, ends.
    samples: uint32 scalar; in float32, in which it is used, 4e9 is known to 256 samples.

  Returns:
    Float32 scalar.
  """
  seen = samples.astype(jnp.float32)
  ramp = jnp.minimum(1.0, (seen + 1.0) / (config.warmup_samples + 1.0))
  after = jnp.maximum(0.0, seen - config.warmup_samples)
  decay = _decay(config, total_samples)
  return jnp.float32(config.learning_rate) * ramp * decay(after)


def _decay(config: OptimizerConfig, total_samples: int) -> Callable[[jax.Array], Any]:
  """f, of samples since the warm-up."""
  length = float(config.decay_samples or total_samples - config.warmup_samples)
  warmup = float(config.warmup_samples)
  match config.schedule:
    case "constant":
      return jnp.ones_like
    case "cosine":
      # Floats serve where steps are meant, and sample counts need them: they may pass 2^31.
      return optax.cosine_decay_schedule(1.0, length, alpha=config.final_fraction)  # pyright: ignore[reportArgumentType]
    case "linear":
      return optax.linear_schedule(1.0, config.final_fraction, length)  # pyright: ignore[reportArgumentType]
    case "rsqrt":
      return lambda after: jnp.maximum(config.final_fraction, jnp.sqrt(warmup / (warmup + after)))
  raise AssertionError(config.schedule)  # the config knows all names
