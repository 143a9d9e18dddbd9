"""Preconditioning: how a network F becomes a denoiser D. Float32, no model code.

x = alpha x0 + sigma n (`vidjax.diffusion.levels`). With r = sqrt(alpha^2 + sigma^2), a = alpha / r
and b = sigma / r, the network sees x / r = a x0 + b n, which has unit variance, and says one of

  v    = a n - b x0     Salimans and Ho, 2202.00512, app. D; SVD, 2311.15127, eq. 11-14
  eps  = n              DDPM, 2006.11239, eq. 14; SVD eq. 6-9 for Stable Diffusion 2.1
  x0   = x0
  edm  = what is left of x0 by c_skip x, in units of c_out: EDM, 2206.00364, eq. 7 and tab. 1

In EDM's notation (alpha = 1) the first is c_skip = 1 / (sigma^2 + 1), c_out = -sigma / sqrt(sigma^2
+ 1), c_in = 1 / sqrt(sigma^2 + 1): EDM with sigma_data = 1, but for the sign of F.
"""

import jax
import jax.numpy as jnp

from vidjax.diffusion.levels import Level

PREDICTIONS = ("v", "eps", "x0", "edm")


def network_input(x: jax.Array, level: Level, sigma_data: float = 1.0) -> jax.Array:
  """C_in x: of unit variance, for data of standard deviation `sigma_data`."""
  level = level.like(x)
  alpha = level.alpha * jnp.float32(sigma_data)
  return x * jax.lax.rsqrt(jnp.square(alpha) + jnp.square(level.sigma))


def denoised(
  prediction: str, x: jax.Array, f: jax.Array, level: Level, sigma_data: float = 1.0
) -> jax.Array:
  """D(x): the x0 that the network's output `f` stands for, float32."""
  level, f = level.like(x), f.astype(jnp.float32)
  alpha, sigma, r = level.alpha, level.sigma, level.norm()
  match prediction:
    case "v":
      return (alpha * x / r - sigma * f) / r
    case "eps":
      return (x - sigma * f) / alpha
    case "x0":
      return f
    case "edm":
      # With s = sigma / alpha: c_skip and c_out are EDM's of x / alpha.
      data = jnp.float32(sigma_data)
      total = jnp.square(level.alpha * data) + jnp.square(level.sigma)
      c_skip = level.alpha * jnp.square(data) / total
      return c_skip * x + level.sigma * data * jax.lax.rsqrt(total) * f
  raise _unknown(prediction)


def target(
  prediction: str,
  x0: jax.Array,
  noise: jax.Array,
  level: Level,
  sigma_data: float = 1.0,
) -> jax.Array:
  """The output F for which D = x0."""
  level = level.like(x0)
  match prediction:
    case "v":
      return (level.alpha * noise - level.sigma * x0) / level.norm()
    case "eps":
      return noise
    case "x0":
      return x0
    case "edm":  # (x0 - c_skip x) / c_out, without the cancellation in it
      data = jnp.float32(sigma_data)
      total = jnp.square(level.alpha * data) + jnp.square(level.sigma)
      return (level.sigma * x0 / data - level.alpha * data * noise) * jax.lax.rsqrt(total)
  raise _unknown(prediction)


def _unknown(prediction: str) -> ValueError:
  return ValueError(f"diffusion.prediction={prediction!r}: choose from {', '.join(PREDICTIONS)}")
