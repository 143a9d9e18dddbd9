"""Windows: which moments of a clip make one training sample.

A window is a grid of `num_frames` moments, 1 / `fps` seconds apart, that starts anywhere in the
clip. What a moment shows is the last frame at or before it (`vidjax.data.video`), so that a clip
of any frame rate, also a variable one, is seen in true time. The windows of a clip shorter than
the grid would hold frozen frames at the end: such a clip is not used.

Legend: T frames.
"""

import dataclasses

import numpy as np

_TOLERANCE_S = 1e-4  # frame rates are stored as float32


@dataclasses.dataclass(frozen=True)
class WindowGrid:
  """`num_frames` moments at `fps` frames per second."""

  num_frames: int
  fps: float

  @property
  def span_s(self) -> float:
    """Seconds from the first moment to the last: 3.75 for 16 frames at 4 fps, 0 for an image."""
    return (self.num_frames - 1) / self.fps

  def fits(self, duration_s: np.ndarray | float) -> np.ndarray | bool:
    """Whether clips of these durations (seconds) hold a window."""
    return duration_s >= self.span_s - _TOLERANCE_S

  def start_s(self, duration_s: float, fraction: float) -> float:
    """Start of a window, `fraction` in [0, 1) of the way from the earliest to the latest start."""
    assert self.fits(duration_s), f"{duration_s=} is shorter than {self.span_s=}"
    return fraction * max(0.0, duration_s - self.span_s)

  def moments(self, start_s: float) -> np.ndarray:
    """Moments of the window that starts at `start_s`, in seconds of the clip, float64."""
    return start_s + np.arange(self.num_frames) / self.fps
