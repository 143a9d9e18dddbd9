"""From the size of a clip to that at which a protocol hands it to the networks.

B clips, T frames, H W pixels.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from vidjax.backbones import preprocess
from vidjax.backbones.resampling import antialiased_cubic, antialiased_linear, half_pixel, resize
from vidjax.evaluation.protocol import SizeStep

_RULES = {
  ("bilinear", True): antialiased_linear,
  ("bilinear", False): half_pixel,
  ("bicubic", True): antialiased_cubic,
}


def apply(x_BTHWC: jax.Array, steps: Sequence[SizeStep]) -> jax.Array:
  """Frames in [0, 255], float32, through the steps; bicubic ones stay in the range.

  Raises:
    ValueError: a crop is larger than what it is to be cut from.
  """
  for step in steps:
    old = (x_BTHWC.shape[2], x_BTHWC.shape[3])
    if step.kind == "centre_crop":
      if old[0] < step.height or old[1] < step.width:
        raise ValueError(
          f"clips of {old[0]}x{old[1]} (height x width) are smaller than the {step.height}x"
          f"{step.width} that the protocol cuts from them"
        )
      x_BTHWC = preprocess.centre_crop(x_BTHWC, (step.height, step.width))
      continue
    new = (step.height, step.width) if step.kind == "resize" else _short_side(old, step.height)
    x_BTHWC = jnp.clip(resize(x_BTHWC, new, _RULES[step.kernel, step.antialias]), 0, 255)
    if step.rounded:
      x_BTHWC = jnp.round(x_BTHWC)
  return x_BTHWC


def _short_side(old: tuple[int, int], size: int) -> tuple[int, int]:
  """The long side is cut to a whole number, as torchvision does."""
  height, width = old
  if height <= width:
    return size, int(size * width / height)
  return int(size * height / width), size
