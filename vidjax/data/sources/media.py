"""One video or picture as a clip, wherever its bytes are: a file, or a stretch of one.

Legend: T frames, H W height and width in pixels, C colours (RGB).
"""

import dataclasses
import functools
import math

import av.error
import numpy as np

from vidjax import errors, storage
from vidjax.data import pictures, transforms, video
from vidjax.data.clip import Clip

_VIDEO = (
  ".264 .265 .3g2 .3gp .apng .asf .avi .divx .dv .f4v .flv .gif .h264 .h265 .hevc .ivf .m2ts "
  ".m2v .m4v .mj2 .mjpeg .mkv .mov .mp4 .mpeg .mpg .mts .mxf .nut .ogv .qt .rm .rmvb .ts .vob "
  ".webm .wmv .y4m"
)
VIDEO_SUFFIXES = frozenset(_VIDEO.split())
PICTURE_SUFFIXES = frozenset([".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"])

# What a file that is no video, or a damaged one, raises when it is opened or decoded.
DAMAGE = (errors.DataError, av.error.FFmpegError, ValueError, OSError)


@dataclasses.dataclass(frozen=True)
class Facts:
  """What a listing says of one clip; see `vidjax.data.clip.Listing`."""

  duration_s: float = math.nan
  fps: float = math.nan
  height: int = 0
  width: int = 0


@dataclasses.dataclass(frozen=True)
class Place:
  """Where the encoded bytes of a video or picture are.

  Attributes:
    path: of the file, local or remote.
    picture: whether it is a picture rather than a video.
    offset: of the first byte; -1 if it is the whole file.
    size: number of bytes, if it is not.
  """

  path: str
  picture: bool
  offset: int = -1
  size: int = 0

  def facts(self) -> Facts:
    """Looks at headers and packets.

    Raises:
      one of `DAMAGE`.
    """
    if self.offset >= 0:
      return describe(self.content(), self.picture)
    with storage.local_copy(self.path) as local:
      return describe(local, self.picture)

  def content(self) -> bytes | str:
    """The bytes, or the local name of the file that holds nothing else."""
    local = storage.cached_copy(self.path)
    if self.offset < 0:
      return local
    with storage.open_read(local) as file:
      file.seek(self.offset)
      content = file.read(self.size)
    if len(content) < self.size:
      raise errors.DataError(f"{self.path} ends before byte {self.offset + self.size}")
    return content


def suffix(name: str) -> str:
  """Suffix of a file name, in small letters, with its dot."""
  file = name.rpartition("/")[2]
  return "." + file.rpartition(".")[2].lower() if "." in file else ""


def describe(content: bytes | str, picture: bool) -> Facts:
  """What a listing says of a video or picture, given as bytes or as a local file.

  Raises:
    one of `DAMAGE`.
  """
  if picture:
    return Facts(math.inf, math.inf, *pictures.probe(content))
  info = _probe(content)
  if not info.num_frames or not info.duration_s:
    raise errors.DataError("the video has no frames, or no length")
  return Facts(info.duration_s, info.num_frames / info.duration_s, info.height, info.width)


def open_clip(
  place: Place, *, clip_id: str, source: str, duration_s: float, captions: dict[str, str]
) -> Clip:
  """A clip that reads its frames from `place`."""
  return Clip(
    clip_id=clip_id,
    source=source,
    duration_s=duration_s,
    read=functools.partial(_read_picture if place.picture else _read_video, place),
    times_s=_one_moment if place.picture else functools.partial(_times_s, place),
    captions=captions,
  )


def clip_of_bytes(
  content: bytes, picture: bool, *, clip_id: str, source: str, captions: dict[str, str]
) -> Clip:
  """A clip whose encoded bytes are at hand.

  Raises:
    one of `DAMAGE`.
  """
  return Clip(
    clip_id=clip_id,
    source=source,
    duration_s=describe(content, picture).duration_s,
    read=functools.partial(show_picture if picture else _show_video, content),
    times_s=_one_moment if picture else lambda: _probe(content).times_s,
    captions=captions,
  )


def show_picture(content: bytes | str, moments_s: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  """The picture at every moment, (T, H, W, C) uint8."""
  frame_THWC = transforms.cover(pictures.read(content)[None], size)
  return np.repeat(frame_THWC, len(moments_s), axis=0)


def _read_picture(place: Place, moments_s: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  return show_picture(place.content(), moments_s, size)


def _show_video(content: bytes | str, moments_s: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  return video.read_frames_at(content, moments_s, size)


def _read_video(place: Place, moments_s: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  return _show_video(place.content(), moments_s, size)


def _times_s(place: Place) -> np.ndarray:
  return _probe(place.content()).times_s


def _probe(content: bytes | str) -> video.VideoInfo:
  try:
    return video.probe(content)
  except StopIteration as error:
    raise errors.DataError("no frame of the video can be decoded") from error


def _one_moment() -> np.ndarray:
  return np.zeros(1)
