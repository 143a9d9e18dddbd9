"""Decoded frames as a player shows them: rotated or mirrored as the container asks, square pixels.

Legend: H W pixels, C channels (RGB).
"""

from typing import Any

import av
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter
import numpy as np

from vidjax.data import limits

# Those of standard and of high definition; where nothing is said it is taken for the former.
_COMMON_MATRICES = (1, 2, 5, 6)  # BT.709, unspecified, BT.470BG, SMPTE 170M (H.273, table 4)


def size_of(picture: av.VideoFrame, stream: Any) -> tuple[int, int]:
  """Width and height in square pixels, as shown."""
  # A container that was opened without analysis leaves to the decoder what the stream itself says.
  aspect = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio or 1
  width, height = max(1, round(picture.width * aspect)), picture.height
  limits.check("the video", height, width, limits.NoVideoError)
  return (height, width) if _orientation(picture)[0] else (width, height)


def rgb(
  picture: av.VideoFrame,
  stream: Any,
  size: tuple[int, int] | None = None,
  reformatter: VideoReformatter | None = None,
) -> np.ndarray:
  """Converts a decoded frame to what a player shows, in one pass.

  Shrinking averages over areas, growing is bicubic.

  Args:
    picture: The frame.
    stream: Its stream, for the shape of a pixel.
    size: (width, height) to scale to, upright; None keeps the upright size.
    reformatter: Keeps its tables from frame to frame.

  Returns:
    (H, W, 3) uint8 RGB, contiguous.
  """
  size = size or size_of(picture, stream)
  rgb_HWC = rgb_view(picture, stream, size, reformatter or VideoReformatter())
  return np.ascontiguousarray(rgb_HWC)


def yuv420(
  picture: av.VideoFrame, stream: Any, size: tuple[int, int], reformatter: VideoReformatter
) -> av.VideoFrame | np.ndarray:
  """A decoded frame as H.264 stores it, for `mp4.encode_timed`: scaled without the way through RGB.

  Args:
    picture: The frame.
    stream: Its stream, for the shape of a pixel.
    size: (width, height) to scale to, upright, both even.
    reformatter: Keeps its tables from frame to frame.

  Returns:
    yuv420p, limited range, BT.601 or BT.709 as the source; RGB as of `rgb` where that does
    not do: the frame is turned or mirrored, or its colours are others.
  """
  limited = picture.color_range != ColorRange.JPEG
  if any(_orientation(picture)) or not limited or picture.colorspace not in _COMMON_MATRICES:
    return rgb_view(picture, stream, size, reformatter)
  width, height = size
  shrinks = height <= size_of(picture, stream)[1]
  method = Interpolation.AREA if shrinks else Interpolation.BICUBIC
  # Without it everything ends up a little darker.
  method |= Interpolation.ACCURATE_RND
  return reformatter.reformat(picture, width, height, "yuv420p", interpolation=method, threads=1)


def rgb_view(
  picture: av.VideoFrame, stream: Any, size: tuple[int, int], reformatter: VideoReformatter
) -> np.ndarray:
  """`rgb` as a view; `reformatter` keeps its tables from frame to frame."""
  transpose, flip_x, flip_y = _orientation(picture)
  width, height = size
  method = "AREA" if height <= size_of(picture, stream)[1] else "BICUBIC"
  if transpose:
    width, height = height, width
  # The scaler's packed RGB halves the colours' resolution and takes twice the time of its planar
  # RGB; without scaling packed RGB is the fast one, and planar RGB wrong at some widths.
  scaled = (width, height) != (picture.width, picture.height)
  layout = "gbrp" if scaled else "rgb24"
  frame = reformatter.reformat(picture, width, height, layout, interpolation=method, threads=1)
  frame_HWC = frame.to_ndarray()
  if transpose:
    frame_HWC = frame_HWC.transpose(1, 0, 2)
  if flip_x:
    frame_HWC = frame_HWC[:, ::-1]
  if flip_y:
    frame_HWC = frame_HWC[::-1]
  return frame_HWC


def _orientation(picture: av.VideoFrame) -> tuple[bool, bool, bool]:
  """(transpose, then mirror left-right, then mirror top-bottom) that sets a frame upright.

  The display matrix maps a stored pixel (x, y) to (a x + c y, b x + d y); it is stored row by row
  as nine fixed-point numbers a b u c d v x y w.
  """
  data = picture.side_data.get("DISPLAYMATRIX")
  if data is None:
    return False, False, False
  a, b, _, c, d = np.frombuffer(bytes(data), "<i4")[:5]
  if abs(int(b)) > abs(int(a)):
    return True, bool(c < 0), bool(b < 0)
  return False, bool(a < 0), bool(d < 0)
