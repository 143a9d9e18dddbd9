"""The steps of a protocol's size chain, against PyTorch's own."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch

from vidjax.evaluation import named, sizes
from vidjax.evaluation.protocol import SizeStep


def clip(height, width, frames=2):
  return np.random.default_rng(0).integers(0, 256, (1, frames, height, width, 3)).astype(np.float32)


def in_torch(x_BTHWC, size, mode, antialias):
  x_NCHW = torch.from_numpy(x_BTHWC[0]).permute(0, 3, 1, 2)
  made = torch.nn.functional.interpolate(x_NCHW, size, mode=mode, antialias=antialias)
  return made.permute(0, 2, 3, 1).numpy()[None]


def test_svds_chain():
  """320 x 576 to 240 x 432, antialiased, rounded to 8 bits, the middle 240 x 320 of it."""
  x_BTHWC = clip(320, 576)
  expected = in_torch(x_BTHWC, (240, 432), "bilinear", True)[:, :, :, 56:376]
  found = sizes.apply(jnp.asarray(x_BTHWC), named.PROTOCOLS["svd-ucf101"].fake.size)
  assert found.shape == (1, 2, 240, 320, 3)
  assert np.abs(np.asarray(found) - expected).max() < 0.51  # half a level by rounding
  np.testing.assert_array_equal(found, np.round(found))


@pytest.mark.parametrize(
  ("kernel", "antialias"), [("bilinear", True), ("bilinear", False), ("bicubic", True)]
)
@pytest.mark.parametrize(("size", "scaled"), [((48, 61), (32, 40)), ((61, 48), (40, 32))])
def test_short_sides(kernel, antialias, size, scaled):
  x_BTHWC = clip(*size)
  step = SizeStep("short_side", 32, 0, kernel, antialias)
  found = sizes.apply(jnp.asarray(x_BTHWC), (step,))
  expected = np.clip(in_torch(x_BTHWC, scaled, kernel, antialias), 0, 255)
  np.testing.assert_allclose(found, expected, atol=2e-3)


def test_a_crop_that_does_not_fit():
  with pytest.raises(ValueError, match=r"clips of 16x24 .* smaller than the 32x8"):
    sizes.apply(jnp.zeros((1, 1, 16, 24, 3)), (SizeStep("centre_crop", 32, 8),))
