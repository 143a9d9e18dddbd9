"""Decoding of video files by time (mp4.py is the other direction).

One rule for time holds everywhere: a frame is shown from its time stamp until the next frame's, so
the frame at time t is the last one whose time stamp is <= t. It is right for constant and for
variable frame rates. Times count from the first frame. "Upright" means as a player shows it:
rotated or mirrored as the container asks, with square pixels.

Legend: T frames, H W pixels, C channels (RGB).
"""

from collections.abc import Iterator, Sequence
import contextlib
import dataclasses
import io
import math
import os
from typing import Any

import av
import av.error
import av.stream
import numpy as np

# A time stamp and the time asked for reach us through different roundings (time bases, float32).
TIME_TOLERANCE_S = 1e-4

Source = bytes | str | os.PathLike[str]


@dataclasses.dataclass(frozen=True)
class VideoInfo:
  """What a video stream is, read from its container without decoding more than one frame.

  Attributes:
    width: Width in pixels, upright.
    height: Height in pixels, upright.
    rotation: Degrees, counter-clockwise, as the container states it (ffprobe's sign).
    fps: Frame rate as the container announces it, else the mean of `times_s`.
    times_s: (T,) float64, presentation times of the packets from the first one on, ascending.
      Exact for files of ours; for others a promise: the decoder may yield fewer frames.
    duration_s: End of the last frame.
    codec: Codec name such as "h264".
    pixel_format: Such as "yuv420p".
    container: Format name such as "mov,mp4,m4a,3gp,3g2,mj2".
  """

  width: int
  height: int
  rotation: int
  fps: float
  times_s: np.ndarray
  duration_s: float
  codec: str
  pixel_format: str
  container: str

  @property
  def num_frames(self) -> int:
    """Number of frames that the packets promise."""
    return len(self.times_s)


@dataclasses.dataclass(frozen=True)
class Frame:
  """A decoded frame: its place in presentation order, its time in seconds, its (lazy) picture."""

  index: int
  time_s: float
  picture: av.VideoFrame


class NoVideoError(ValueError):
  """The file holds no video that can be decoded: sound only, a cover picture, an unknown codec."""


class FrameReader:
  """Decodes the first video stream of a file from start to end and survives broken packets.

  Iterate over it once, inside a `with` block. Errors of single packets are collected, never raised,
  so that a caller sees every frame that can be had and then decides.

  Attributes:
    stream: The PyAV stream, for what the container announces.
    errors: What went wrong so far, one text for each broken packet.
    frames_decoded: Frames yielded so far.
    end_of_last_s: When the last frame yielded ends.
    end_s: End time of the last packet read of each stream kind, container clock.
  """

  def __init__(self, source: Source, *, threads: int = 1):
    self.container = _open(source)
    self.stream = _video_stream(self.container)
    # Data workers and pipeline workers are many already: more threads inside cost 10 to 20 %.
    self.stream.codec_context.thread_count = threads
    self.stream.codec_context.thread_type = "NONE" if threads == 1 else "AUTO"
    self._unit_s = _unit_s(self.stream)
    self.errors: list[str] = []
    self.frames_decoded = 0
    self.end_of_last_s = 0.0
    self.end_s: dict[str, float] = {}

  def __enter__(self) -> "FrameReader":
    return self

  def __exit__(self, *_) -> None:
    self.container.close()

  def __iter__(self) -> Iterator[Frame]:
    origin_s = last_s = None
    step_s = 1 / announced_fps(self.stream)
    for picture in self._pictures():
      if picture.pts is None:
        # Some AVI and raw streams have no time stamps: fall back on the announced rate.
        time_s = 0.0 if last_s is None else last_s + step_s
      else:
        absolute_s = picture.pts * self._unit_s
        if origin_s is None:
          origin_s = absolute_s
        time_s = absolute_s - origin_s
      if last_s is not None and time_s <= last_s:
        time_s = last_s + min(
          step_s, 1e-3
        )  # Equal or falling stamps: keep the order of the frames.
      shown_s = (picture.duration or 0) * self._unit_s
      if not shown_s:
        shown_s = step_s if last_s is None else time_s - last_s
      self.end_of_last_s = time_s + shown_s
      yield Frame(self.frames_decoded, time_s, picture)
      last_s = time_s
      self.frames_decoded += 1

  def _pictures(self) -> Iterator[av.VideoFrame]:
    for packet in self._packets():
      try:
        pictures = self.stream.codec_context.decode(packet)
      except av.error.FFmpegError as error:
        self.errors.append(_describe(error))
        continue
      yield from pictures

  def _packets(self) -> Iterator[Any]:
    packets = self.container.demux()
    while True:
      try:
        packet = next(packets)
      except StopIteration:
        break
      except av.error.FFmpegError as error:
        self.errors.append(_describe(error))
        break
      # An empty packet repeats the frame before it (AVI); for a decoder it would mean the end.
      if not packet.size:
        continue
      if packet.pts is not None and packet.time_base:
        end_s = float((packet.pts + (packet.duration or 0)) * packet.time_base)
        kind = packet.stream.type
        self.end_s[kind] = max(self.end_s.get(kind, 0.0), end_s)
      if packet.stream.index == self.stream.index:
        if packet.is_corrupt:
          self.errors.append("the container marks a packet as corrupt")
        yield packet
    yield None  # Flushes the frames that the decoder still holds.


