"""Videos in NumPy files: one of (T, H, W, 3) uint8, or many of one length, (N, T, H, W, 3).

What a file holds is read from its header, and of its frames only those that are taken; a file of a
whole set may be larger than the memory.

Legend: N videos, T frames, H W height and width in pixels, C colours (RGB).
"""

from collections.abc import Iterator
import contextlib
import dataclasses
from typing import BinaryIO, cast
import zipfile
import zlib

import numpy as np

from vidjax import errors, packed, storage
from vidjax.data import limits
from vidjax.evaluation.datasets import stored
from vidjax.evaluation.datasets.items import Clip, ClipRule

SUFFIXES = frozenset([".npy", ".npz"])
DECODER = f"NumPy {np.__version__} (pixels as stored)"
_LAYOUT = "videos are uint8 of the shape (T, H, W, 3), or (N, T, H, W, 3) for many in one file"
_MAX_HEADER = 4096  # bytes; that of five numbers has 128


@dataclasses.dataclass(frozen=True)
class Header:
  """What a file says of its array.

  Attributes:
    member: name of the array in an .npz file; "" for .npy.
    start: bytes before the first pixel.
    shape: (N, T, H, W, 3); N is 1 for a file of one video.
    many: whether the file itself says N.
  """

  member: str
  start: int
  shape: tuple[int, ...]
  many: bool


@dataclasses.dataclass(frozen=True)
class ArrayFile:
  """A video in a file of arrays.

  Attributes:
    path: local or remote.
    header: of the file.
    number: of the video in it.
    fps: None where it is not known.
  """

  path: str
  header: Header
  number: int = 0
  fps: float | None = None

  @property
  def place(self) -> str:
    """The file, and the number of the video where it holds many."""
    return f"{self.path}[{self.number}]" if self.header.many else self.path

  def read(self, rule: ClipRule, item_id: str) -> Clip | None:
    """See `vidjax.evaluation.datasets.items.read_clip`."""
    with _opened(self.path, self.header.member) as file:
      return stored.of_frames(
        self.place,
        self.header.shape[1],
        lambda number: self._frame(file, number),
        self.fps,
        rule,
        item_id,
        DECODER,
      )

  def _frame(self, file: BinaryIO, number: int) -> np.ndarray:
    _, count, height, width, channels = self.header.shape
    size = height * width * channels
    try:
      file.seek(self.header.start + (self.number * count + number) * size)
      content = file.read(size)
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
      raise errors.DataError(f"{self.path} cannot be read: {error}") from error
    if len(content) != size:
      raise errors.DataError(f"{self.place} ends before frame {number}: it is cut short")
    return np.frombuffer(content, np.uint8).reshape(height, width, channels)


def read_header(path: str) -> Header:
  """Reads what a file of arrays holds, and none of its pixels.

  Raises:
    DataError: it is no such file, or its array has another dtype or layout; the message says which.
  """
  member = _member(path) if path.lower().endswith(".npz") else ""
  with _opened(path, member) as file:
    try:
      version = np.lib.format.read_magic(file)
      read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
      }[version]
      shape, fortran, dtype = read(file, max_header_size=_MAX_HEADER)
      start = file.tell()
    except (ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile, zlib.error) as error:
      raise errors.DataError(f"{path} is not a file of NumPy arrays: {error}") from error
  if dtype != np.uint8:
    raise errors.DataError(
      f"{path} holds {dtype} of the shape {shape}; {_LAYOUT}. Numbers of another type have no range"
      " that is known: convert them, [0, 1] by round(255 x)"
    )
  if len(shape) not in (4, 5) or shape[-1] != 3 or min(shape) < 1:
    raise errors.DataError(f"{path} holds uint8 of the shape {shape}; {_LAYOUT}")
  if fortran:
    raise errors.DataError(
      f"{path} is stored in Fortran order, column by column: store numpy.ascontiguousarray of it"
    )
  *outer, count, height, width, channels = shape
  limits.check(path, height, width)
  return Header(member, start, (*(outer or [1]), count, height, width, channels), bool(outer))


def _member(path: str) -> str:
  """Name of the one array in an .npz file."""
  with _archive(path) as archive:
    names = [info.filename for info in archive.infolist() if info.filename.endswith(".npy")]
    if len(names) != 1:
      found = ", ".join(name.removesuffix(".npy") for name in names[:5])
      raise errors.DataError(
        f"{path} holds {len(names)} arrays ({found}): keep the one of the videos"
      )
    info = archive.getinfo(names[0])
    packed.check_size(path, info.compress_size, info.file_size, errors.DataError)
    return names[0]


@contextlib.contextmanager
def _archive(path: str) -> Iterator[zipfile.ZipFile]:
  with storage.open_read(path) as file:
    try:
      archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, OSError) as error:
      raise errors.DataError(f"{path} is not an .npz file: {error}") from error
    with archive:
      yield archive


@contextlib.contextmanager
def _opened(path: str, member: str) -> Iterator[BinaryIO]:
  """The .npy stream of a file, or of a member of an archive; seekable."""
  if not member:
    with storage.open_read(path) as file:
      yield file
    return
  with _archive(path) as archive:
    try:
      stream = archive.open(member)
    except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError) as error:
      raise errors.DataError(f"{path} cannot be read: {error}") from error
    with stream:
      yield cast(BinaryIO, stream)
