"""Arrays here (B, T, H, W, C) and there (frames first, channels before height), and how far apart.

Every comparison draws fresh weights and inputs. `VIDJAX_PARITY_SEED` repeats one.
"""

import dataclasses
import os

import numpy as np
import torch

# Largest |ours - theirs| as a share of the largest |theirs|, float32.
BLOCK, MODEL, GRADIENT = 2e-5, 1e-4, 1e-3
BFLOAT16 = 0.05  # the same where ours computes in bfloat16

FAINT = 3e-3  # scale of activations whose variance is of the order of the norms' epsilons

_BEFORE_NORMS = (
  "conv_in",
  "conv1",
  "conv2",
  "time_emb_proj",
  "proj_in",
  "to_out",
  "net.2",
  "time_pos_embed.linear_2",
  "patch_embedding",  # from here on: CLIP and T5
  "token_embedding",
  "position_embedding",
  "out_proj",
  "fc2",
  "shared",
  "SelfAttention.o",
  "wo",
)

Seed = int | list[int]


def draw(seed: Seed, *shape: int) -> np.ndarray:
  return np.random.default_rng(seed).standard_normal(shape, np.float32)


def frames(x_BTHWC: np.ndarray) -> torch.Tensor:
  """(B, T, H, W, C) as (B * T, C, H, W)."""
  return clip(x_BTHWC).flatten(0, 1)


def clip(x_BTHWC: np.ndarray) -> torch.Tensor:
  """(B, T, H, W, C) as (B, T, C, H, W)."""
  return torch.tensor(x_BTHWC).permute(0, 1, 4, 2, 3)


def repeated(x_B: np.ndarray, times: int) -> torch.Tensor:
  """(B, ...) as (B * T, ...): the same for each frame of a clip."""
  return torch.tensor(x_B).repeat_interleave(times, 0)


def close(ours: np.ndarray, theirs: torch.Tensor, atol: float = 2e-5) -> None:
  """Ours channels-last, theirs channels-first where there is space; outputs are of order 1."""
  theirs = theirs.detach().movedim(-3, -1) if theirs.ndim >= 4 else theirs.detach()
  expected = theirs.numpy()
  assert expected.std() > 0.05, "the reference says nothing"
  np.testing.assert_allclose(np.asarray(ours).reshape(expected.shape), expected, rtol=0, atol=atol)


def relative_error(ours: np.ndarray, theirs: np.ndarray, floor: float = 0.0) -> float:
  """max |ours - theirs| / max |theirs| of arrays with equally many elements in the same order.

  The denominator is at least `floor`.
  """
  ours = np.asarray(ours, np.float64).reshape(theirs.shape)
  return float(np.abs(ours - theirs).max() / max(np.abs(theirs).max(), floor))


def channels_last(theirs: torch.Tensor) -> np.ndarray:
  """(..., C, H, W) as (..., H, W, C); arrays without space, of at most three dims, as they are."""
  theirs = theirs.detach()
  return (theirs.movedim(-3, -1) if theirs.ndim >= 4 else theirs).numpy()


@dataclasses.dataclass
class Record:
  """All comparisons of a test run.

  Attributes:
    seed: from which all weights and inputs were drawn.
    worst: largest relative error and its bound, by what was compared.
  """

  seed: int
  worst: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)

  def check(
    self,
    what: str,
    ours: np.ndarray,
    theirs: torch.Tensor | np.ndarray,
    bound: float,
    floor: float = 0.0,
  ):
    """Notes the relative error of `what` and fails if it is above `bound`."""
    expected = channels_last(theirs) if isinstance(theirs, torch.Tensor) else theirs
    says_something = np.ptp(expected) > 0 if expected.size > 1 else expected.any()
    assert says_something, f"{what}: the reference says nothing"
    error = relative_error(ours, expected, floor)
    self.worst[what] = max(self.worst.get(what, (0.0, bound)), (error, bound))
    assert error < bound, (
      f"{what}: relative error {error:.1e}, allowed {bound:.0e};"
      f" repeat with VIDJAX_PARITY_SEED={self.seed}"
    )


def fresh_seed() -> int:
  """Another one in each run, or that of the environment."""
  chosen = os.environ.get("VIDJAX_PARITY_SEED")
  return int(chosen) if chosen else int.from_bytes(os.urandom(4), "little")


def randomize(model: torch.nn.Module, seed: Seed, *, faint: bool = False) -> None:
  """Fills a PyTorch model with random weights, zero layers included, of a variance that lasts.

  Args:
    model: the model.
    seed: where they come from.
    faint: scale all layers whose result a norm reads, at once or along the residual stream, so
      that an epsilon counts as much as the variance.
  """
  rng = np.random.default_rng(seed)
  with torch.no_grad():
    for name, parameter in model.named_parameters():
      vector = parameter.ndim < 2
      std = 0.2 if vector else parameter[0].numel() ** -0.5
      value = torch.tensor(rng.standard_normal(tuple(parameter.shape), np.float32)) * std
      if vector:
        value += 0.5
      is_bias = vector and "norm" not in name and "mix_factor" not in name
      if faint and (is_bias or any(layer in name for layer in _BEFORE_NORMS)):
        value *= FAINT
      parameter.copy_(value)
  model.eval()
