"""Normalisation with statistics in float32, whatever the dtype of the activations.

B batch, T frames, H W height and width, C channels, G groups, E channels of a group.
"""

from flax import nnx
import jax
import jax.numpy as jnp

from vidjax.parallel import plan

GROUPS = 32  # all models here; the PyTorch implementations of the video models fix it, too


class GroupNorm(nnx.Module):
  """Normalises groups of channels of `x_BTHWC`.

  Args:
    channels: C, a multiple of 32 (the number of groups).
    eps: added to the variance.
    over_time: statistics over (T, H, W) jointly, as in layers that mix frames; else over (H, W),
      each frame for itself.

  Raises:
    ValueError: `channels` does not divide into the groups.
  """

  def __init__(self, channels: int, *, eps: float, over_time: bool = False):
    if channels % GROUPS:
      raise ValueError(f"channels={channels}: group norm needs a multiple of {GROUPS}")
    self.scale = nnx.Param(jnp.ones(channels), role="vector")
    self.bias = nnx.Param(jnp.zeros(channels), role="vector")
    self.eps = eps
    self.over_time = over_time

  def __call__(self, x_BTHWC: jax.Array) -> jax.Array:
    """Normalises, scales and shifts; the result has the dtype of the input."""
    shape = x_BTHWC.shape
    x_BTHWGE = x_BTHWC.astype(jnp.float32).reshape(*shape[:-1], GROUPS, shape[-1] // GROUPS)
    axes = (1, 2, 3, 5) if self.over_time else (2, 3, 5)
    # Two passes: E[x^2] - E[x]^2 loses the variance of channels with a large mean.
    x_BTHWGE -= jnp.mean(x_BTHWGE, axes, keepdims=True)
    variance = jnp.mean(jnp.square(x_BTHWGE), axes, keepdims=True)
    y_BTHWC = (x_BTHWGE * jax.lax.rsqrt(variance + self.eps)).reshape(shape)
    return _scale_and_shift(y_BTHWC, self.scale, self.bias).astype(x_BTHWC.dtype)


class LayerNorm(nnx.Module):
  """Normalises the last dim: (..., C) -> (..., C)."""

  def __init__(self, channels: int, *, eps: float = 1e-5):
    self.scale = nnx.Param(jnp.ones(channels), role="vector")
    self.bias = nnx.Param(jnp.zeros(channels), role="vector")
    self.eps = eps

  def __call__(self, x: jax.Array) -> jax.Array:
    """Normalises, scales and shifts; the result has the dtype of the input."""
    y = x.astype(jnp.float32)
    y -= jnp.mean(y, -1, keepdims=True)
    y *= jax.lax.rsqrt(jnp.mean(jnp.square(y), -1, keepdims=True) + self.eps)
    return _scale_and_shift(y, self.scale, self.bias).astype(x.dtype)


def _scale_and_shift(y: jax.Array, scale: nnx.Param, bias: nnx.Param) -> jax.Array:
  channelwise = (1,) * (y.ndim - 1) + (-1,)
  scale_C, bias_C = plan.gather(scale[...]), plan.gather(bias[...])
  return y * scale_C.reshape(channelwise) + bias_C.reshape(channelwise)
