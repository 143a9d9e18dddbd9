"""Real windows of video against several generated sets at once, by random features.

Every set gets the Fréchet distance of its frames (`appearance`), of its frame-to-frame changes
(`motion`), their sum (`distance`), and how much it moves at all (`frame_difference`). The first
half of the real windows against the second is the floor that sampling alone leaves.

Legend: N windows, T frames, H W pixels, C channels, K features.
"""

from collections.abc import Callable, Mapping
import dataclasses

import numpy as np

from vidjax.metrics import random_features
from vidjax.metrics.frechet import FeatureStats, frechet_from_stats
from vidjax.metrics.intervals import GROUPS, Estimate, jackknife

REAL_SPLIT = "real_split"  # name of the floor
UNITS = {
  "distance": "squared random-feature units",
  "appearance": "squared random-feature units",
  "motion": "squared random-feature units",
  "frame_difference": "8-bit levels per frame",
}


@dataclasses.dataclass(frozen=True)
class Measured:
  """What is kept of one set of windows.

  Attributes:
    appearance: (N, T, K) float32 features of frames.
    motion: (N, T - 1, K) float32 features of consecutive pairs.
    frame_difference: (N,) float64 mean absolute difference of consecutive frames, 8-bit levels.
  """

  appearance: np.ndarray
  motion: np.ndarray
  frame_difference: np.ndarray

  def __len__(self) -> int:
    return len(self.frame_difference)

  def part(self, keep_N: np.ndarray) -> "Measured":
    """The windows for which `keep_N` is true."""
    return Measured(self.appearance[keep_N], self.motion[keep_N], self.frame_difference[keep_N])


def compare(
  real_NTHWC: np.ndarray,
  fakes: Mapping[str, np.ndarray],
  progress: Callable[[int], None] = lambda done: None,
) -> dict[str, dict[str, Estimate]]:
  """Distances of each generated set to the real windows: `measure` and `distances` in one.

  Args:
    real_NTHWC: float32 RGB in [0, 1]; at least 4 windows of at least 2 frames.
    fakes: name -> generated windows of the same shape; their number may differ.
    progress: is told the number of windows done so far, of all sets together.

  Returns:
    name -> {"distance", "appearance", "motion", "frame_difference"}, with "real_split" first.

  Raises:
    ValueError: a set is too small, of another shape, out of range, or not finite; names the set.
  """
  real, measured = measure(real_NTHWC, fakes, progress)
  return distances(real, measured)


def measure(
  real_NTHWC: np.ndarray,
  fakes: Mapping[str, np.ndarray],
  progress: Callable[[int], None] = lambda done: None,
) -> tuple[Measured, dict[str, Measured]]:
  """Features of the real windows and of each generated set; arguments as for `compare`."""
  _check("real", real_NTHWC, real_NTHWC.shape[1:], at_least=4)
  for name, fake_NTHWC in fakes.items():
    _check(name, fake_NTHWC, real_NTHWC.shape[1:], at_least=2)
  measured, done = [], 0
  for video_NTHWC in (real_NTHWC, *fakes.values()):
    features, moved = [], []
    for video_THWC in video_NTHWC:
      features.append(random_features.features(video_THWC))
      moved.append(np.abs(np.diff(video_THWC.astype(np.float64), axis=0)).mean() * 255)
      done += 1
      progress(done)
    appearance, motion = (np.stack(branch) for branch in zip(*features, strict=True))
    measured.append(Measured(appearance, motion, np.array(moved)))
  return measured[0], dict(zip(fakes, measured[1:], strict=True))


def distances(real: Measured, fakes: Mapping[str, Measured]) -> dict[str, dict[str, Estimate]]:
  """Distances of measured sets, see `compare`.

  The 95 % intervals come from leaving out whole windows, since frames of one are not independent.
  """
  # Where clips take turns in giving windows, each clip has windows in either half.
  first_half = np.arange(len(real)) < len(real) / 2
  pairs = {REAL_SPLIT: (real.part(first_half), real.part(~first_half))}
  pairs |= {name: (real, fake) for name, fake in fakes.items()}
  return {name: _estimates(*pair) for name, pair in pairs.items()}


def _estimates(real: Measured, fake: Measured) -> dict[str, Estimate]:
  groups = min(GROUPS, len(real), len(fake))

  def without(group: int) -> dict[str, float]:
    return _terms(*(side.part(np.arange(len(side)) % groups != group) for side in (real, fake)))

  left_out = [without(group) for group in range(groups)] if groups > 2 else []
  return {
    name: jackknife(value, lambda g, n=name: left_out[g][n], groups, UNITS[name], lowest=0.0)
    for name, value in _terms(real, fake).items()
  }


def _terms(real: Measured, fake: Measured) -> dict[str, float]:
  appearance = _frechet(real.appearance, fake.appearance)
  motion = _frechet(real.motion, fake.motion)
  return {
    "distance": appearance + motion,
    "appearance": appearance,
    "motion": motion,
    "frame_difference": float(fake.frame_difference.mean()),
  }


def _frechet(real_NTK: np.ndarray, fake_NTK: np.ndarray) -> float:
  dims = real_NTK.shape[-1]
  real, fake = (FeatureStats.of(side.reshape(-1, dims)) for side in (real_NTK, fake_NTK))
  return frechet_from_stats(real, fake)


def _check(name: str, video_NTHWC: np.ndarray, shape: tuple[int, ...], at_least: int) -> None:
  if video_NTHWC.ndim != 5 or video_NTHWC.shape[-1] != 3 or video_NTHWC.shape[1] < 2:
    raise ValueError(
      f"{name} windows must be (N, T, H, W, 3) with T > 1, got shape {video_NTHWC.shape}"
    )
  if video_NTHWC.shape[1:] != shape:
    raise ValueError(f"{name} windows are {video_NTHWC.shape[1:]} each, the real ones {shape}")
  if len(video_NTHWC) < at_least:
    raise ValueError(f"{name}: {len(video_NTHWC)} windows, at least {at_least} are needed")
  low, high = float(np.min(video_NTHWC)), float(np.max(video_NTHWC))
  if not (low >= 0.0 and high <= 1.0):  # NaN fails both
    raise ValueError(f"{name} windows must be finite and in [0, 1], got [{low:.4g}, {high:.4g}]")
