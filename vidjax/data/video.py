"""Decoding of video files by time (mp4.py is the other direction).

One rule for time holds everywhere: a frame is shown from its time stamp until the next frame's, so
the frame at time t is the last one whose time stamp is <= t. It is right for constant and for
variable frame rates. Times count from the first frame. What frames look like is in upright.py.

Legend: T frames, H W pixels, C channels (RGB).
"""

from collections.abc import Callable, Iterator, Sequence
import contextlib
import dataclasses
import io
import os
from typing import Any

import av
import av.error
import av.stream
from av.video.reformatter import VideoReformatter
import numpy as np

from vidjax.data import limits, picked, transforms, upright

TIME_TOLERANCE_S = picked.TIME_TOLERANCE_S
NoVideoError = limits.NoVideoError

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


class FrameReader:
  """Decodes the first video stream of a file from start to end and survives broken packets.

  Iterate over it once, inside a `with` block. Errors of single packets are collected, never raised,
  so that a caller sees every frame that can be had and then decides. With `conceal`, decoders mend
  what they can of a broken frame; without, it is an error.

  Attributes:
    stream: The PyAV stream, for what the container announces.
    errors: What went wrong so far, one text for each broken packet.
    frames_decoded: Frames yielded so far.
    end_of_last_s: When the last frame yielded ends.
    end_s: End time of the last packet read of each stream kind, container clock.
  """

  def __init__(self, source: Source, *, threads: int = 1, conceal: bool = True):
    self.container = _open(source)
    self.stream = _video_stream(self.container)
    # Data workers and pipeline workers are many already: more threads inside cost 10 to 20 %.
    self.stream.codec_context.thread_count = threads
    self.stream.codec_context.thread_type = "NONE" if threads == 1 else "AUTO"
    if not conceal:
      self.stream.codec_context.options = picked.REPORT_DAMAGE
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
      stamp = self._stamp(picture)
      if stamp is None:
        # Raw streams and the last frames of AVI have no time stamps: go on at the same rate.
        time_s = 0.0 if last_s is None else last_s + step_s
      else:
        absolute_s = stamp * self._unit_s
        if origin_s is None:
          origin_s = absolute_s
        time_s = absolute_s - origin_s
      if last_s is not None and time_s <= last_s:
        time_s = last_s + min(step_s, 1e-3)  # Equal or falling stamps: keep the frames' order.
      elif last_s is not None:
        step_s = time_s - last_s
      shown_s = (picture.duration or 0) * self._unit_s or step_s
      self.end_of_last_s = time_s + shown_s
      yield Frame(self.frames_decoded, time_s, picture)
      last_s = time_s
      self.frames_decoded += 1

  def _stamp(self, picture: av.VideoFrame) -> int | None:
    # AVI numbers frames in the order of decoding only, and FFmpeg's guess when they are shown is
    # wrong for B-frames of H.264: the number at which a frame came out of the decoder counts.
    return picture.dts if self.container.format.name == "avi" else picture.pts

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
    width, height = upright.size_of(picture, stream)
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


def read_frames_at(
  mp4_bytes: Source,
  times_s: Sequence[float] | np.ndarray,
  size: tuple[int, int] | None = None,
) -> np.ndarray:
  """Reads the frames shown at the given times.

  The frame at time t is the last one whose time stamp is <= t (+ 0.1 ms for rounding); before the
  first frame it is the first, after the end the last. With one thread, decodes from the key frame
  before the first time up to the last time, and only what is shown or what other frames need;
  where the packets do not say reliably what is shown when, everything from the start.

  Args:
    mp4_bytes: The bytes of a file, or the path of a local one.
    times_s: (T,) ascending times in seconds from the first frame; repeats are fine.
    size: (height, width) of the view that the frames are for; None keeps their size.

  Returns:
    (T, H, W, 3) uint8 RGB, upright; scaled to `transforms.cover_size` of `size`, uncut.

  Raises:
    ValueError: no times, or they fall; or a frame is damaged that is shown or that one needs.
    NoVideoError, av.error.FFmpegError: the file cannot be decoded.
  """
  times_s = np.asarray(times_s, np.float64)
  if times_s.ndim != 1 or not len(times_s) or np.any(np.diff(times_s) < 0):
    raise ValueError(f"times_s must be a non-empty ascending list of seconds, got {times_s}")
  # What fails without analysis and with dropped frames may work with the one and without the other.
  for swift in (True, False):
    with contextlib.suppress(av.error.FFmpegError):
      with contextlib.closing(_open(mp4_bytes, analyse=not swift)) as container:
        stream = _video_stream(container)
        stream.codec_context.thread_count = 1
        stream.codec_context.thread_type = "NONE"
        convert = _converter(stream, size)
        frames = picked.read(container, stream, times_s, convert, drop=swift)
        if frames is not None:
          return np.stack(frames)
  with FrameReader(mp4_bytes, conceal=False) as reader:
    return np.stack(_read_from_start(reader, times_s, _converter(reader.stream, size)))


