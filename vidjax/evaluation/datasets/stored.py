"""The ways in which one video is stored: an encoded file, a folder of pictures, an array.

All three give the same frames for the same rule where the pixels are the same.

Legend: T frames, H W height and width in pixels, C colours (RGB).
"""

from collections.abc import Callable, Sequence
import dataclasses
import math

import av
import av.error
from av.video.reformatter import VideoReformatter
import numpy as np
import PIL

from vidjax import errors, storage
from vidjax.data import limits, pictures, upright, video
from vidjax.data.sources import media
from vidjax.evaluation.datasets.items import Clip, ClipRule

# No picture that `limits.MAX_PIXELS` lets pass is larger, uncompressed ones of 16 bits included.
_MAX_PICTURE_BYTES = 1 << 30
PILLOW = f"Pillow {PIL.__version__}"


@dataclasses.dataclass(frozen=True)
class VideoFile:
  """An encoded video.

  Attributes:
    path: local or remote.
  """

  path: str

  @property
  def place(self) -> str:
    """The file."""
    return self.path

  def read(self, rule: ClipRule, item_id: str) -> Clip | None:
    """See `vidjax.evaluation.datasets.items.read_clip`."""
    try:
      with storage.local_copy(self.path) as local:
        found = _on_grid(local, rule, item_id) if rule.fps else _in_order(local, rule, item_id)
    except (av.error.FFmpegError, ValueError, OSError, StopIteration) as error:
      raise errors.DataError(
        f"{self.path} cannot be decoded: {type(error).__name__}: {error}"
      ) from error
    if found is None:
      return None
    frames, fps = found
    ffmpeg = ".".join(str(part) for part in av.library_versions["libavcodec"])
    return Clip(_stack(self.path, frames), fps, f"PyAV {av.__version__}, libavcodec {ffmpeg}")


@dataclasses.dataclass(frozen=True)
class FrameFolder:
  """A video as pictures.

  Attributes:
    folder: local or remote.
    names: files in it, in the order of time.
    fps: of all of them; None where it is not known.
  """

  folder: str
  names: tuple[str, ...]
  fps: float | None = None

  @property
  def place(self) -> str:
    """The folder."""
    return self.folder

  def read(self, rule: ClipRule, item_id: str) -> Clip | None:
    """See `vidjax.evaluation.datasets.items.read_clip`."""
    kinds = sorted({media.suffix(name)[1:] for name in self.names})
    return of_frames(
      self.folder, len(self.names), self._frame, self.fps, rule, item_id, f"{PILLOW} ({kinds[0]})"
    )

  def _frame(self, number: int) -> np.ndarray:
    file = storage.Path(self.folder) / self.names[number]
    try:
      return pictures.read(storage.read_bytes(file, _MAX_PICTURE_BYTES))
    except (errors.DataError, ValueError, OSError) as error:
      raise errors.DataError(f"{file} cannot be read: {error}") from error


def of_frames(
  place: str,
  count: int,
  frame: Callable[[int], np.ndarray],
  fps: float | None,
  rule: ClipRule,
  item_id: str,
  decoder: str,
) -> Clip | None:
  """A clip of frames that are stored one by one, evenly in time.

  Args:
    place: where they are, for messages.
    count: how many there are.
    frame: gives one by its number, (H, W, 3) uint8.
    fps: their rate, None where it is not known.
    rule: which are taken.
    item_id: of the video.
    decoder: for the clip.

  Raises:
    ValueError: the rule asks for a grid in time, and `fps` is None.
    DataError: as `read_clip`.
  """
  if rule.fps is None:
    numbers = rule.indices(count, item_id)
    shown_fps = None if fps is None else fps / rule.stride
  else:
    if fps is None:
      raise ValueError(
        f"{place}: frames without a frame rate, and the clip rule asks for {rule.fps:g} per second:"
        " say the rate of the stored frames with fps="
      )
    numbers = rule.indices(_grid_size(count / fps, rule.fps), item_id)
    shown_fps = rule.fps / rule.stride
    if numbers is not None:
      moments_s = numbers / rule.fps + video.TIME_TOLERANCE_S
      numbers = np.minimum((moments_s * fps).astype(np.int64), count - 1)
  if numbers is None:
    return None
  frames = {}
  for number in numbers.tolist():
    if number not in frames:
      frames[number] = frame(number)
      _check_size(place, len(numbers), frames[number])
  return Clip(_stack(place, [frames[n] for n in numbers.tolist()]), shown_fps, decoder)


