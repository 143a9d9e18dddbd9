"""From decoded frames to the frames of a batch: scale to cover, cut out the centre, perhaps mirror.

One policy for every source size: the frame is scaled by the one factor that makes it just cover
the target, keeping its shape, and what hangs over is cut equally on both sides. Nothing is
stretched or padded. Everything stays uint8, so that the device gets a quarter of the bytes.

Legend: T frames, H W height and width in pixels, C colours (RGB).
"""

from collections.abc import Sequence

import cv2
import numpy as np

from vidjax import errors

# A line of 1 x 100,000 pixels is a small file, and scaled to cover a view of 512 x 512 it takes
# 80 GB. The longest panoramas are 1:20, twenty times a square view.
MAX_OVERHANG = 100


def cover_size(source: tuple[int, int], target: tuple[int, int]) -> tuple[int, int]:
  """(height, width) of the smallest picture of the shape of `source` that covers `target`.

  Raises:
    DataError: it would be more than `MAX_OVERHANG` times as large as `target`.
  """
  scale = max(target[0] / source[0], target[1] / source[1])
  if scale * scale * source[0] * source[1] > MAX_OVERHANG * target[0] * target[1]:
    raise errors.DataError(
      f"a picture of {source[0]}x{source[1]} pixels is too narrow for a view of"
      f" {target[0]}x{target[1]}: less than 1/{MAX_OVERHANG} of it would be shown"
    )
  return max(target[0], round(source[0] * scale)), max(target[1], round(source[1] * scale))


def cover(video_THWC: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  """Scales uint8 frames to `cover_size` of `size`, (height, width) of the view.

  Shrinking averages over areas, which is the anti-aliasing that strided interpolation lacks;
  growing is bicubic. Frames of the right size are returned as they are.
  """
  assert video_THWC.dtype == np.uint8, video_THWC.dtype
  source = video_THWC.shape[1:3]
  height, width = cover_size(source, size)
  if (height, width) == source:
    return video_THWC
  method = cv2.INTER_AREA if height <= source[0] else cv2.INTER_CUBIC
  result_THWC = np.empty((len(video_THWC), height, width, video_THWC.shape[3]), np.uint8)
  for frame_HWC, scaled_HWC in zip(video_THWC, result_THWC, strict=True):
    cv2.resize(frame_HWC, (width, height), dst=scaled_HWC, interpolation=method)
  return result_THWC


def crop(video_THWC: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  """Cuts (height, width) out of the centre; contiguous.

  An odd overhang loses its extra row or column below or at the right.
  """
  top, left = ((have - keep) // 2 for have, keep in zip(video_THWC.shape[1:3], size, strict=True))
  return np.ascontiguousarray(video_THWC[:, top : top + size[0], left : left + size[1]])


def cover_crop(video_THWC: np.ndarray, height: int, width: int) -> np.ndarray:
  """Scales frames to cover (height, width) and takes the centre: the whole policy.

  Args:
    video_THWC: uint8 frames.
    height: of the result, in pixels.
    width: of the result, in pixels.

  Returns:
    uint8 (T, height, width, C), contiguous.
  """
  return crop(cover(video_THWC, (height, width)), (height, width))


def nearest_shape(sizes: np.ndarray, views: Sequence[tuple[int, int]]) -> np.ndarray:
  """For each clip the view that shows most of it: the nearest ratio of width to height.

  Args:
    sizes: (N, 2) heights and widths; where they are not known (0) the first view is taken.
    views: (height, width) of each.

  Returns:
    (N,) numbers of views.
  """
  known = np.all(sizes > 0, axis=1)
  ratios = np.log(np.where(known, sizes[:, 1], 1) / np.where(known, sizes[:, 0], 1))
  of_views = np.log([width / height for height, width in views])
  return np.where(known, np.abs(ratios[:, None] - of_views).argmin(axis=1), 0)


def mirror(video_THWC: np.ndarray) -> np.ndarray:
  """Exchanges left and right in every frame; contiguous."""
  return np.ascontiguousarray(video_THWC[:, :, ::-1])
