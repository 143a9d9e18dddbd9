"""Encoding of frames as mp4 (H.264) through PyAV, the same bytes for the same frames.

Legend: T frames, H W pixels, C channels (RGB).
"""

from collections.abc import Iterable
import fractions
import math
import tempfile
from typing import Any

import av
from av.video.frame import PictureType
from av.video.reformatter import Colorspace
import numpy as np

from vidjax import storage

# 90 kHz holds the frame times of every usual rate (24, 25, 29.97, 30, 50, 59.94, 60) exactly.
_TIME_BASE = fractions.Fraction(1, 90_000)
_TIME_TOLERANCE_S = 1e-4


def encode_mp4(
  frames: Iterable[np.ndarray],
  times_s: Iterable[float],
  *,
  crf: int = 18,
  preset: str = "medium",
  key_frame_every_s: float = 1.0,
) -> bytes:
  """Encodes frames as `encode_timed` does.

  Args:
    frames: (H, W, 3) uint8 RGB each, all of one size.
    times_s: Start of each frame in seconds, ascending.
    crf: x264's quality, 0 (lossless) to 51.
    preset: x264's preset; slower is smaller.
    key_frame_every_s: Longest time between key frames: what a random access has to decode at most.

  Returns:
    The mp4 file.
  """
  timed = zip(times_s, frames, strict=True)
  return encode_timed(timed, crf=crf, preset=preset, key_frame_every_s=key_frame_every_s)


def encode_timed(
  frames: Iterable[tuple[float, np.ndarray | av.VideoFrame]],
  *,
  crf: int = 18,
  preset: str = "medium",
  key_frame_every_s: float = 1.0,
) -> bytes:
  """Encodes (start in seconds, frame) pairs as H.264 yuv420p in an mp4 whose index comes first.

  Uses one thread and writes no dates, so equal frames give equal bytes. Frame times are kept,
  variable rates included. Odd sizes, which 4:2:0 colour cannot hold, gain a repeated row or column.
  Arguments as in `encode_mp4`; a frame may also come as `upright.yuv420` makes it, which saves
  the way through RGB.

  Raises:
    ValueError: no frames.
  """
  # Fast start rewrites the file in a second pass, for which FFmpeg needs a real one.
  with tempfile.TemporaryDirectory(prefix="vidjax-mp4-") as folder:
    name = f"{folder}/clip.mp4"
    options = {"movflags": "+faststart", "fflags": "+bitexact"}
    with av.open(name, "w", format="mp4", options=options) as container:
      stream = None
      last_key_s = -math.inf
      previous = None
      previous_pts = 0
      for time_s, frame in frames:
        picture = frame if isinstance(frame, av.VideoFrame) else _as_420(frame)
        if stream is None:
          stream = _x264_stream(container, picture, crf, preset)
        picture.pict_type = PictureType.NONE  # what it was elsewhere is no order to the encoder
        pts = round(time_s / _TIME_BASE)
        picture.pts = pts
        picture.time_base = _TIME_BASE
        if time_s - last_key_s >= key_frame_every_s - _TIME_TOLERANCE_S:
          picture.pict_type = PictureType.I
          last_key_s = time_s
        if previous is not None:
          previous.duration = pts - previous_pts
          container.mux(stream.encode(previous))
          picture.duration = previous.duration
        previous, previous_pts = picture, pts
      if stream is None or previous is None:
        raise ValueError("a video needs at least one frame")
      packets = [*stream.encode(previous), *stream.encode(None)]
      # The last packet loses its duration inside x264, and with it the file its length and rate.
      packets[-1].duration = previous.duration or round(1 / _TIME_BASE)
      container.mux(packets)
    return storage.Path(name).read_bytes()


def write_mp4(path: Any, video_THWC: np.ndarray, fps: float, crf: int = 18) -> None:
  """Writes frames as an mp4 that browsers and players open, local or remote.

  Args:
    path: Where to; an existing file is replaced only when the new one is whole.
    video_THWC: (T, H, W, 3) uint8 RGB.
    fps: Frames per second.
    crf: x264's quality, smaller is better.
  """
  if video_THWC.dtype != np.uint8 or video_THWC.ndim != 4 or video_THWC.shape[-1] != 3:
    raise ValueError(f"video must be uint8 (T, H, W, 3), got {video_THWC.dtype} {video_THWC.shape}")
  frames = ((i / fps, frame_HWC) for i, frame_HWC in enumerate(video_THWC))
  storage.write_bytes(path, encode_timed(frames, crf=crf))


def _as_420(frame_HWC: np.ndarray) -> av.VideoFrame:
  return av.VideoFrame.from_ndarray(_pad_to_even(frame_HWC), "rgb24").reformat(
    format="yuv420p", dst_colorspace="ITU601", dst_color_range="MPEG", threads=1
  )


def _x264_stream(container: Any, picture: av.VideoFrame, crf: int, preset: str) -> Any:
  options = {
    "crf": str(crf),
    "preset": preset,
    "threads": "1",
    "forced-idr": "1",
    # Macroblock trees save a sixth of the bytes, but with x264's vector code equal frames give
    # other bytes each time at some sizes (64x96 and 128x192 among them).
    "mbtree": "0",
    # Training shows every sixth frame or so, and three of four frames stored so are of use to no
    # other: whoever does not show them need not decode them. With the simple entropy code, windows
    # are read in half the time for 6 % more bytes (benchmarks/results/video_input.md).
    "bf": "3",
    "b_strategy": "0",
    "b-pyramid": "none",
    "coder": "cavlc",
  }
  stream = container.add_stream("libx264", rate=None, options=options)
  context = stream.codec_context
  context.height, context.width = picture.height, picture.width
  context.pix_fmt = "yuv420p"
  context.time_base = stream.time_base = _TIME_BASE
  context.gop_size = 600  # Key frames are forced by time, which also fits variable rates.
  context.thread_count = 1
  # Say which matrix was used: players guess differently where a file is silent.
  is_709 = picture.colorspace == Colorspace.ITU709
  context.colorspace = 1 if is_709 else 6  # BT.709, or SMPTE 170M: 4:2:0 of BT.601
  context.color_range = 1  # limited
  return stream


def _pad_to_even(frame_HWC: np.ndarray) -> np.ndarray:
  height, width = frame_HWC.shape[:2]
  return np.pad(frame_HWC, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
