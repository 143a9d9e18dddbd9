"""Samplers: from noise to a sample, given a denoiser D(x; sigma). One `lax.scan`, float32."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

Denoiser = Callable[[jax.Array, jax.Array], jax.Array]


def karras_sigmas(
  steps: int, *, sigma_min: float = 0.002, sigma_max: float = 700.0, rho: float = 7.0
) -> np.ndarray:
  """Noise levels (steps + 1,) from sigma_max down to sigma_min, then 0. EDM eq. 5.

  The defaults are SVD's (its sampling config: rho 7, 0.002 to 700). Computed in float64.
  """
  if steps < 1:
    raise ValueError(f"steps={steps}: sampling needs at least one step")
  ramp = np.linspace(0.0, 1.0, steps)
  low, high = sigma_min ** (1.0 / rho), sigma_max ** (1.0 / rho)
  sigmas = (high + ramp * (low - high)) ** rho
  return np.append(sigmas, 0.0).astype(np.float32)


def initial(noise: jax.Array, sigma_max: float) -> jax.Array:
  """The first x from unit normal `noise`: scaled by sqrt(1 + sigma_max^2), as SVD starts."""
  return noise.astype(jnp.float32) * np.float32(np.sqrt(1.0 + sigma_max**2))


def euler(denoise: Denoiser, x: jax.Array, sigmas: np.ndarray) -> jax.Array:
  """Euler steps on the probability-flow ODE, EDM Alg. 1 without the second-order correction.

  Args:
    denoise: D(x, sigma) with scalar `sigma`, float32 to float32.
    x: start, already scaled (`initial`).
    sigmas: (steps + 1,) decreasing, ending in 0.
  """

  def step(x: jax.Array, pair: jax.Array) -> tuple[jax.Array, None]:
    sigma, sigma_next = pair[0], pair[1]
    slope = (x - denoise(x, sigma)) / sigma  # dx/dsigma, EDM eq. 3 for sigma(t) = t
    return x + (sigma_next - sigma) * slope, None

  pairs = jnp.stack([jnp.asarray(sigmas[:-1]), jnp.asarray(sigmas[1:])], axis=1)
  x, _ = jax.lax.scan(step, x, pairs)
  return x
