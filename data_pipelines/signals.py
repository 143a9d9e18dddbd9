"""The one decode pass: everything that later stages want to know about a video's frames.

Decoding is what curation costs, so each source is decoded once, and cut detection, flow, hashes and
the report all work on what is kept here: small frames and a few numbers.

Legend: T frames, H W pixels, C channels (RGB).
"""

from collections.abc import Callable
import dataclasses
import math
from typing import Any

from av.video.reformatter import VideoReformatter
import cv2
import numpy as np

from data_pipelines import ingest
from vidjax.data import upright, video

SMALL_SIDE = 64  # shorter side of the frames that cuts are judged on
TINY_SIDE = 16  # and of those that are kept for dissolves, flow and hashes (SVD, appendix C)
_MAX_STRIP = 48
_MP4_CODECS = ("h264", "hevc", "libdav1d", "av1", "vp9", "libvpx-vp9", "mpeg4")
_UNTIMED = ("avi", "h264", "hevc", "m4v")  # their packets have numbers, or nothing
# A small frame's longer side, and OpenCV's functions for pictures end at 32767.
_MAX_ASPECT = 32_000 / SMALL_SIDE
# Below this mean change a frame is never a cut, so the costlier comparisons are skipped.
_CANDIDATE_DIFFERENCE = 4.0


@dataclasses.dataclass(frozen=True)
class Jump:
  """How a frame differs from the one before, where they differ enough to matter.

  Attributes:
    correlation: Best normalised correlation over small shifts; near 1 for the same scene, moved.
    unexplained: What remains of the difference when the flow between the frames is undone; near 1
      for new content, below about 0.6 for motion.
    beyond_gain: What remains when one gain and offset are undone; small for a change of light.
  """

  correlation: float
  unexplained: float
  beyond_gain: float


@dataclasses.dataclass
class Signals:
  """What the pass over one video found.

  Attributes:
    times_s: (T,) float64 presentation times from the first frame on.
    end_s: When the last frame ends.
    difference: (T,) float32 mean absolute RGB difference to the previous frame; 0 for the first.
    detail: (T,) float32 fine structure of each frame: mean square of its Laplacian.
    jumps: Closer comparison at frames that differ much, by frame number.
    tiny: (T, 16 or more, 16 or more, 3) uint8 frames with a shorter side of 16, upright.
    strip: (time, frame) of up to 48 small frames, evenly spread, for the report.
    width: Displayed width, after rotation and pixel aspect.
    height: Displayed height.
    rotation: Degrees, as the container states it.
    fps: Frame rate that the container announces.
    key_frames: Frames at which decoding can begin.
    copyable: Whether the packets can be stored as they are, see `copyable`.
    damaged: Frames that the decoder had to make up in part.
    errors: What the decoder complained about.
    frames_expected: What the container announces.
  """

  times_s: np.ndarray
  end_s: float
  difference: np.ndarray
  detail: np.ndarray
  jumps: dict[int, Jump]
  tiny: np.ndarray
  strip: list[tuple[float, np.ndarray]]
  width: int
  height: int
  rotation: int
  fps: float
  key_frames: list[int]
  copyable: bool
  damaged: list[int]
  errors: list[str]
  frames_expected: int | None

  @property
  def num_frames(self) -> int:
    """Frames decoded."""
    return len(self.times_s)


def read_signals(
  path: str, on_frame: Callable[[], None] | None = None, max_gap_s: float = math.inf
) -> Signals:
  """Decodes a local video once.

  Args:
    path: A local file.
    on_frame: Called for each frame.
    max_gap_s: A frame that is shown for longer, or follows later, ends the video as an error does:
      its time stamps lie.

  Raises:
    video.NoVideoError: no video stream, or one of an absurd shape.
    av.error.FFmpegError: it cannot be opened at all.
  """
  times_s, difference, detail, strip = [], [], [], []
  tiny = _Frames()
  jumps: dict[int, Jump] = {}
  previous = None
  damaged, key_frames, jumped = [], [], []
  end_s = 0.0
  strip_step = 1
  width = height = rotation = 0
  reformatter = VideoReformatter()
  with video.FrameReader(path) as reader:
    expected = ingest.announced_frames(reader)
    for frame in reader:
      if frame.index == 0:
        width, height = upright.size_of(frame.picture, reader.stream)
        rotation = frame.picture.rotation
        _check_aspect(width, height)
      later_s = frame.time_s - (times_s[-1] if times_s else 0.0)
      gap_s = max(later_s, reader.end_of_last_s - frame.time_s)
      if gap_s > max_gap_s:
        at = f"time stamps jump by {gap_s:.4g} s at frame {frame.index}"
        jumped = [f"{at}, more than ingest.max_gap_seconds={max_gap_s:g}"]
        break
      end_s = reader.end_of_last_s
      size = _scaled(width, height, SMALL_SIDE)
      small_HWC = upright.rgb(frame.picture, reader.stream, size, reformatter)
      change = 0.0
      if previous is not None:
        change = float(cv2.absdiff(small_HWC, previous).mean())
        if change >= _CANDIDATE_DIFFERENCE:
          jumps[frame.index] = _compare(previous, small_HWC)
      if frame.picture.key_frame:
        key_frames.append(frame.index)
      if frame.picture.is_corrupt:
        damaged.append(frame.index)
      times_s.append(frame.time_s)
      difference.append(change)
      small_HW = cv2.cvtColor(small_HWC, cv2.COLOR_RGB2GRAY)
      detail.append(float(np.square(cv2.Laplacian(small_HW, cv2.CV_32F)).mean()))
      tiny_size = _scaled(width, height, TINY_SIDE)
      tiny.append(cv2.resize(small_HWC, tiny_size, interpolation=cv2.INTER_AREA))
      if frame.index % strip_step == 0:
        strip.append((frame.time_s, small_HWC))
        if len(strip) > _MAX_STRIP:
          strip, strip_step = strip[::2], strip_step * 2
      previous = small_HWC
      if on_frame:
        on_frame()
    errors = reader.errors + (jumped or ingest.missing_part(reader, path))
    can_copy = copyable(reader.container, reader.stream)
    fps = video.announced_fps(reader.stream)
  return Signals(
    times_s=np.asarray(times_s, np.float64),
    end_s=end_s,
    difference=np.asarray(difference, np.float32),
    detail=np.asarray(detail, np.float32),
    jumps=jumps,
    tiny=tiny.all(),
    strip=strip,
    width=width,
    height=height,
    rotation=rotation,
    fps=fps,
    key_frames=key_frames,
    copyable=can_copy,
    damaged=damaged,
    errors=errors,
    frames_expected=expected,
  )


