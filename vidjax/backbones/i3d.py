"""I3D on RGB: Inception-v1 with kernels that reach over time, trained on Kinetics-400.

Source: Carreira and Zisserman (arXiv 1705.07750), figure 3, as in the graph of TF-Hub's
`i3d-kinetics-400/1`. Every pool follows a ReLU, so that zeros and -inf pad it alike.

B clips, T frames, H W pixels, C channels.
"""

from flax import nnx
import jax
import jax.numpy as jnp

from vidjax.backbones.layers import Linear, Unit, max_pool
from vidjax.nn import params
from vidjax.nn.init import Keys

SIZE = 224  # height and width of frames
MIN_FRAMES = 9
CLASSES = 400

# Outputs of the branches: 1x1, then (1x1, 3x3x3) twice, then 1x1 after a pool.
MIXED = {
  "mixed_3b": (64, 96, 128, 16, 32, 32),
  "mixed_3c": (128, 128, 192, 32, 96, 64),
  "mixed_4b": (192, 96, 208, 16, 48, 64),
  "mixed_4c": (160, 112, 224, 24, 64, 64),
  "mixed_4d": (128, 128, 256, 24, 64, 64),
  "mixed_4e": (112, 144, 288, 32, 64, 64),
  "mixed_4f": (256, 160, 320, 32, 128, 128),
  "mixed_5b": (256, 160, 320, 32, 128, 128),
  "mixed_5c": (384, 192, 384, 48, 128, 128),
}
# What a pool before a block has for size and stride.
_POOLS = {
  "conv3d_2b_1x1": ((1, 3, 3), (1, 2, 2)),
  "mixed_3b": ((1, 3, 3), (1, 2, 2)),
  "mixed_4b": ((3, 3, 3), (2, 2, 2)),
  "mixed_5b": ((2, 2, 2), (2, 2, 2)),
}
_STEM = ("conv3d_1a_7x7", "conv3d_2b_1x1", "conv3d_2c_3x3")
ENDPOINTS = (*_STEM, *MIXED)


class Mixed(nnx.Module):
  """Four branches, their channels joined: (B, T, H, W, C) -> (B, T, H, W, D)."""

  def __init__(self, in_channels: int, widths: tuple[int, ...], rngs: Keys):
    one, three = (1, 1, 1), (3, 3, 3)
    self.b0 = Unit(in_channels, widths[0], one, rngs=rngs)
    self.b1a = Unit(in_channels, widths[1], one, rngs=rngs)
    self.b1b = Unit(widths[1], widths[2], three, rngs=rngs)
    self.b2a = Unit(in_channels, widths[3], one, rngs=rngs)
    self.b2b = Unit(widths[3], widths[4], three, rngs=rngs)
    self.b3b = Unit(in_channels, widths[5], one, rngs=rngs)

  def __call__(self, x: jax.Array) -> jax.Array:
    """Runs the branches."""
    branches = (
      self.b0(x),
      self.b1b(self.b1a(x)),
      self.b2b(self.b2a(x)),
      self.b3b(max_pool(x, (3, 3, 3), 1)),
    )
    return jnp.concatenate(branches, -1)


class I3D(nnx.Module):
  """Clips (B, T, 224, 224, 3) in [-1, 1] -> features by name of tap."""

  def __init__(self, rngs: Keys):
    self.conv3d_1a_7x7 = Unit(3, 64, (7, 7, 7), stride=2, rngs=rngs)
    self.conv3d_2b_1x1 = Unit(64, 64, (1, 1, 1), rngs=rngs)
    self.conv3d_2c_3x3 = Unit(64, 192, (3, 3, 3), rngs=rngs)
    channels = 192
    for name, widths in MIXED.items():
      setattr(self, name, Mixed(channels, widths, rngs))
      channels = widths[0] + widths[2] + widths[4] + widths[5]
    self.logits = Linear(channels, CLASSES, rngs=rngs)

  def endpoints(self, x_BTHWC: jax.Array) -> dict[str, jax.Array]:
    """What each of `ENDPOINTS` gives; clips of any size."""
    found = {}
    for name in ENDPOINTS:
      if name in _POOLS:
        x_BTHWC = max_pool(x_BTHWC, *_POOLS[name])
      x_BTHWC = found[name] = getattr(self, name)(x_BTHWC)
    return found

  def __call__(self, x_BTHWC: jax.Array) -> dict[str, jax.Array]:
    """The endpoints; `pool` (B, 1024): pooled, mean over time; `logits` (B, 400), mean over time.

    `logits` are the features of the Frechet video distance.

    Raises:
      ValueError: clips of fewer than 9 frames, or of another size.
    """
    check(x_BTHWC.shape)
    found = self.endpoints(x_BTHWC)
    # The pool has windows of 2 x 7 x 7; the mean over time goes through the layer after it.
    means_BTC = jnp.mean(found["mixed_5c"], (2, 3))
    found["pool"] = jnp.mean((means_BTC[:, :-1] + means_BTC[:, 1:]) / 2, 1)
    found["logits"] = self.logits(found["pool"])
    return found


def check(shape: tuple[int, ...]) -> None:
  """Refuses clips (B, T, H, W, 3) that the network cannot pool.

  Raises:
    ValueError: says why.
  """
  frames, height, width = shape[1:4]
  if frames < MIN_FRAMES:
    raise ValueError(
      f"clips of {frames} frames: I3D pools two time steps of eight frames each, so it needs at"
      f" least {MIN_FRAMES} frames; take longer clips"
    )
  if (height, width) != (SIZE, SIZE):
    raise ValueError(f"frames of {height}x{width}: I3D takes {SIZE}x{SIZE}, resize them first")


def describe() -> params.Network[I3D]:
  """The network without values."""
  return params.network(I3D)
