"""Pictures and video files for people: contact sheets, moving clips.

Legend: T frames, H W pixels, C channels (RGB).
"""

import base64
from collections.abc import Sequence
import dataclasses
import fractions
import io

import av
import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from vidjax import storage
from vidjax.data import mp4

VIDEO_SUFFIXES = (".mp4", ".gif", ".webm", ".mkv")

_GAP = 2  # pixels between frames
_ROW_GAP = 8
_INK, _PAPER = (40, 44, 52), (255, 255, 255)


@dataclasses.dataclass(frozen=True)
class Strip:
  """One row of a contact sheet: a label and frames, uint8 or float in [0, 1], (T, H, W, 3)."""

  label: str
  video: np.ndarray


def to_uint8(video: np.ndarray) -> np.ndarray:
  """Frames as uint8; floats are taken as [0, 1], rounded and clipped."""
  if video.dtype == np.uint8:
    return video
  return np.round(np.clip(video, 0.0, 1.0) * 255.0).astype(np.uint8)


def contact_sheet(strips: Sequence[Strip], columns: int = 8, frame_height: int = 96) -> np.ndarray:
  """Frames of several clips as one picture, one clip a row, time from left to right.

  Args:
    strips: the rows; clips may differ in size and length.
    columns: frames of each clip, spread evenly from the first to the last.
    frame_height: height of a frame on the sheet, in pixels.

  Returns:
    (H, W, 3) uint8.
  """
  rows = [_row(strip, columns, frame_height) for strip in strips]
  width = max(row.width for row in rows)
  height = sum(row.height + _ROW_GAP for row in rows) + _ROW_GAP
  sheet = PIL.Image.new("RGB", (width + 2 * _ROW_GAP, height), _PAPER)
  top = _ROW_GAP
  for row in rows:
    sheet.paste(row, (_ROW_GAP, top))
    top += row.height + _ROW_GAP
  return np.asarray(sheet)


def write_png(path: storage.PathLike, image_HWC: np.ndarray) -> None:
  """Writes one picture, uint8 or float in [0, 1]."""
  buffer = io.BytesIO()
  PIL.Image.fromarray(to_uint8(image_HWC)).save(buffer, "PNG", optimize=True)
  storage.write_bytes(path, buffer.getvalue())


def write_video(path: storage.PathLike, video_THWC: np.ndarray, fps: float) -> None:
  """Writes a clip, uint8 or float in [0, 1], in the format that the suffix of `path` names.

  .mp4 (H.264) for players and browsers, .webm (VP9) likewise, .gif (256 colours, loops) for places
  that take pictures only, .mkv (FFV1) without any loss, for what is to be measured.

  Raises:
    ValueError: the suffix is none of these.
  """
  frames_THWC = to_uint8(video_THWC)
  suffix = storage.Path(path).suffix.lower()
  match suffix:
    case ".mp4":
      mp4.write_mp4(path, frames_THWC, fps)
    case ".gif":
      storage.write_bytes(path, _gif(frames_THWC, fps))
    case ".webm":
      with storage.staged(path) as local:
        _write_webm(local, frames_THWC, fps)
    case ".mkv":
      with storage.staged(path) as local:
        _write_ffv1(local, frames_THWC, fps)
    case _:
      raise ValueError(f"{path}: suffix {suffix!r} is not known, use {', '.join(VIDEO_SUFFIXES)}")


def moving_picture(frames_THWC: np.ndarray, fps: float, quality: int) -> str:
  """uint8 frames as an animated WebP in a data URI, for pages that hold all that they show.

  Args:
    frames_THWC: of the size in which they are shown.
    fps: at which they are.
    quality: 0 to 100.
  """
  first, *others = (PIL.Image.fromarray(frame_HWC) for frame_HWC in frames_THWC)
  buffer = io.BytesIO()
  first.save(
    buffer,
    "WEBP",
    save_all=True,
    append_images=others,
    duration=round(1000 / fps),
    loop=0,
    quality=quality,
  )
  return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _row(strip: Strip, columns: int, frame_height: int) -> PIL.Image.Image:
  picked = np.linspace(0, len(strip.video) - 1, min(columns, len(strip.video))).round().astype(int)
  height, width = strip.video.shape[1:3]
  size = (max(1, round(width * frame_height / height)), frame_height)
  font = PIL.ImageFont.load_default(13)
  label_height = 18 if strip.label else 0
  row_width = len(picked) * (size[0] + _GAP)
  row = PIL.Image.new("RGB", (row_width, frame_height + label_height), _PAPER)
  PIL.ImageDraw.Draw(row).text((0, 0), strip.label, fill=_INK, font=font)
  for column, index in enumerate(picked):
    frame = PIL.Image.fromarray(to_uint8(strip.video[index]))
    # Enlarging shows the pixels as they are: a small model's frames must not look smoother.
    method = PIL.Image.Resampling.NEAREST if frame_height > height else PIL.Image.Resampling.BOX
    row.paste(frame.resize(size, method), (column * (size[0] + _GAP), label_height))
  return row


def _gif(frames_THWC: np.ndarray, fps: float) -> bytes:
  pictures = [PIL.Image.fromarray(frame) for frame in frames_THWC]
  buffer = io.BytesIO()
  pictures[0].save(
    buffer, "GIF", save_all=True, append_images=pictures[1:], duration=round(1000 / fps), loop=0
  )
  return buffer.getvalue()


def _write_webm(local: str, frames_THWC: np.ndarray, fps: float) -> None:
  with av.open(local, "w", format="webm") as container:
    rate = fractions.Fraction(fps).limit_denominator(1001)  # 30000/1001 and the like
    stream = container.add_stream("libvpx-vp9", rate=rate)
    stream.height, stream.width = frames_THWC.shape[1:3]
    stream.pix_fmt = "yuv420p"
    stream.bit_rate = 0  # constant quality
    stream.options = {"crf": "24", "b": "0", "row-mt": "0"}
    for frame_HWC in frames_THWC:
      container.mux(stream.encode(av.VideoFrame.from_ndarray(frame_HWC, "rgb24")))
    container.mux(stream.encode(None))


def _write_ffv1(local: str, frames_THWC: np.ndarray, fps: float) -> None:
  with av.open(local, "w", format="matroska") as container:
    stream = container.add_stream("ffv1", rate=fractions.Fraction(fps).limit_denominator(1001))
    stream.height, stream.width = frames_THWC.shape[1:3]
    stream.pix_fmt = "bgr0"  # no conversion to luma and chroma, which rounds
    for frame_HWC in frames_THWC:
      picture = av.VideoFrame.from_ndarray(frame_HWC, "rgb24").reformat(format="bgr0")
      container.mux(stream.encode(picture))
    container.mux(stream.encode(None))
