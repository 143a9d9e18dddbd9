"""The denoising loss, in float32.

A loss is w(s) ||D - x0||^2 with s = sigma / alpha (`vidjax.diffusion.levels`). It is computed on
what the network says, F, whose error is that of D up to a factor: nothing is divided by a vanishing
sigma. Weightings:

  unit     on F itself. For SVD's v this is w = (1 + s^2) / s^2, its lambda (2311.15127, app. D.2);
           for eps it is DDPM's simple loss (2006.11239, eq. 14)
  edm      w = (s^2 + sigma_data^2) / (s sigma_data)^2: EDM, 2206.00364, tab. 1
  min_snr  w = min(1 / s^2, gamma): 2303.09556, eq. 9
"""

import jax
import jax.numpy as jnp

from vidjax.diffusion import precondition
from vidjax.diffusion.levels import Level

WEIGHTINGS = ("unit", "edm", "min_snr")

# Edges in ln s of the bins in which the loss is reported; the outer bins are open.
LOG_SIGMA_EDGES = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0)
NUM_BINS = len(LOG_SIGMA_EDGES) + 1


def denoising_loss(
  prediction: str,
  f_BTHWC: jax.Array,
  x0_BTHWC: jax.Array,
  noise_BTHWC: jax.Array,
  level_B: Level,
  *,
  weighting: str = "unit",
  gamma: float = 5.0,
  sigma_data: float = 1.0,
) -> jax.Array:
  """Weighted squared error of F, averaged over T, H, W, C: shape (B,), float32."""
  target = precondition.target(prediction, x0_BTHWC, noise_BTHWC, level_B, sigma_data)
  error = jnp.square(f_BTHWC.astype(jnp.float32) - target)
  weight_B = weight(weighting, prediction, level_B, gamma=gamma, sigma_data=sigma_data)
  return weight_B * jnp.mean(error, axis=(1, 2, 3, 4))


def weight(
  weighting: str, prediction: str, level: Level, *, gamma: float = 5.0, sigma_data: float = 1.0
) -> jax.Array:
  """Weight of F's squared error: w(s) (dD / dF)^2, of the shape of `level.sigma`.

  Raises:
    ValueError: no such weighting.
  """
  alpha2, sigma2 = jnp.square(level.alpha), jnp.square(level.sigma)
  data2 = jnp.float32(sigma_data**2)
  match weighting:
    case "unit":
      return jnp.ones_like(level.sigma)
    case "edm":
      w = (sigma2 + alpha2 * data2) / (sigma2 * data2)
    case "min_snr":
      w = jnp.minimum(alpha2 / sigma2, gamma)
    case _:
      raise ValueError(f"diffusion.weighting={weighting!r}: choose from {', '.join(WEIGHTINGS)}")
  slope2 = {
    "v": sigma2 / (alpha2 + sigma2),
    "eps": sigma2 / alpha2,
    "x0": jnp.ones_like(sigma2),
    "edm": sigma2 * data2 / (sigma2 + alpha2 * data2),
  }
  return w * slope2[prediction]


def per_sigma_bin(loss_B: jax.Array, level_B: Level) -> tuple[jax.Array, jax.Array]:
  """Sums of the loss and sample counts in each bin of ln s: two (NUM_BINS,) float32."""
  edges = jnp.asarray(LOG_SIGMA_EDGES, jnp.float32)
  log_s_B = jnp.log(level_B.sigma) - jnp.log(level_B.alpha)
  bin_B = jnp.sum(log_s_B[:, None] > edges[None, :], axis=1)
  hit = (bin_B[:, None] == jnp.arange(NUM_BINS)[None, :]).astype(jnp.float32)
  return jnp.sum(hit * loss_B[:, None], axis=0), jnp.sum(hit, axis=0)
