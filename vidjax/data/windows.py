"""Windows: which moments of a clip make one training sample.

Two kinds: a grid of moments in time, and every n-th frame. A window starts anywhere in the clip.
What a moment shows is the last frame at or before it (`vidjax.data.video`), so that a clip of any
frame rate, also a variable one, is seen in true time. The windows of a clip that is shorter than
the grid, or has fewer frames in a second, would hold frozen frames: such a clip is not used.

Legend: N clips, T frames.
"""

import dataclasses

import numpy as np

from vidjax.data.clip import Clip, Listing

_TOLERANCE_S = 1e-4  # frame rates are stored as float32
_LOWEST_RATE = 0.9  # of the window's; mean rates of variable ones come out a little low


@dataclasses.dataclass(frozen=True)
class WindowGrid:
  """`num_frames` moments at `fps` frames per second."""

  num_frames: int
  fps: float

  @property
  def span_s(self) -> float:
    """Seconds from the first moment to the last: 3.75 for 16 frames at 4 fps, 0 for an image."""
    return (self.num_frames - 1) / self.fps

  @property
  def needs(self) -> str:
    """What a clip needs, for messages."""
    return f"{self.num_frames} frames at {self.fps:g} fps, which needs {self.span_s:g} s"

  def fits(self, listing: Listing) -> np.ndarray:
    """(N,) bool: whether a clip holds a window. One that cannot be read does not."""
    long_enough = listing.durations_s >= self.span_s - _TOLERANCE_S
    if self.num_frames == 1:
      return long_enough
    still = np.isinf(listing.durations_s)  # a picture: all frames would be the same
    return long_enough & ~still & (listing.fps >= _LOWEST_RATE * self.fps)

  def place(self, clip: Clip, fraction: float) -> tuple[np.ndarray, float]:
    """Moments of a window, in seconds from the clip's first frame, and its frames per second.

    Args:
      clip: one that fits.
      fraction: in [0, 1), of the way from the earliest start to the latest.
    """
    slack_s = 0.0 if np.isinf(clip.duration_s) else clip.duration_s - self.span_s
    assert slack_s >= -2 * _TOLERANCE_S, f"{clip.duration_s=} is shorter than {self.span_s=}"
    return fraction * max(0.0, slack_s) + np.arange(self.num_frames) / self.fps, self.fps


@dataclasses.dataclass(frozen=True)
class StrideGrid:
  """`num_frames` frames of the clip, each `stride`-th one, whatever its frame rate is."""

  num_frames: int
  stride: int

  @property
  def needs(self) -> str:
    """What a clip needs, for messages."""
    return f"{self.num_frames} frames at a stride of {self.stride}"

  def fits(self, listing: Listing) -> np.ndarray:
    """(N,) bool: whether a clip has enough frames."""
    readable = ~np.isnan(listing.durations_s)
    if self.num_frames == 1:
      return readable
    readable &= ~np.isinf(listing.durations_s)
    frames = np.where(readable, listing.durations_s, 0.0) * np.where(readable, listing.fps, 0.0)
    return readable & (np.round(frames) >= self._span + 1)

  def place(self, clip: Clip, fraction: float) -> tuple[np.ndarray, float]:
    """Like `WindowGrid.place`; the moments are time stamps of frames.

    Raises:
      ValueError: the clip has fewer frames than its data set said.
    """
    times_s = clip.times_s()
    starts = len(times_s) - self._span
    if starts < 1:
      raise ValueError(f"the clip has {len(times_s)} frames, a window takes {self._span + 1}")
    moments_s = times_s[int(fraction * starts) :: self.stride][: self.num_frames]
    span_s = moments_s[-1] - moments_s[0] if self.num_frames > 1 else clip.duration_s
    intervals = self.num_frames - 1 if self.num_frames > 1 else len(times_s) / self.stride
    return moments_s, float(intervals / span_s) if 0 < span_s < np.inf else 1.0

  @property
  def _span(self) -> int:
    return (self.num_frames - 1) * self.stride


Grid = WindowGrid | StrideGrid
