"""Preconditioning: how a network F becomes a denoiser D. Float32, no model code.

Notation of EDM (Karras et al., 2206.00364): x = x0 + sigma n, n ~ N(0, I), and
  D(x; sigma) = c_skip(sigma) x + c_out(sigma) F(c_in(sigma) x; c_noise(sigma)).
SVD (2311.15127, App. D.2, eq. 11-14) takes sigma_data = 1, which is v-prediction in this form.
"""

import jax
import jax.numpy as jnp


def c_skip(sigma: jax.Array) -> jax.Array:
  """1 / (sigma^2 + 1), SVD eq. 11."""
  return 1.0 / (sigma**2 + 1.0)


def c_out(sigma: jax.Array) -> jax.Array:
  """-sigma / sqrt(sigma^2 + 1), SVD eq. 12."""
  return -sigma * jax.lax.rsqrt(sigma**2 + 1.0)


def c_in(sigma: jax.Array) -> jax.Array:
  """1 / sqrt(sigma^2 + 1), SVD eq. 13."""
  return jax.lax.rsqrt(sigma**2 + 1.0)


def c_noise(sigma: jax.Array) -> jax.Array:
  """Ln(sigma) / 4, SVD eq. 14; goes into the sinusoidal embedding as it is."""
  return 0.25 * jnp.log(sigma)


def denoised(x: jax.Array, f: jax.Array, sigma: jax.Array) -> jax.Array:
  """D from the network's output `f`; `sigma` is broadcastable to `x`. Float32."""
  return c_skip(sigma) * x + c_out(sigma) * f.astype(jnp.float32)


def target(x0: jax.Array, noise: jax.Array, sigma: jax.Array) -> jax.Array:
  """The output F for which D = x0: (noise - sigma x0) / sqrt(1 + sigma^2).

  It solves x0 = c_skip (x0 + sigma noise) + c_out F for F.
  """
  return (noise - sigma * x0) * jax.lax.rsqrt(sigma**2 + 1.0)
