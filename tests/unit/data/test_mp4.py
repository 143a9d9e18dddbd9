"""Encoded clips are a function of their frames."""

import numpy as np
import pytest

from vidjax.data import mp4


@pytest.mark.parametrize("size", [(64, 96), (128, 192), (256, 384)])
def test_equal_frames_give_equal_bytes(size):
  """Whatever lies in memory beside them, and also where rows are no round number of blocks."""
  rng = np.random.default_rng(0)
  height, width = size
  blocks = rng.integers(0, 256, (height // 8, width // 8, 3))
  scene = np.kron(blocks, np.ones((8, 8, 1)))
  moving = np.stack([np.roll(scene, 3 * t, axis=1) for t in range(16)])
  frames = np.clip(moving + rng.integers(-9, 9, moving.shape), 0, 255).astype(np.uint8)
  clutter, first = [], None
  for i in range(10):
    encoded = mp4.encode_mp4(frames, np.arange(16) / 4)
    assert first is None or encoded == first
    first = encoded
    clutter.append(rng.bytes(90_000 + 777 * i))