def probe(source: Source) -> VideoInfo:
  """Reads what a video is; walks over its packets and decodes its first frame only.

  Args:
    source: The bytes of a file, or the path of a local one.

  Raises:
    NoVideoError: there is no video stream.
    av.error.FFmpegError: the file cannot be opened or its first frame cannot be decoded.
  """
  with contextlib.closing(_open(source)) as container:
    stream = _video_stream(container)
    stamps = []
    end = 0
    for packet in container.demux(stream):
      stamp = packet.pts if packet.pts is not None else packet.dts
      if packet.size and stamp is not None:
        stamps.append(stamp)
        end = max(end, stamp + (packet.duration or 0))
    container.seek(0)
    picture = next(container.decode(stream))
    times_s = np.sort(np.asarray(stamps, np.float64))
    origin = times_s[0] if len(times_s) else 0.0
    unit_s = _unit_s(stream)
    times_s = (times_s - origin) * unit_s
    width, height = upright_size(picture, stream)
    return VideoInfo(
      width=width,
      height=height,
      rotation=picture.rotation,
      fps=announced_fps(stream),
      times_s=times_s,
      duration_s=max(float(end - origin) * unit_s, 0.0),
      codec=stream.codec_context.name,
      pixel_format=picture.format.name,
      container=container.format.name,
    )


def read_frames_at(mp4_bytes: Source, times_s: Sequence[float] | np.ndarray) -> np.ndarray:
  """Reads the frames shown at the given times.

  The frame at time t is the last one whose time stamp is <= t (+ 0.1 ms for rounding); before the
  first frame it is the first, after the end the last. Decodes from the key frame before the first
  time up to the last time with one thread and converts the picked frames alone to RGB.

  Args:
    mp4_bytes: The bytes of a file, or the path of a local one.
    times_s: (T,) ascending times in seconds from the first frame; repeats are fine.

  Returns:
    (T, H, W, 3) uint8 RGB, upright.

  Raises:
    ValueError: no times, or they fall.
    NoVideoError, av.error.FFmpegError: the file cannot be decoded.
  """
  times_s = np.asarray(times_s, np.float64)
  if times_s.ndim != 1 or not len(times_s) or np.any(np.diff(times_s) < 0):
    raise ValueError(f"times_s must be a non-empty ascending list of seconds, got {times_s}")
  with contextlib.closing(_open(mp4_bytes)) as container:
    stream = _video_stream(container)
    stream.codec_context.thread_count = 1
    stream.codec_context.thread_type = "NONE"
    unit_s = _unit_s(stream)
    origin = stream.start_time or 0

    def stamp(time_s: float) -> int:
      return origin + math.floor((time_s + TIME_TOLERANCE_S) / unit_s)

    stamps = [stamp(time_s) for time_s in times_s]
    pictures = _decode_from(container, stream, stamps[0])
    shown = next(pictures, None)
    if shown is None:
      raise ValueError("no frame of the video can be decoded")
    following = next(pictures, None)
    frames, picked, picked_rgb = [], None, None
    for wanted in stamps:
      while following is not None and (following.pts or 0) <= wanted:
        shown, following = following, next(pictures, None)
      if picked is not shown:
        picked, picked_rgb = shown, upright_rgb(shown, stream)
      frames.append(picked_rgb)
    return np.stack(frames)


