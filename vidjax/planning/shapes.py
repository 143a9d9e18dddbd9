"""Array types in HLO text, and the bytes that they take in a TPU's memory.

A type reads `bf16[14,720,320]{2,1,0:T(8,128)(2,1)S(1)}`: element type, sizes, dims from minor to
major, tiles, memory space. The dims that a tile covers are padded to its multiples, so that a
channel count of 320 takes the room of 384. Memory space 0 (not written) is HBM, 1 is the core's
vector memory, 5 the host's; the others are registers and semaphores.
"""

import dataclasses
import math
import re

HBM = 0
HOST = 5

_BITS = {
  "pred": 8,  # one byte each, as in memory
  "s2": 2, "u2": 2, "s4": 4, "u4": 4, "s8": 8, "u8": 8, "s16": 16, "u16": 16,
  "s32": 32, "u32": 32, "s64": 64, "u64": 64,
  "bf16": 16, "f16": 16, "f32": 32, "f64": 64, "c64": 64, "c128": 128,
}  # fmt: skip
_ARRAY = re.compile(r"\b([a-z]+\d*(?:e\d+m\d+\w*)?)\[([\d,<=?]*)\](?:\{([^{}]*)\})?")


@dataclasses.dataclass(frozen=True)
class Array:
  """One array of an HLO type.

  Attributes:
    dtype: as HLO writes it, "bf16".
    dims: logical sizes.
    minor_to_major: dims by falling stride-1-ness; empty where the text gives no layout.
    tile: the first (outermost) tile, over the most minor dims; empty without one.
    space: memory space, `HBM` unless written.
  """

  dtype: str
  dims: tuple[int, ...]
  minor_to_major: tuple[int, ...] = ()
  tile: tuple[int, ...] = ()
  space: int = HBM

  @property
  def size(self) -> int:
    """Number of elements, without padding."""
    return math.prod(self.dims)

  @property
  def physical_bytes(self) -> int:
    """Bytes in memory, padded to whole tiles."""
    sizes = list(self.dims)
    # The last number of a tile belongs to the most minor dim. Tiles inside the first one reorder
    # its elements and pad nothing more.
    for dim, tile in zip(self.minor_to_major, reversed(self.tile), strict=False):
      sizes[dim] = -(-sizes[dim] // tile) * tile
    return -(-math.prod(sizes) * self._bits // 8)

  @property
  def hbm_bytes(self) -> int:
    """`physical_bytes` if the array lives in HBM, else 0: on-chip memory costs no bandwidth."""
    return self.physical_bytes if self.space == HBM else 0

  @property
  def _bits(self) -> int:
    if self.dtype.startswith("f8"):
      return 8
    if self.dtype.startswith("f4"):
      return 4
    return _BITS[self.dtype]

  def __str__(self):
    return f"{self.dtype}[{','.join(map(str, self.dims))}]"


def parse(text: str) -> tuple[Array, ...]:
  """All arrays of an HLO type, tuples flattened; tokens and opaque values are no arrays."""
  return tuple(
    _array(dtype, sizes, layout)
    for dtype, sizes, layout in _ARRAY.findall(text)
    if dtype in _BITS or re.match(r"f[48]e", dtype)
  )


def _array(dtype: str, sizes: str, layout: str) -> Array:
  dims = tuple(int(size.strip("<=?") or 1) for size in sizes.split(",") if size)
  order, _, attributes = layout.partition(":")
  tile = re.search(r"T\(([\d,]+)\)", attributes)
  space = re.search(r"S\((\d+)\)", attributes)
  return Array(
    dtype,
    dims,
    tuple(int(dim) for dim in order.split(",") if dim),
    tuple(int(size) for size in tile.group(1).split(",")) if tile else (),
    int(space.group(1)) if space else HBM,
  )
