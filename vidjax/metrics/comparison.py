"""Real windows of video against several generated sets at once, by random features.

Every set gets the Fréchet distance of its frames (`appearance`), of its frame-to-frame changes
(`motion`), their sum (`distance`), and how much it moves at all (`frame_difference`). One half of
the real windows against the other is the floor that sampling alone leaves.

Legend: N windows, T frames, H W pixels, C channels.
"""

from collections.abc import Callable, Mapping
import dataclasses

import numpy as np

from vidjax.metrics import random_features
from vidjax.metrics.frechet import FeatureStats, frechet_from_stats, merge
from vidjax.metrics.intervals import GROUPS, Estimate, jackknife

REAL_SPLIT = "real_split"  # name of the floor
UNITS = {
  "distance": "squared random-feature units",
  "appearance": "squared random-feature units",
  "motion": "squared random-feature units",
  "frame_difference": "8-bit levels per frame",
}


@dataclasses.dataclass(frozen=True)
class _Window:
  """What is kept of one window: statistics of its frames and of its pairs, and how it moves."""

  appearance: FeatureStats
  motion: FeatureStats
  frame_difference: float


def compare(
  real_NTHWC: np.ndarray,
  fakes: Mapping[str, np.ndarray],
  progress: Callable[[int], None] = lambda done: None,
) -> dict[str, dict[str, Estimate]]:
  """Distances of each generated set to the real windows.

  Args:
    real_NTHWC: float32 RGB in [0, 1]; at least 4 windows of at least 2 frames.
    fakes: name -> generated windows of the same shape; their number may differ.
    progress: is told the number of windows done so far, of all sets together.

  Returns:
    name -> {"distance", "appearance", "motion", "frame_difference"}, with "real_split" first. The
    95 % intervals come from leaving out whole windows, since frames of one are not independent.

  Raises:
    ValueError: a set is too small, of another shape, out of range, or not finite; names the set.
  """
  _check("real", real_NTHWC, real_NTHWC.shape[1:], at_least=4)
  for name, fake_NTHWC in fakes.items():
    _check(name, fake_NTHWC, real_NTHWC.shape[1:], at_least=2)
  done, measured = 0, {}
  for name, video_NTHWC in {"real": real_NTHWC, **fakes}.items():
    measured[name] = []
    for video_THWC in video_NTHWC:
      measured[name].append(_measure(video_THWC))
      done += 1
      progress(done)
  real = measured.pop("real")
  result = {REAL_SPLIT: _distances(real[::2], real[1::2])}
  return result | {name: _distances(real, fake) for name, fake in measured.items()}


def _measure(video_THWC: np.ndarray) -> _Window:
  appearance_TK, motion_PK = random_features.features(video_THWC)
  difference = np.abs(np.diff(video_THWC.astype(np.float64), axis=0)).mean() * 255
  return _Window(FeatureStats.of(appearance_TK), FeatureStats.of(motion_PK), float(difference))


def _distances(real: list[_Window], fake: list[_Window]) -> dict[str, Estimate]:
  groups = min(GROUPS, len(real), len(fake))
  without = [
    _terms(_leave_out(real, g, groups), _leave_out(fake, g, groups)) for g in range(groups)
  ]
  return {
    name: jackknife(value, lambda g, n=name: without[g][n], groups, UNITS[name], lowest=0.0)
    for name, value in _terms(real, fake).items()
  }


def _terms(real: list[_Window], fake: list[_Window]) -> dict[str, float]:
  def distance(branch: str) -> float:
    sides = [merge(getattr(window, branch) for window in side) for side in (real, fake)]
    return frechet_from_stats(*sides)

  appearance, motion = distance("appearance"), distance("motion")
  return {
    "distance": appearance + motion,
    "appearance": appearance,
    "motion": motion,
    "frame_difference": float(np.mean([window.frame_difference for window in fake])),
  }


def _leave_out(windows: list[_Window], group: int, groups: int) -> list[_Window]:
  return [window for i, window in enumerate(windows) if i % groups != group]


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