def _grid_size(duration_s: float, fps: float) -> int:
  """Moments of a grid before the end of a video."""
  return max(1, math.ceil((duration_s - video.TIME_TOLERANCE_S) * fps))


def _on_grid(local: str, rule: ClipRule, item_id: str) -> tuple[list[np.ndarray], float] | None:
  assert rule.fps is not None
  info = video.probe(local)
  numbers = rule.indices(_grid_size(info.duration_s, rule.fps), item_id)
  if numbers is None:
    return None
  unique, places = np.unique(numbers, return_inverse=True)
  _check_bytes(local, len(unique), info.height, info.width)
  frames = video.read_frames_at(local, unique / rule.fps)
  return [frames[i] for i in places], rule.fps / rule.stride


def _in_order(local: str, rule: ClipRule, item_id: str) -> tuple[list[np.ndarray], float] | None:
  """Frames by their number; what packets promise is no number of frames, so it is verified.

  From the start on, decoding ends with the last frame that is taken. Elsewhere the number of all
  frames decides, and only decoding to the end says it: of VP8 some packets show nothing, and two
  fields may make one frame. Decoded frames that are not taken are never converted.
  """
  from_start = rule.start == "first"
  promised = rule.span if from_start else max(rule.span, video.probe(local).num_frames)
  numbers = rule.indices(promised, item_id)
  assert numbers is not None
  frames, count, fps = _decode(local, set(numbers.tolist()), to_end=not from_start)
  if count is not None and count != promised:
    numbers = rule.indices(count, item_id)
    if numbers is None:
      return None
    frames, _, fps = _decode(local, set(numbers.tolist()), to_end=False)
  return [frames[number] for number in numbers.tolist()], fps / rule.stride


def _decode(
  local: str, wanted: set[int], *, to_end: bool
) -> tuple[dict[int, np.ndarray], int | None, float]:
  """Wanted frames by number, how many there are (None if not all were decoded), and their rate."""
  frames, count = {}, None
  last = max(wanted)
  with video.FrameReader(local, conceal=False) as reader:
    fps, reformatter = video.announced_fps(reader.stream), VideoReformatter()
    for frame in reader:
      if reader.errors or frame.picture.is_corrupt:
        break
      if frame.index in wanted:
        frames[frame.index] = upright.rgb(frame.picture, reader.stream, None, reformatter)
        _check_size(local, len(wanted), frames[frame.index])
      if frame.index == last and not to_end:
        return frames, None, fps
    else:
      count = reader.frames_decoded
    if reader.errors or count is None:
      reason = reader.errors[0] if reader.errors else "a frame is damaged"
      raise ValueError(f"damaged at or before frame {reader.frames_decoded}: {reason}")
  return frames, count, fps


def _check_size(place: str, count: int, frame_HWC: np.ndarray) -> None:
  _check_bytes(place, count, *frame_HWC.shape[:2])


def _check_bytes(place: str, count: int, height: int, width: int) -> None:
  if count * height * width * 3 > limits.MAX_CLIP_BYTES:
    raise errors.DataError(
      f"{place}: {count} frames of {height}x{width} have more than {limits.MAX_CLIP_BYTES} bytes;"
      " take fewer frames in the clip rule"
    )


def _stack(place: str, frames: Sequence[np.ndarray]) -> np.ndarray:
  sizes = sorted({frame.shape for frame in frames})
  if len(sizes) > 1:
    raise errors.DataError(f"{place}: frames of different sizes, {sizes[0]} and {sizes[1]}")
  return np.stack(frames)
