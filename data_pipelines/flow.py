"""Motion of a clip: mean optical flow at 2 fps on frames whose shorter side is 16 pixels.

Stable Video Diffusion, appendix C: Farneback flow, two frames per second, stored at a shorter side
of 16; the score is its mean magnitude over time and space.
"""

import itertools

import cv2
import numpy as np

from data_pipelines import signals

FLOW_FPS = 2.0


def motion_scores(
  tiny_THWC: np.ndarray, times_s: np.ndarray, start_s: float, end_s: float
) -> dict[str, float]:
  """Flow statistics of a span.

  Args:
    tiny_THWC: (T, H, W, 3) uint8 frames of the source, shorter side 16.
    times_s: (T,) their times.
    start_s: Start of the span.
    end_s: End, exclusive.

  Returns:
    `motion_score` (mean magnitude), `motion_std` (over pairs) and `motion_max` (largest pair), all
    in pixels per second; empty where the span holds fewer than two grid points.
  """
  grid_s = np.arange(start_s, end_s - 1e-3, 1 / FLOW_FPS)
  if len(grid_s) < 2:
    return {}
  # The frame shown at each grid point: the last one whose time is not later.
  picked = np.searchsorted(times_s, grid_s + 1e-4, side="right") - 1
  gray = [cv2.cvtColor(tiny_THWC[i], cv2.COLOR_RGB2GRAY) for i in picked]
  speeds = []
  for first_HW, second_HW in itertools.pairwise(gray):
    flow_HW2 = signals.farneback(first_HW, second_HW)
    speeds.append(float(np.linalg.norm(flow_HW2, axis=-1).mean()) * FLOW_FPS)
  return {
    "motion_score": float(np.mean(speeds)),
    "motion_std": float(np.std(speeds)),
    "motion_max": float(np.max(speeds)),
  }
