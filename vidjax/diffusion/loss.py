"""The denoising loss, in float32.

SVD's objective is E[lambda(sigma) ||D - x0||^2] with lambda = (1 + sigma^2) / sigma^2 (App. D.2).
Since lambda c_out^2 = 1 it is exactly the unweighted squared error of F against its target, which
has no division by a vanishing sigma: that form is computed here, the other is the test's oracle.
"""

import jax
import jax.numpy as jnp

from vidjax.diffusion import noise, precondition

# Edges in ln sigma of the bins in which the loss is reported; the outer bins are open.
LOG_SIGMA_EDGES = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0)
NUM_BINS = len(LOG_SIGMA_EDGES) + 1


def denoising_loss(
  f_BTHWC: jax.Array, x0_BTHWC: jax.Array, noise_BTHWC: jax.Array, sigma_B: jax.Array
) -> jax.Array:
  """Squared error of F, averaged over T, H, W, C: shape (B,), float32."""
  sigma = noise.per_sample(sigma_B, x0_BTHWC)
  target = precondition.target(x0_BTHWC, noise_BTHWC, sigma)
  error = jnp.square(f_BTHWC.astype(jnp.float32) - target)
  return jnp.mean(error, axis=(1, 2, 3, 4))


def per_sigma_bin(loss_B: jax.Array, sigma_B: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Sums of the loss and sample counts in each bin of ln sigma: two (NUM_BINS,) float32."""
  edges = jnp.asarray(LOG_SIGMA_EDGES, jnp.float32)
  bin_B = jnp.sum(jnp.log(sigma_B)[:, None] > edges[None, :], axis=1)
  hit = (bin_B[:, None] == jnp.arange(NUM_BINS)[None, :]).astype(jnp.float32)
  return jnp.sum(hit * loss_B[:, None], axis=0), jnp.sum(hit, axis=0)
