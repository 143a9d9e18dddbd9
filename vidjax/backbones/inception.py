"""Inception-v3 of TensorFlow's graph of 2015-12-05, for the Frechet inception distance.

Source: Szegedy et al. (arXiv 1512.00567); the graph differs from torchvision's network: means of
pools do not count padding, the last block takes the largest value in place of the mean, and there
are 1008 classes. Layers have torchvision's names, in small letters, as the published PyTorch files
have them.

B pictures, H W pixels, C channels.
"""

from collections.abc import Sequence

from flax import nnx
import jax
import jax.numpy as jnp

from vidjax.backbones.layers import Linear, Unit, max_pool, mean_pool
from vidjax.nn import params
from vidjax.nn.init import Keys

SIZE = 299
CLASSES = 1008

# A layer: name, outputs, kernel (height, width), stride. Padded to keep the size at stride 1; the
# layers of the stem and those of stride 2 have no padding.
Layer = tuple[str, int, tuple[int, int], int]
# A branch: layers one after the other. "mean" and "max" are pools; a list is a fork whose outputs
# are joined.
Branch = Sequence[Layer | str | list[Layer]]

_STEM: tuple[Layer | str, ...] = (
  ("conv2d_1a_3x3", 32, (3, 3), 2),
  ("conv2d_2a_3x3", 32, (3, 3), 1),
  ("conv2d_2b_3x3", 64, (3, 3), 1),
  "64",
  ("conv2d_3b_1x1", 80, (1, 1), 1),
  ("conv2d_4a_3x3", 192, (3, 3), 1),
  "192",
)
_PADDED_STEM = ("conv2d_2b_3x3",)


def _one(name: str, width: int) -> Layer:
  return (name, width, (1, 1), 1)


def _block_a(pool: int) -> list[Branch]:
  return [
    [_one("branch1x1", 64)],
    [_one("branch5x5_1", 48), ("branch5x5_2", 64, (5, 5), 1)],
    [
      _one("branch3x3dbl_1", 64),
      ("branch3x3dbl_2", 96, (3, 3), 1),
      ("branch3x3dbl_3", 96, (3, 3), 1),
    ],
    ["mean", _one("branch_pool", pool)],
  ]


def _block_b() -> list[Branch]:
  return [
    [("branch3x3", 384, (3, 3), 2)],
    [
      _one("branch3x3dbl_1", 64),
      ("branch3x3dbl_2", 96, (3, 3), 1),
      ("branch3x3dbl_3", 96, (3, 3), 2),
    ],
    ["halve"],
  ]


def _block_c(width: int) -> list[Branch]:
  return [
    [_one("branch1x1", 192)],
    [
      _one("branch7x7_1", width),
      ("branch7x7_2", width, (1, 7), 1),
      ("branch7x7_3", 192, (7, 1), 1),
    ],
    [
      _one("branch7x7dbl_1", width),
      ("branch7x7dbl_2", width, (7, 1), 1),
      ("branch7x7dbl_3", width, (1, 7), 1),
      ("branch7x7dbl_4", width, (7, 1), 1),
      ("branch7x7dbl_5", 192, (1, 7), 1),
    ],
    ["mean", _one("branch_pool", 192)],
  ]


def _block_d() -> list[Branch]:
  return [
    [_one("branch3x3_1", 192), ("branch3x3_2", 320, (3, 3), 2)],
    [
      _one("branch7x7x3_1", 192),
      ("branch7x7x3_2", 192, (1, 7), 1),
      ("branch7x7x3_3", 192, (7, 1), 1),
      ("branch7x7x3_4", 192, (3, 3), 2),
    ],
    ["halve"],
  ]


def _block_e(pool: str) -> list[Branch]:
  def fork(name: str) -> list[Layer]:
    return [(f"{name}a", 384, (1, 3), 1), (f"{name}b", 384, (3, 1), 1)]

  return [
    [_one("branch1x1", 320)],
    [_one("branch3x3_1", 384), fork("branch3x3_2")],
    [_one("branch3x3dbl_1", 448), ("branch3x3dbl_2", 384, (3, 3), 1), fork("branch3x3dbl_3")],
    [pool, _one("branch_pool", 192)],
  ]


