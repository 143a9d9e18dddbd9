"""How much of a frame is under text, by RapidOCR's detector (PP-OCR; its weights are in the wheel).

Stable Video Diffusion, appendix C, detects text (with CRAFT) on the first, middle and last frame of
a clip and drops clips with much of it.

Legend: H W pixels, C channels (RGB).
"""

import functools
import logging
from typing import Any

import cv2
import numpy as np

# Below this score a box is no text (PaddleOCR's value for this family of detectors).
_MIN_SCORE = 0.6
# A line of text this high, relative to the frame's shorter side, is none: on smooth pictures the
# detector sometimes takes large parts of the frame for text.
_MAX_LINE_HEIGHT = 1 / 3


def text_area(frame_HWC: np.ndarray, short_side: int) -> float:
  """Share of a frame's area inside the boxes of text, 0 to 1.

  Args:
    frame_HWC: (H, W, 3) uint8.
    short_side: The frame is scaled down to this before; about 12 times the height of a letter that
      is just found.
  """
  boxes = _boxes(_scaled(frame_HWC, short_side))
  return float(boxes.mean())


def _scaled(frame_HWC: np.ndarray, short_side: int) -> np.ndarray:
  height, width = frame_HWC.shape[:2]
  scale = short_side / min(height, width)
  if scale >= 1:
    return frame_HWC
  size = (max(1, round(width * scale)), max(1, round(height * scale)))
  return cv2.resize(frame_HWC, size, interpolation=cv2.INTER_AREA)


def _boxes(frame_HWC: np.ndarray) -> np.ndarray:
  """(H, W) uint8, 1 where a box of text is."""
  mask_HW = np.zeros(frame_HWC.shape[:2], np.uint8)
  bgr_HWC = np.ascontiguousarray(frame_HWC[..., ::-1])
  found = _detector()(bgr_HWC, use_det=True, use_cls=False, use_rec=False)
  for box_42 in found.boxes if found.boxes is not None else ():
    _, sides, _ = cv2.minAreaRect(box_42.astype(np.float32))
    if min(sides) <= _MAX_LINE_HEIGHT * min(mask_HW.shape):
      cv2.fillPoly(mask_HW, [box_42.round().astype(np.int32)], 1)
  return mask_HW


@functools.cache
def _detector() -> Any:
  # Imported here: it brings a runtime of its own, and most processes never look at text.
  import rapidocr

  logging.getLogger("RapidOCR").setLevel(logging.ERROR)
  return rapidocr.RapidOCR(
    params={
      "Global.use_cls": False,
      "Global.use_rec": False,
      "Global.log_level": "error",
      "Det.box_thresh": _MIN_SCORE,
      "Det.limit_type": "min",
      "Det.limit_side_len": 32,  # frames come in the size that they are to be looked at in
      # Pipelines have a process for each core already.
      "EngineConfig.onnxruntime.intra_op_num_threads": 1,
      "EngineConfig.onnxruntime.inter_op_num_threads": 1,
    }
  )
