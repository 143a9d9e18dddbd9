"""Whether a converted network computes what the program in its file computes.

Names of tensors are no proof: two layers of one shape may change places unnoticed.

B clips, T frames, H W pixels, C channels.
"""

from collections.abc import Callable
import os

import jax
import jax.numpy as jnp
import numpy as np

from vidjax import storage
from vidjax.backbones import c3d, i3d, preprocess
from vidjax.nn.params import Network, Params

TOLERANCE = 1e-3  # largest difference, as a share of the largest number
_SEED = 20231125
_SIZE = (96, 120)  # height, width: neither network's own, so that resizing is compared, too

Features = Callable[[np.ndarray], np.ndarray]  # clips (B, T, H, W, 3) in [0, 255] -> (B, D)


def clips(frames: int, size: tuple[int, int] = _SIZE) -> np.ndarray:
  """Two clips of whole numbers in [0, 255], float32: noise, and a ramp that moves."""
  height, width = size
  noise = np.random.default_rng(_SEED).integers(0, 256, (frames, height, width, 3))
  t, y, x = np.meshgrid(np.arange(frames), np.arange(height), np.arange(width), indexing="ij")
  ramp = np.stack([3 * x + 5 * t, 2 * y - 4 * t, x + y + 7 * t], -1) % 256
  return np.stack([noise, ramp]).astype(np.float32)


def check_i3d(
  path: storage.PathLike,
  network: Network,
  params: Params,
  theirs: Features,
  *,
  resized: bool = False,
) -> None:
  """Compares logits; where `resized`, on frames that are given in the network's size.

  Raises:
    ValueError: they differ; the message says by how much.
  """
  video = clips(16, (i3d.SIZE, i3d.SIZE) if resized else _SIZE)

  def run(params: Params, video_BTHWC: jax.Array) -> jax.Array:
    return network.bind(params)(preprocess.i3d_squash(video_BTHWC))["logits"]

  _compare(path, jax.jit(run), params, video, theirs)


def check_c3d(path: storage.PathLike, network: Network, params: Params, theirs: Features) -> None:
  """Compares probabilities, see `check_i3d`."""

  def run(params: Params, video_BTHWC: jax.Array) -> jax.Array:
    return network.bind(params)(preprocess.c3d_frames(video_BTHWC))["probabilities"]

  _compare(path, jax.jit(run), params, clips(c3d.FRAMES), theirs)


def _compare(
  path: storage.PathLike,
  run: Callable[[Params, jax.Array], jax.Array],
  params: Params,
  video: np.ndarray,
  theirs: Features,
) -> None:
  expected = theirs(video)
  found = np.asarray(run(params, jnp.asarray(video)))
  if expected.shape != found.shape:
    raise ValueError(
      f"{os.fspath(path)} gives an array of shape {expected.shape} for two clips, and not"
      f" {found.shape}: it is another network"
    )
  difference = np.abs(found - expected).max() / np.abs(expected).max()
  if not difference <= TOLERANCE:
    raise ValueError(
      f"{os.fspath(path)}: what its own program gives for two clips differs from what the converted"
      f" network gives by {difference:.1e} of the largest number, {TOLERANCE:.0e} is allowed: its"
      " layers are in another order, or it is another network"
    )
