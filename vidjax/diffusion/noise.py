"""Noise levels and noise in training. Every draw is a function of one key per sample.

Shapes: B batch; `keys_B` is an array of B typed PRNG keys.
"""

import math

import jax
import jax.numpy as jnp


def sample_keys(seed: int, sample_index_B: jax.Array) -> jax.Array:
  """One key for each sample: a function of (seed, global sample index) and nothing else.

  So a sample meets the same noise whatever the batch size, host count or point of resume.
  """
  root = jax.random.key(seed)
  return jax.vmap(lambda index: jax.random.fold_in(root, index))(sample_index_B)


def stream(keys_B: jax.Array, name: int) -> jax.Array:
  """An independent stream of keys; `name` is a constant of the caller."""
  return jax.vmap(lambda key: jax.random.fold_in(key, name))(keys_B)


def log_normal_sigma(keys_B: jax.Array, p_mean: float, p_std: float) -> jax.Array:
  """Noise levels (B,) float32 with ln sigma ~ N(p_mean, p_std^2), EDM Tab. 1."""
  return jnp.exp(p_mean + p_std * jax.vmap(jax.random.normal)(keys_B))


def log_uniform_sigma(keys_B: jax.Array, low: float, high: float) -> jax.Array:
  """Noise levels (B,) float32 with ln sigma even between ln `low` and ln `high`."""
  return jnp.exp(math.log(low) + math.log(high / low) * uniform(keys_B))


def timesteps(keys_B: jax.Array, total: int) -> jax.Array:
  """Time steps (B,) int32, each of 0 ... total - 1 as likely: DDPM (2006.11239), alg. 1."""
  return jax.vmap(lambda key: jax.random.randint(key, (), 0, total))(keys_B)


def offset(keys_B: jax.Array, noise_BTHWC: jax.Array, strength: float) -> jax.Array:
  """Adds `strength` times a unit normal number for each channel of a clip, the same everywhere.

  Lets a model of a schedule that never reaches pure noise change the brightness of a whole clip
  (offset noise: N. Guttenberg, 2023; SVD, app. E.2.1, uses it with Stable Diffusion's schedule).
  """
  shape = (1, 1, 1, noise_BTHWC.shape[-1])
  return noise_BTHWC + strength * normal(keys_B, shape)


def normal(keys_B: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  """Unit normal noise (B, *shape), float32."""
  return jax.vmap(lambda key: jax.random.normal(key, shape, jnp.float32))(keys_B)


def uniform(keys_B: jax.Array) -> jax.Array:
  """U[0, 1) of shape (B,), float32."""
  return jax.vmap(lambda key: jax.random.uniform(key, (), jnp.float32))(keys_B)


def per_sample(value_B: jax.Array, like: jax.Array) -> jax.Array:
  """`value_B` as (B, 1, ..., 1), to be broadcast over `like`."""
  return value_B.reshape(value_B.shape + (1,) * (like.ndim - 1))