def _read_from_start(
  reader: FrameReader, times_s: np.ndarray, convert: Callable[[av.VideoFrame], np.ndarray]
) -> list[np.ndarray]:
  """As `read_frames_at`, from what is decoded alone: decodes every frame up to the last time."""
  pictures = iter(reader)
  shown = next(pictures, None)
  following = next(pictures, None)
  frames, converted = [], None
  damaged = shown is not None and shown.picture.is_corrupt
  for time_s in times_s:
    while following is not None and following.time_s <= time_s + TIME_TOLERANCE_S:
      shown, following, converted = following, next(pictures, None), None
      damaged = shown.picture.is_corrupt or (damaged and not shown.picture.key_frame)
    if reader.errors:
      raise ValueError(f"the video is damaged before {time_s:.3f} s: {reader.errors[0]}")
    if shown is None:
      raise ValueError("no frame of the video can be decoded")
    if damaged:
      raise ValueError(f"the frame shown at {time_s:.3f} s, or one that it needs, is damaged")
    converted = convert(shown.picture) if converted is None else converted
    frames.append(converted)
  return frames


def _converter(stream: Any, size: tuple[int, int] | None) -> Callable[[av.VideoFrame], np.ndarray]:
  """`upright.rgb` at the size that covers a view; one scaler serves all frames."""
  reformatter = VideoReformatter()

  def convert(picture: av.VideoFrame) -> np.ndarray:
    width, height = upright.size_of(picture, stream)
    if size is not None:
      height, width = transforms.cover_size((height, width), size)
    return upright.rgb_view(picture, stream, (width, height), reformatter)

  return convert


def announced_fps(stream: Any) -> float:
  """Frame rate that the container states; 25 where it states none."""
  rate = stream.average_rate or stream.guessed_rate or stream.base_rate
  return float(rate) if rate else 25.0


def _unit_s(stream: Any) -> float:
  """Seconds in one tick of the stream's clock."""
  return float(stream.time_base or 1 / 90_000)


def _open(source: Source, *, analyse: bool = True) -> Any:
  """Opens a file; analysis decodes its first frames to find what the container does not say."""
  # "file:" since FFmpeg takes a name such as "concat:x|y" for something else than a file.
  file = io.BytesIO(source) if isinstance(source, bytes) else f"file:{os.fspath(source)}"
  options = {**limits.FILE, **limits.DECODER, **({} if analyse else {"skip_frame": "all"})}
  # Titles in other encodings than UTF-8 are common, and no reason not to read the pictures.
  container = av.open(file, options=options, metadata_errors="replace")
  for stream in container.streams.video:
    if stream.codec_context is not None:
      stream.codec_context.options = limits.DECODER
  return container


def _video_stream(container: Any) -> Any:
  for stream in container.streams.video:
    if stream.disposition & av.stream.Disposition.attached_pic:
      continue  # A cover picture is no video.
    if stream.codec_context is None:
      raise NoVideoError("there is no decoder for the codec of the video stream")
    return stream
  raise NoVideoError("the file holds no video stream")


def _describe(error: Exception) -> str:
  return f"{type(error).__name__}: {getattr(error, 'strerror', None) or error}"
