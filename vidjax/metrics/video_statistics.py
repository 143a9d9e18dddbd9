"""What pixels alone say of a video: how much it moves, and whether it keeps the frame it was given.

They need no network, and see what the Fréchet distance forgives: a model that freezes. Each video
gives one small record, so a set is measured as it is read.

Legend: N videos, T frames, H W pixels, C channels (RGB).
"""

from collections.abc import Sequence
import dataclasses
import itertools
import math

import numpy as np

from vidjax.metrics.intervals import Estimate, mean_of

# Mean absolute difference of consecutive frames, in 8-bit levels, below which a video counts as
# static: half a level is what rounding can make of frames that are one.
STATIC_BELOW = 0.5
PSNR_AT_MOST = 100.0  # decibels; what equal frames get, whose PSNR has no bound
_WINDOW, _SIGMA = 11, 1.5
_Z95 = 1.959963984540054


@dataclasses.dataclass(frozen=True)
class VideoRecord:
  """The numbers of one video.

  Attributes:
    frame_difference: mean absolute difference of consecutive frames, 8-bit levels.
    temporal_flicker: VBench's (255 - frame_difference) / 255; 1 where nothing moves, and moves of
      the camera count as flicker.
    static: 1.0 where `frame_difference` is below `STATIC_BELOW`, 0.0 elsewhere.
    first_frame_psnr: decibels, of the first frame against the one that was given; None without.
    first_frame_ssim: likewise.
  """

  frame_difference: float
  temporal_flicker: float
  static: float
  first_frame_psnr: float | None = None
  first_frame_ssim: float | None = None


UNITS = {
  "frame_difference": "8-bit levels per frame",
  "temporal_flicker": "1 - difference / 255",
  "static": f"share of videos below {STATIC_BELOW} levels per frame",
  "first_frame_psnr": "dB",
  "first_frame_ssim": "SSIM",
}
_BOUNDS = {
  "frame_difference": (0.0, 255.0),
  "temporal_flicker": (0.0, 1.0),
  "static": (0.0, 1.0),
  "first_frame_psnr": (0.0, PSNR_AT_MOST),
  "first_frame_ssim": (-1.0, 1.0),
}


def measure(video_THWC: np.ndarray, given_HWC: np.ndarray | None = None) -> VideoRecord:
  """The record of one video.

  Args:
    video_THWC: uint8 RGB, at least 2 frames.
    given_HWC: uint8 RGB, the frame that image-to-video was given, at the video's size.

  Raises:
    ValueError: wrong dtype or shape, fewer than 2 frames, or frames too small for SSIM.
  """
  if video_THWC.dtype != np.uint8 or video_THWC.ndim != 4 or video_THWC.shape[-1] != 3:
    raise ValueError(
      f"a video must be uint8 (T, H, W, 3), got {video_THWC.dtype} of shape {video_THWC.shape}"
    )
  if len(video_THWC) < 2:
    raise ValueError("a video of 1 frame does not move: at least 2 frames are needed")
  difference = float(np.mean([_mean_difference(a, b) for a, b in itertools.pairwise(video_THWC)]))
  record = VideoRecord(difference, (255 - difference) / 255, float(difference < STATIC_BELOW))
  if given_HWC is None:
    return record
  return dataclasses.replace(
    record,
    first_frame_psnr=psnr(video_THWC[0], given_HWC),
    first_frame_ssim=ssim(video_THWC[0], given_HWC),
  )


def aggregate(
  records: Sequence[VideoRecord], groups_N: np.ndarray | None = None
) -> dict[str, Estimate]:
  """Means over videos with 95 % intervals, by the names of `UNITS`.

  Args:
    records: of N videos; all or none were compared with a given frame.
    groups_N: groups that are not independent (`vidjax.metrics.groups.groups_of`); None for
      independent videos. Without groups the share of static videos has Wilson's interval, which
      does not shrink to nothing at shares of 0 and 1.

  Raises:
    ValueError: no records, or some lack what others have.
  """
  if not records:
    raise ValueError("there are no videos to take a mean of")
  found = {}
  for name, unit in UNITS.items():
    column = [getattr(record, name) for record in records]
    missing = sum(value is None for value in column)
    if missing == len(column):
      continue
    if missing:
      raise ValueError(f"{name}: {missing} of {len(column)} videos lack it, all or none must")
    if name == "static" and groups_N is None:
      found[name] = _share(int(sum(column)), len(column), unit)
    else:
      low, high = _BOUNDS[name]
      found[name] = mean_of(np.array(column), unit, groups_N, low, high)
  return found


