"""Normalisation with statistics in float32, whatever the dtype of the activations.

B batch, T frames, H W height and width, C channels.
"""

from flax import nnx
import jax
import jax.numpy as jnp

from vidjax.parallel import plan

GROUPS = 32  # of all UNets, and of SVD's temporal decoder: their PyTorch implementations fix it


class GroupNorm(nnx.Module):
  """Normalises groups of channels of `x_BTHWC`.

  Args:
    channels: C, a multiple of `groups`.
    eps: added to the variance.
    over_time: statistics over (T, H, W) jointly, as in layers that mix frames; else over (H, W),
      each frame for itself.
    groups: how many. With one channel in each, the layer forgets the mean of every channel.

  Raises:
    ValueError: `channels` does not divide into the groups.
  """

  def __init__(self, channels: int, *, eps: float, over_time: bool = False, groups: int = GROUPS):
    if channels % groups:
      raise ValueError(f"channels={channels}: group norm needs a multiple of {groups}")
    self.groups = groups
    self.scale = nnx.Param(jnp.ones(channels), role="vector")
    self.bias = nnx.Param(jnp.zeros(channels), role="vector")
    self.eps = eps
    self.over_time = over_time

  def __call__(self, x_BTHWC: jax.Array) -> jax.Array:
    """Normalises, scales and shifts; the result has the dtype of the input."""
    axes = (1, 2, 3) if self.over_time else (2, 3)
    # Channels are averaged first and grouped after, on small arrays: C stays the minor dim of all
    # large ones, which a (G, E) reshape of the activations would break. Two passes, since
    # E[x^2] - E[x]^2 loses the variance of channels with a large mean.
    y_BTHWC = x_BTHWC.astype(jnp.float32)
    y_BTHWC -= _group_mean(jnp.mean(y_BTHWC, axes, keepdims=True), self.groups)
    variance = _group_mean(jnp.mean(jnp.square(y_BTHWC), axes, keepdims=True), self.groups)
    scale_C, bias_C = _channelwise(self.scale, variance), _channelwise(self.bias, y_BTHWC)
    y_BTHWC = y_BTHWC * (jax.lax.rsqrt(variance + self.eps) * scale_C) + bias_C
    return y_BTHWC.astype(x_BTHWC.dtype)


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
    y = y * _channelwise(self.scale, y) + _channelwise(self.bias, y)
    return y.astype(x.dtype)


class RMSNorm(nnx.Module):
  """Divides by the root mean square of the last dim and scales: (..., C) -> (..., C).

  Source: Zhang and Sennrich (arXiv 1910.07467), eq. 4; no mean is taken off and nothing added.
  """

  def __init__(self, channels: int, *, eps: float):
    self.scale = nnx.Param(jnp.ones(channels), role="vector")
    self.eps = eps

  def __call__(self, x: jax.Array) -> jax.Array:
    """Normalises and scales; the result has the dtype of the input."""
    y = x.astype(jnp.float32)
    y *= jax.lax.rsqrt(jnp.mean(jnp.square(y), -1, keepdims=True) + self.eps)
    return (y * _channelwise(self.scale, y)).astype(x.dtype)


def _channelwise(vector_C: nnx.Param, like: jax.Array) -> jax.Array:
  return plan.channelwise(vector_C[...], like)


def _group_mean(mean_BTHWC: jax.Array, groups: int) -> jax.Array:
  """The mean of each channel (H = W = 1) -> the mean of its group, at each of its channels."""
  *outer, channels = mean_BTHWC.shape
  mean_BTHWGE = mean_BTHWC.reshape(*outer, groups, channels // groups)
  mean_BTHWGE = jnp.broadcast_to(jnp.mean(mean_BTHWGE, -1, keepdims=True), mean_BTHWGE.shape)
  return mean_BTHWGE.reshape(mean_BTHWC.shape)
