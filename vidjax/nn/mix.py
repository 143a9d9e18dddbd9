"""Temporal layers on clips and on single images, and the learned blend of both branches."""

from collections.abc import Callable
import math

from flax import nnx
import jax
import jax.numpy as jnp

from vidjax.parallel import plan

# Whether a clip is a set of single images, which no temporal layer may join: one answer for all,
# and then the program holds no other layers than it needs, or one for each clip, (B,) booleans.
ImageOnly = bool | jax.Array


def then_over_time(
  layer: Callable[[jax.Array], jax.Array] | None, x: jax.Array, *, image_only: ImageOnly
) -> jax.Array:
  """`layer(x)` for clips, `x` itself for single images: (B, T, ..., C).

  Where frames are divided among devices, the layer gets whole clips and a share of the positions of
  a frame, (B, T, S, C) or (B, T, S, 1, C): it must treat positions alike but for sums over them.

  With (B,) booleans the layer runs on all rows. It reads zeros in place of single images, so that
  what overflows on them does not reach the gradient of its weights: 0 * inf is NaN. Source: the
  `image_only_indicator` of generative-models' `util.py`, which sets SVD's spatial share to 1.

  Args:
    layer: keeps the shape of its input; None where the model has none.
    x: (B, T, S, C) or (B, T, H, W, C).
    image_only: see `ImageOnly`.
  """
  if layer is None or image_only is True:
    return x
  if image_only is False:
    return _on_whole_clips(layer, x)
  images = image_only.reshape((-1,) + (1,) * (x.ndim - 1))
  return jnp.where(images, x, _on_whole_clips(layer, jnp.where(images, 0, x)))


def _on_whole_clips(layer: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
  if not plan.is_split(x, 1):
    return layer(x)
  batch, frames, *inner, channels = x.shape
  x_BTSC = plan.split_positions(x.reshape(batch, frames, math.prod(inner), channels))
  # As many dims as the layer expects.
  y_BTSC = layer(x_BTSC) if len(inner) == 1 else layer(x_BTSC[:, :, :, None])[:, :, :, 0]
  return plan.split_frames(y_BTSC).reshape(x.shape)


class AlphaBlender(nnx.Module):
  """`a * first + (1 - a) * second` with `a = sigmoid(mix_factor)`, one factor for each layer.

  The UNet passes (spatial, temporal), the temporal decoder of the autoencoder (temporal, spatial).
  Source: SVD, appendix D.2; diffusers' `resnet.py` (AlphaBlender).

  Args:
    mix_factor: initial logit: 0.5 in the UNet, so that 62 % come from the spatial branch; 0 in the
      temporal decoder.
  """

  def __init__(self, mix_factor: float):
    self.mix_factor = nnx.Param(jnp.full(1, mix_factor), role="vector")

  def __call__(self, first: jax.Array, second: jax.Array) -> jax.Array:
    """Blends two arrays of one shape."""
    alpha = jax.nn.sigmoid(plan.gather(self.mix_factor[...])).astype(first.dtype)
    alpha = alpha.reshape((1,) * first.ndim)
    # Written so that equal branches give exactly that value, whatever the factor.
    return second + alpha * (first - second)