def psnr(frame_HWC: np.ndarray, given_HWC: np.ndarray) -> float:
  """Peak signal-to-noise ratio of two uint8 frames: 20 log10(255 / rms difference), in decibels.

  Above `PSNR_AT_MOST` it is that: equal frames would make a mean infinite.

  Raises:
    ValueError: the frames are not uint8 of one shape.
  """
  _check_pair(frame_HWC, given_HWC)
  square = float(np.square(frame_HWC.astype(np.float64) - given_HWC).mean())
  return min(10 * math.log10(255**2 / square), PSNR_AT_MOST) if square else PSNR_AT_MOST


def ssim(frame_HWC: np.ndarray, given_HWC: np.ndarray) -> float:
  """Structural similarity of two uint8 frames, Wang et al. (2004) eq. 13, mean over RGB channels.

  Gaussian 11 x 11 window of sigma 1.5, K1 = 0.01, K2 = 0.03, L = 255, weighted moments without a
  sample correction, and only windows that lie inside of the frame, all as there.

  Raises:
    ValueError: the frames are not uint8 of one shape, or are smaller than the window.
  """
  _check_pair(frame_HWC, given_HWC)
  if min(frame_HWC.shape[:2]) < _WINDOW:
    raise ValueError(
      f"frames of {frame_HWC.shape[0]} x {frame_HWC.shape[1]} pixels are too small for SSIM, whose"
      f" window is {_WINDOW} x {_WINDOW}"
    )
  x_HWC, y_HWC = frame_HWC.astype(np.float64), given_HWC.astype(np.float64)
  mean_x, mean_y = _blurred(x_HWC), _blurred(y_HWC)
  var_x = _blurred(x_HWC * x_HWC) - mean_x * mean_x
  var_y = _blurred(y_HWC * y_HWC) - mean_y * mean_y
  covariance = _blurred(x_HWC * y_HWC) - mean_x * mean_y
  c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
  luminance = (2 * mean_x * mean_y + c1) / (mean_x * mean_x + mean_y * mean_y + c1)
  return float((luminance * (2 * covariance + c2) / (var_x + var_y + c2)).mean())


def _blurred(x_HWC: np.ndarray) -> np.ndarray:
  """Gaussian means of the windows that lie inside."""
  weights = np.exp(-np.square((np.arange(_WINDOW) - _WINDOW // 2) / _SIGMA) / 2)
  weights /= weights.sum()
  for axis in (0, 1):
    size = x_HWC.shape[axis] - _WINDOW + 1
    shifted = (x_HWC.take(range(i, i + size), axis) for i in range(_WINDOW))
    x_HWC = np.sum([w * part for w, part in zip(weights, shifted, strict=True)], axis=0)
  return x_HWC


def _mean_difference(a_HWC: np.ndarray, b_HWC: np.ndarray) -> float:
  return float(np.abs(a_HWC.astype(np.int16) - b_HWC).mean())


def _share(hits: int, n: int, unit: str) -> Estimate:
  """Wilson's score interval of a share (Wilson 1927)."""
  share, z2 = hits / n, _Z95**2
  centre = (share + z2 / (2 * n)) / (1 + z2 / n)
  half = _Z95 * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
  low, high = (0.0 if hits == 0 else centre - half), (1.0 if hits == n else centre + half)
  return Estimate(share, low, high, unit)


def _check_pair(frame_HWC: np.ndarray, given_HWC: np.ndarray) -> None:
  for x in (frame_HWC, given_HWC):
    if x.dtype != np.uint8 or x.ndim != 3:
      raise ValueError(f"a frame must be uint8 (H, W, 3), got {x.dtype} of shape {x.shape}")
  if frame_HWC.shape != given_HWC.shape:
    raise ValueError(
      f"the first frame is {frame_HWC.shape} and the given one {given_HWC.shape}: resize the given"
      " frame as it was for the model"
    )
