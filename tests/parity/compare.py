"""Arrays here (B, T, H, W, C) and there (frames first, channels before height)."""

import numpy as np
import torch


def draw(seed: int, *shape: int) -> np.ndarray:
  return np.random.default_rng(seed).standard_normal(shape, np.float32)


def frames(x_BTHWC: np.ndarray) -> torch.Tensor:
  """(B, T, H, W, C) as (B * T, C, H, W)."""
  return clip(x_BTHWC).flatten(0, 1)


def clip(x_BTHWC: np.ndarray) -> torch.Tensor:
  """(B, T, H, W, C) as (B, T, C, H, W)."""
  return torch.tensor(x_BTHWC).permute(0, 1, 4, 2, 3)


def close(ours: np.ndarray, theirs: torch.Tensor, atol: float = 2e-5) -> None:
  """Ours channels-last, theirs channels-first where there is space; outputs are of order 1."""
  theirs = theirs.detach().movedim(-3, -1) if theirs.ndim >= 4 else theirs.detach()
  expected = theirs.numpy()
  assert expected.std() > 0.05, "the reference says nothing"
  np.testing.assert_allclose(np.asarray(ours).reshape(expected.shape), expected, rtol=0, atol=atol)