def _decode_from(container: Any, stream: Any, stamp: int) -> Iterator[av.VideoFrame]:
  """Yields frames from the one shown at `stamp` or an earlier one on."""
  first_stamp = stream.start_time or 0
  for target in (stamp, stamp - int(2 / _unit_s(stream)), first_stamp):
    container.seek(max(target, first_stamp), stream=stream, backward=True)
    pictures = container.decode(stream)
    first = next(pictures, None)
    # Indices hold decoding times: with B-frames a seek can land on a key frame shown after `stamp`.
    if first is not None and ((first.pts or 0) <= stamp or target <= first_stamp):
      yield first
      yield from pictures
      return


def upright_size(picture: av.VideoFrame, stream: Any) -> tuple[int, int]:
  """Width and height in square pixels, as shown."""
  aspect = stream.sample_aspect_ratio or 1
  width, height = max(1, round(picture.width * aspect)), picture.height
  return (height, width) if _orientation(picture)[0] else (width, height)


def upright_rgb(
  picture: av.VideoFrame, stream: Any, size: tuple[int, int] | None = None
) -> np.ndarray:
  """Converts a decoded frame to what a player shows.

  Args:
    picture: The frame.
    stream: Its stream, for the shape of a pixel.
    size: (width, height) to scale to by area, upright; None keeps the upright size.

  Returns:
    (H, W, 3) uint8 RGB.
  """
  transpose, flip_x, flip_y = _orientation(picture)
  width, height = size or upright_size(picture, stream)
  if transpose:
    width, height = height, width
  frame_HWC = picture.reformat(width, height, "rgb24", interpolation="AREA", threads=1).to_ndarray()
  if transpose:
    frame_HWC = frame_HWC.transpose(1, 0, 2)
  if flip_x:
    frame_HWC = frame_HWC[:, ::-1]
  if flip_y:
    frame_HWC = frame_HWC[::-1]
  return np.ascontiguousarray(frame_HWC)


def announced_fps(stream: Any) -> float:
  """Frame rate that the container states; 25 where it states none."""
  rate = stream.average_rate or stream.guessed_rate or stream.base_rate
  return float(rate) if rate else 25.0


def _unit_s(stream: Any) -> float:
  """Seconds in one tick of the stream's clock."""
  return float(stream.time_base or 1 / 90_000)


def _open(source: Source) -> Any:
  file = io.BytesIO(source) if isinstance(source, bytes) else os.fspath(source)
  # Titles in other encodings than UTF-8 are common, and no reason not to read the pictures.
  return av.open(file, metadata_errors="replace")


def _video_stream(container: Any) -> Any:
  for stream in container.streams.video:
    if stream.disposition & av.stream.Disposition.attached_pic:
      continue  # A cover picture is no video.
    if stream.codec_context is None:
      raise NoVideoError("there is no decoder for the codec of the video stream")
    return stream
  raise NoVideoError("the file holds no video stream")


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


def _describe(error: Exception) -> str:
  return f"{type(error).__name__}: {getattr(error, 'strerror', None) or error}"
