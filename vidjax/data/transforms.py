"""From decoded frames to the frames of a batch: scale to cover, cut out the centre, perhaps mirror.

One policy for every source size: the frame is scaled by the one factor that makes it just cover
the target, keeping its shape, and what hangs over is cut equally on both sides. Nothing is
stretched or padded. Everything stays uint8, so that the device gets a quarter of the bytes.

Legend: T frames, H W height and width in pixels, C colours (RGB).
"""

import cv2
import numpy as np


def cover_size(source: tuple[int, int], target: tuple[int, int]) -> tuple[int, int]:
  """(height, width) of the smallest picture of the shape of `source` that covers `target`."""
  scale = max(target[0] / source[0], target[1] / source[1])
  return max(target[0], round(source[0] * scale)), max(target[1], round(source[1] * scale))


def cover_crop(video_THWC: np.ndarray, height: int, width: int) -> np.ndarray:
  """Scales frames to cover (height, width) and takes the centre.

  Shrinking averages over areas, which is the anti-aliasing that strided interpolation lacks;
  growing is bicubic. An odd overhang loses its extra row or column below or at the right.

  Args:
    video_THWC: uint8 frames.
    height: of the result, in pixels.
    width: of the result, in pixels.

  Returns:
    uint8 (T, height, width, C), contiguous.
  """
  assert video_THWC.dtype == np.uint8, video_THWC.dtype
  source = video_THWC.shape[1:3]
  cover = cover_size(source, (height, width))
  top, left = (cover[0] - height) // 2, (cover[1] - width) // 2
  method = cv2.INTER_AREA if cover[0] <= source[0] else cv2.INTER_CUBIC
  result_THWC = np.empty((len(video_THWC), height, width, video_THWC.shape[3]), np.uint8)
  for i, frame_HWC in enumerate(video_THWC):
    if cover != source:
      frame_HWC = cv2.resize(frame_HWC, (cover[1], cover[0]), interpolation=method)
    result_THWC[i] = frame_HWC[top : top + height, left : left + width]
  return result_THWC


def mirror(video_THWC: np.ndarray) -> np.ndarray:
  """Exchanges left and right in every frame; contiguous."""
  return np.ascontiguousarray(video_THWC[:, :, ::-1])