_BLOCKS = {
  "mixed_5b": _block_a(32),
  "mixed_5c": _block_a(64),
  "mixed_5d": _block_a(64),
  "mixed_6a": _block_b(),
  "mixed_6b": _block_c(128),
  "mixed_6c": _block_c(160),
  "mixed_6d": _block_c(160),
  "mixed_6e": _block_c(192),
  "mixed_7a": _block_d(),
  "mixed_7b": _block_e("mean"),
  "mixed_7c": _block_e("max"),
}
_POOLS = {
  "mean": mean_pool,
  "max": lambda x: max_pool(x, (3, 3), 1),
  "halve": lambda x: max_pool(x, (3, 3), 2, "VALID"),
}


class Block(nnx.Module):
  """Branches, their channels joined: (B, H, W, C) -> (B, H, W, D)."""

  def __init__(self, in_channels: int, branches: list[Branch], rngs: Keys):
    self.branches = branches
    self.out_channels = 0
    for branch in branches:
      channels = in_channels
      for step in branch:
        if isinstance(step, str):
          continue
        fork = step if isinstance(step, list) else [step]
        for name, width, size, stride in fork:
          padding = "SAME" if stride == 1 else "VALID"
          unit = Unit(channels, width, size, stride=stride, padding=padding, rngs=rngs)
          setattr(self, name, unit)
        channels = sum(layer[1] for layer in fork)
      self.out_channels += channels

  def __call__(self, x_BHWC: jax.Array) -> jax.Array:
    """Runs the branches."""
    results = []
    for branch in self.branches:
      y = x_BHWC
      for step in branch:
        if isinstance(step, str):
          y = _POOLS[step](y)
        elif isinstance(step, list):
          y = jnp.concatenate([getattr(self, name)(y) for name, *_ in step], -1)
        else:
          y = getattr(self, step[0])(y)
      results.append(y)
    return jnp.concatenate(results, -1)


class InceptionV3(nnx.Module):
  """Pictures (B, 299, 299, 3) in [-1, 1] -> features by name of tap."""

  def __init__(self, rngs: Keys):
    channels = 3
    for step in _STEM:
      if isinstance(step, str):
        continue
      name, width, size, stride = step
      padding = "SAME" if name in _PADDED_STEM else "VALID"
      setattr(self, name, Unit(channels, width, size, stride=stride, padding=padding, rngs=rngs))
      channels = width
    for name, branches in _BLOCKS.items():
      block = Block(channels, branches, rngs)
      setattr(self, name, block)
      channels = block.out_channels
    self.fc = Linear(channels, CLASSES, rngs=rngs)

  def __call__(self, x_BHWC: jax.Array) -> dict[str, jax.Array]:
    """Means over space `64`, `192`, `768` and `2048`, `logits_unbiased` and `logits` (B, 1008).

    The numbers are the widths; 2048 is the layer of the Frechet inception distance. Pictures of
    other sizes than 299 x 299 go through, too, from 75 x 75 on.
    """
    found = {}
    for step in _STEM:
      if isinstance(step, str):
        x_BHWC = max_pool(x_BHWC, (3, 3), 2, "VALID")
        found[step] = jnp.mean(x_BHWC, (1, 2))
      else:
        x_BHWC = getattr(self, step[0])(x_BHWC)
    for name in _BLOCKS:
      x_BHWC = getattr(self, name)(x_BHWC)
      if name == "mixed_6e":
        found["768"] = jnp.mean(x_BHWC, (1, 2))
    found["2048"] = jnp.mean(x_BHWC, (1, 2))
    found["logits_unbiased"] = self.fc.unbiased(found["2048"])
    found["logits"] = self.fc(found["2048"])
    return found


def describe() -> params.Network[InceptionV3]:
  """The network without values."""
  return params.network(InceptionV3)