class _Frames:
  """Frames of one size, one after the other in memory: a film has hundreds of thousands of them."""

  def __init__(self):
    self._frames = np.zeros((0, TINY_SIDE, TINY_SIDE, 3), np.uint8)
    self._count = 0

  def append(self, frame_HWC: np.ndarray) -> None:
    """Adds a frame."""
    if self._count == len(self._frames):
      # The system moves large arrays without copying them.
      self._frames.resize((self._count * 9 // 8 + 256, *frame_HWC.shape), refcheck=False)
    self._frames[self._count] = frame_HWC
    self._count += 1

  def all(self) -> np.ndarray:
    """(T, H, W, 3), all of them."""
    return self._frames[: self._count]


def copyable(container: Any, stream: Any) -> bool:
  """Whether an mp4 can hold the packets of a stream, and they say when they are shown."""
  return stream.codec_context.name in _MP4_CODECS and container.format.name not in _UNTIMED


def _check_aspect(width: int, height: int) -> None:
  if max(width, height) > _MAX_ASPECT * min(width, height):
    raise video.NoVideoError(
      f"its pictures are {width}x{height}: one side is more than {_MAX_ASPECT:g} times the other"
    )


def _scaled(width: int, height: int, side: int) -> tuple[int, int]:
  scale = side / min(width, height)
  return max(1, round(width * scale)), max(1, round(height * scale))


def _compare(before_HWC: np.ndarray, after_HWC: np.ndarray) -> Jump:
  before_HW = cv2.cvtColor(before_HWC, cv2.COLOR_RGB2GRAY)
  after_HW = cv2.cvtColor(after_HWC, cv2.COLOR_RGB2GRAY)
  raw = max(float(cv2.absdiff(before_HWC, after_HWC).mean()), 1e-6)
  return Jump(
    correlation=_shift_correlation(before_HW, after_HW),
    unexplained=_warp_residual(before_HWC, before_HW, after_HWC, after_HW) / raw,
    beyond_gain=_gain_residual(before_HWC, after_HWC) / raw,
  )


def _shift_correlation(before_HW: np.ndarray, after_HW: np.ndarray) -> float:
  margin = round(0.15 * min(before_HW.shape))
  template_HW = before_HW[margin:-margin, margin:-margin]
  if template_HW.std() < 1 or after_HW.std() < 1:
    return 0.0  # A flat frame correlates with nothing; the formula would divide by zero.
  return float(cv2.matchTemplate(after_HW, template_HW, cv2.TM_CCOEFF_NORMED).max())


def _warp_residual(
  before_HWC: np.ndarray, before_HW: np.ndarray, after_HWC: np.ndarray, after_HW: np.ndarray
) -> float:
  flow_HW2 = farneback(after_HW, before_HW)
  height, width = after_HW.shape
  x_HW, y_HW = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
  warped_HWC = cv2.remap(
    before_HWC,
    x_HW + flow_HW2[..., 0],
    y_HW + flow_HW2[..., 1],
    cv2.INTER_LINEAR,
    borderMode=cv2.BORDER_REPLICATE,
  )
  return float(cv2.absdiff(warped_HWC, after_HWC).mean())


def _gain_residual(before_HWC: np.ndarray, after_HWC: np.ndarray) -> float:
  before, after = before_HWC.astype(np.float32).ravel(), after_HWC.astype(np.float32).ravel()
  before -= before.mean()
  after -= after.mean()
  gain = float(before @ after) / max(float(before @ before), 1e-6)
  return float(np.abs(after - gain * before).mean())


def farneback(first_HW: np.ndarray, second_HW: np.ndarray) -> np.ndarray:
  """Dense flow from the first gray frame to the second, (H, W, 2) pixels.

  OpenCV's usual settings, which are also video2dataset's, the tool behind SVD's data.
  """
  return cv2.calcOpticalFlowFarneback(
    first_HW,
    second_HW,
    None,  # type: ignore[arg-type]
    pyr_scale=0.5,
    levels=3,
    winsize=15,
    iterations=3,
    poly_n=5,
    poly_sigma=1.2,
    flags=0,
  )
