"""Pictures and clips that a request is given, from files, in the size of what is made of them.

Legend: K frames of a clip, H W pixels, C channels (RGB).
"""

import av.error
import numpy as np

from vidjax import errors, storage
from vidjax.data import limits, pictures, transforms, video
from vidjax.observe import console


def read_image(flag: str, path: str, height: int, width: int) -> np.ndarray:
  """An image file as (H, W, 3) float32 in [0, 1], scaled to cover and centre-cropped.

  Args:
    flag: which names the file, for messages.
    path: the file.
    height: of the result.
    width: of the result.

  Raises:
    ValueError: the file is missing or no image.
  """
  try:
    picture_HWC = pictures.read(_content(flag, path))
  except errors.DataError as error:
    raise ValueError(f"--{flag}={path} cannot be read as an image: {error}") from error
  return _covering(path, picture_HWC[None], height, width)[0]


def read_clip(flag: str, path: str, height: int, width: int) -> tuple[np.ndarray, float]:
  """All frames of a video file as (K, H, W, 3), see `read_image`, and its frame rate.

  Raises:
    ValueError: the file is missing, no video, or a single frame.
  """
  content = _content(flag, path)
  try:
    info = video.probe(content)
    if info.num_frames * info.height * info.width * 3 > limits.MAX_CLIP_BYTES:
      raise ValueError(
        f"it has {info.num_frames} frames of {info.width}x{info.height}, more than"
        f" {limits.MAX_CLIP_BYTES} bytes, and is held in memory: cut it, or make it smaller"
      )
    frames_KHWC = video.read_frames_at(content, info.times_s)
  except (av.error.FFmpegError, ValueError) as error:
    raise ValueError(f"--{flag}={path} cannot be read as a video: {error}") from error
  if len(frames_KHWC) < 2:
    raise ValueError(f"--{flag}={path} is a single frame: two are needed to have some between")
  return _covering(path, frames_KHWC, height, width), info.fps


def _content(flag: str, path: str) -> bytes:
  if not storage.Path(path).is_file():
    raise ValueError(f"--{flag}={path}: there is no such file")
  return storage.read_bytes(path)


def _covering(path: str, frames_KHWC: np.ndarray, height: int, width: int) -> np.ndarray:
  """uint8 frames in the wanted size, float32 in [0, 1]; says so if more than a rim is cut off."""
  own_height, own_width = frames_KHWC.shape[1:3]
  shapes = own_width / own_height, width / height
  kept = min(shapes) / max(shapes)
  if kept < 0.99:
    console.line(
      f"{path} is {own_width}x{own_height}: scaled to cover {width}x{height}, the middle"
      f" {kept:.0%} are kept"
    )
  try:
    return transforms.cover_crop(frames_KHWC, height, width).astype(np.float32) / 255.0
  except errors.DataError as error:
    raise ValueError(f"{path}: {error}") from error
