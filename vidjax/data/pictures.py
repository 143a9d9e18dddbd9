"""Decoding of still pictures: upright, in colour, eight bits, whatever the file holds.

Orientation is as EXIF asks. Grey, palette and CMYK become RGB, sixteen bits become eight, and what
is transparent shows white behind it. Of an animation it is the first frame.

Legend: H W height and width in pixels, C colours (RGB).
"""

import contextlib
import io
import warnings

import numpy as np
import PIL.Image

from vidjax import errors
from vidjax.data import limits

_ORIENTATION = 0x0112  # EXIF tag
_TURNS = {
  2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
  3: PIL.Image.Transpose.ROTATE_180,
  4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
  5: PIL.Image.Transpose.TRANSPOSE,
  6: PIL.Image.Transpose.ROTATE_270,
  7: PIL.Image.Transpose.TRANSVERSE,
  8: PIL.Image.Transpose.ROTATE_90,
}
# Pillow looks at the size before anything is decoded: warns above this, refuses twice as much.
# `limits.check` refuses in between, and turns a warning that nobody reads into an error.
PIL.Image.MAX_IMAGE_PIXELS = limits.MAX_PIXELS

_SIXTEEN_BITS = ("I", "I;16", "I;16L", "I;16B", "I;16N")


def probe(source: bytes | str) -> tuple[int, int]:
  """Upright (height, width) of a picture, from its header alone.

  Args:
    source: the bytes of a file, or the name of a local one.

  Raises:
    DataError: it is no picture, or one of absurdly many pixels (a decompression bomb).
  """
  with _reporting(), _open(source) as image:
    width, height = image.size
    limits.check("the picture", height, width)
    return (width, height) if _orientation(image) >= 5 else (height, width)


def read(source: bytes | str) -> np.ndarray:
  """Decodes a picture.

  Args:
    source: the bytes of a file, or the name of a local one.

  Returns:
    (H, W, C) uint8.

  Raises:
    DataError: as `probe`, or the file is cut short or damaged.
  """
  with _reporting(), _open(source) as image:
    limits.check("the picture", image.size[1], image.size[0])
    orientation = _orientation(image)
    rgb = _rgb(image)
    if orientation in _TURNS:
      rgb = rgb.transpose(_TURNS[orientation])
    return np.array(rgb)


def to_rgb(picture_HWC: np.ndarray) -> np.ndarray:
  """Makes RGB of a decoded uint8 picture of 1 (grey), 3, or 4 (with alpha) channels.

  Raises:
    DataError: another number of channels, or another dtype.
  """
  if picture_HWC.dtype != np.uint8 or picture_HWC.shape[-1] not in (1, 3, 4):
    raise errors.DataError(
      f"a picture is uint8 of 1, 3 or 4 channels, not {picture_HWC.dtype}{picture_HWC.shape}"
    )
  if picture_HWC.shape[-1] == 4:
    return np.array(_on_white(PIL.Image.fromarray(picture_HWC, "RGBA")))
  return np.ascontiguousarray(np.broadcast_to(picture_HWC, (*picture_HWC.shape[:2], 3)))


def _rgb(image: PIL.Image.Image) -> PIL.Image.Image:
  if image.mode in _SIXTEEN_BITS:
    values_HW = np.clip(np.asarray(image), 0, 65535).astype(np.uint32)
    return PIL.Image.fromarray(((values_HW + 128) // 257).astype(np.uint8)).convert("RGB")
  if image.mode == "F":
    raise errors.DataError("a picture of floating-point numbers has no known range")
  if image.has_transparency_data:
    return _on_white(image.convert("RGBA"))
  return image.convert("RGB")


def _on_white(image: PIL.Image.Image) -> PIL.Image.Image:
  white = PIL.Image.new("RGBA", image.size, "white")
  return PIL.Image.alpha_composite(white, image).convert("RGB")


def _orientation(image: PIL.Image.Image) -> int:
  with contextlib.suppress(Exception):  # broken EXIF data are no reason not to see the picture
    # Called so, it reads headers only: PNG's own way decodes the picture for EXIF data behind it.
    return int(PIL.Image.Image.getexif(image).get(_ORIENTATION, 1))
  return 1


def _open(source: bytes | str) -> PIL.Image.Image:
  with warnings.catch_warnings():
    warnings.simplefilter("error", PIL.Image.DecompressionBombWarning)
    return PIL.Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)


@contextlib.contextmanager
def _reporting():
  """Damaged files make Pillow raise whatever its parsers stumble over."""
  try:
    yield
  except errors.DataError:
    raise
  except FileNotFoundError:
    raise
  except PIL.UnidentifiedImageError as error:
    raise errors.DataError("not a picture of a known format") from error
  except Exception as error:
    raise errors.DataError(f"damaged picture: {type(error).__name__}: {error}") from error
