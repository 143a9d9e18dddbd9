"""Noise levels: x = alpha x0 + sigma n with n ~ N(0, I). Float32; the one notation of this package.

EDM and SVD add noise, alpha = 1; DDPM mixes, alpha^2 + sigma^2 = 1. Both are the same clip up to a
factor: what matters is sigma / alpha, EDM's sigma. A level with alpha = 0 is pure noise, which only
the second form can say. Source of the general form: Kingma et al., 2107.00630, sec. 3.1.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Level:
  """One noise level, one for each sample (B,), or those of a sampler in their order (steps + 1,).

  Attributes:
    alpha: factor of the data.
    sigma: factor of the noise.
    c_noise: what the network is told: 0.25 ln sigma in EDM, the time step in DDPM.
  """

  alpha: Any
  sigma: Any
  c_noise: Any

  def like(self, x: jax.Array) -> "Level":
    """With dims of size 1 behind, to be broadcast over `x`; scalars stay."""

    def expand(value: Any) -> jax.Array:
      value = jnp.asarray(value)
      return value.reshape(value.shape + (1,) * (x.ndim - value.ndim)) if value.ndim else value

    return jax.tree.map(expand, self)

  def norm(self) -> jax.Array:
    """Sqrt(alpha^2 + sigma^2): the standard deviation of x for data of unit variance."""
    return jnp.sqrt(jnp.square(self.alpha) + jnp.square(self.sigma))


def added(sigma: Any) -> Level:
  """Noise added to the data: alpha = 1, c_noise = 0.25 ln sigma (EDM tab. 1; SVD eq. 14)."""
  if isinstance(sigma, np.ndarray):
    with np.errstate(divide="ignore"):  # the last level of a sampler is 0, and no network sees it
      c_noise = (0.25 * np.log(sigma.astype(np.float64))).astype(np.float32)
    return Level(np.ones_like(sigma, np.float32), sigma.astype(np.float32), c_noise)
  return Level(jnp.ones_like(sigma), sigma, 0.25 * jnp.log(sigma))


def noised(x0: jax.Array, noise: jax.Array, level: Level) -> jax.Array:
  """alpha x0 + sigma noise."""
  level = level.like(x0)
  return level.alpha * x0 + level.sigma * noise


def initial(noise: jax.Array, level: Level) -> jax.Array:
  """What a sampler starts from: unit normal `noise`, scaled as x would be at `level`.

  For added noise that is sqrt(1 + sigma^2), as SVD's sampler starts.
  """
  return noise.astype(jnp.float32) * level.norm()
