"""Motion of a clip: optical flow at 2 fps on frames whose shorter side is 16 pixels, summed up.

Stable Video Diffusion, appendix C: Farneback flow, two frames per second, stored at a shorter side
of 16; the score is its mean magnitude over time and space. The maps themselves are not kept, but
what is asked of them: how still a clip is, and how the camera pans and zooms (SVD's camera LoRAs
are trained on sets of one camera motion each). Shake is of a higher frequency than 2 fps shows, and
is measured from frame to frame.

Legend: T frames, H W pixels, C channels; 2 is (x, y). Lengths are pixels at a shorter side of 16.
"""

from collections.abc import Callable
import itertools

import cv2
import numpy as np

from data_pipelines import signals

FLOW_FPS = 2.0
STATIC_SPEED = 0.1  # below it nothing moves that can be seen
_SMOOTH_S = 0.5


def motion_scores(
  tiny_THWC: np.ndarray,
  times_s: np.ndarray,
  start_s: float,
  end_s: float,
  alive: Callable[[], None] = lambda: None,
) -> dict[str, float]:
  """Flow statistics of a span.

  Args:
    tiny_THWC: (T, H, W, 3) uint8 frames of the source, shorter side 16.
    times_s: (T,) their times.
    start_s: Start of the span.
    end_s: End, exclusive.
    alive: Called for each pair.

  Returns:
    Of the pairs of frames at 2 fps, in pixels per second: `motion_score` (mean magnitude over time
    and space), `motion_std` and `motion_max` (over pairs); `motion_pan_x` and `motion_pan_y` (mean
    over time of the median over space: where the picture moves as a whole, right and down);
    `motion_static` (share of pairs in which nothing moves). Of all frames, see `camera_path`:
    `motion_zoom` (logarithm of how much things grow per second: 0.1 is ten percent) and
    `motion_shake`. Empty where the span holds fewer than two points of the grid.
  """
  grid_s = np.arange(start_s, end_s - 1e-3, 1 / FLOW_FPS)
  if len(grid_s) < 2:
    return {}
  # The frame shown at each grid point: the last one whose time is not later.
  picked = np.searchsorted(times_s, grid_s + 1e-4, side="right") - 1
  gray = [cv2.cvtColor(tiny_THWC[i], cv2.COLOR_RGB2GRAY) for i in picked]
  flows = []
  for before_HW, after_HW in itertools.pairwise(gray):
    flows.append(signals.farneback(before_HW, after_HW))
    alive()
  flows_PHW2 = FLOW_FPS * np.stack(flows)
  speeds_P = np.linalg.norm(flows_PHW2, axis=-1).mean((1, 2))
  pan_2 = np.median(flows_PHW2, axis=(1, 2)).mean(0)
  inside = slice(*np.searchsorted(times_s, (start_s - 1e-4, end_s - 1e-4)))
  path_T3, path_s = camera_path(tiny_THWC[inside]), times_s[inside]
  return {
    "motion_score": float(speeds_P.mean()),
    "motion_std": float(speeds_P.std()),
    "motion_max": float(speeds_P.max()),
    "motion_static": float((speeds_P < STATIC_SPEED).mean()),
    "motion_pan_x": float(pan_2[0]),
    "motion_pan_y": float(pan_2[1]),
    "motion_zoom": float(path_T3[-1, 2] / max(path_s[-1] - path_s[0], 1e-6)),
    "motion_shake": shake(path_T3[:, :2], path_s),
  }


def shake(path_T2: np.ndarray, times_s: np.ndarray) -> float:
  """How far the camera trembles: RMS distance of its path from the same path smoothed over 0.5 s.

  A steady pan has none.

  Args:
    path_T2: (T, 2) where the picture is.
    times_s: (T,) when.

  Returns:
    Pixels at a shorter side of 16 (0.16 is one percent of it); 0 for fewer than three frames.
  """
  if len(path_T2) < 3:
    return 0.0
  count = max(3, round(_SMOOTH_S * (len(times_s) - 1) / max(times_s[-1] - times_s[0], 1e-6))) | 1
  count = min(count, (len(path_T2) - 1) | 1)
  reach = count // 2
  # A path mirrored at the point where it ends goes on as it went, so that a pan stays straight.
  before_R2 = 2 * path_T2[0] - path_T2[reach:0:-1]
  after_R2 = 2 * path_T2[-1] - path_T2[-2 : -2 - reach : -1]
  sums_2 = np.cumsum(np.concatenate([np.zeros((1, 2)), before_R2, path_T2, after_R2]), axis=0)
  smooth_T2 = (sums_2[count:] - sums_2[:-count]) / count
  return float(np.sqrt(np.square(path_T2 - smooth_T2).sum(-1).mean()))


def camera_path(tiny_THWC: np.ndarray) -> np.ndarray:
  """Where the picture as a whole is in each frame, and how large.

  From frame to frame a shift and a zoom, the least-squares solution of the brightness constancy
  equation (Lucas and Kanade 1981, one window, linear: right up to about a pixel a frame), added up.

  Args:
    tiny_THWC: (T, H, W, 3) uint8 frames of one shot.

  Returns:
    (T, 3) float64: right, down, and the logarithm of the size.
  """
  if len(tiny_THWC) < 2:
    return np.zeros((len(tiny_THWC), 3))
  gray_THW = tiny_THWC.astype(np.float32).mean(-1)
  middle_SHW = (gray_THW[1:] + gray_THW[:-1]) / 2
  change_SN = (gray_THW[1:] - gray_THW[:-1]).reshape(len(middle_SHW), -1)
  dy_SHW, dx_SHW = np.gradient(middle_SHW, axis=(1, 2))
  y_H1, x_W = (np.arange(n, dtype=np.float32) - (n - 1) / 2 for n in gray_THW.shape[1:])
  moved_SN3 = np.stack([dx_SHW, dy_SHW, dx_SHW * x_W + dy_SHW * y_H1[:, None]], axis=-1)
  moved_SN3 = moved_SN3.reshape(*change_SN.shape, 3)
  # A flat picture does not tell how it moved: it is taken to stand still.
  flat_3 = change_SN.shape[1] * np.array([1.0, 1.0, np.square(x_W).mean() + np.square(y_H1).mean()])
  products_S33 = np.einsum("sni,snj->sij", moved_SN3, moved_SN3) + np.diag(flat_3)
  sides_S31 = -np.einsum("sni,sn->si", moved_SN3, change_SN)[..., None]
  steps_S3 = np.linalg.solve(products_S33, sides_S31)[..., 0]
  return np.concatenate([np.zeros((1, 3)), np.cumsum(steps_S3, axis=0)])
