"""FLOPs of matrix products and convolutions, two per multiply-add.

XLA for TPUs writes nearly all matrix products as convolutions: batch dims become spatial dims with
a window that touches one element for each output. Counting the taps that meet data tells both
apart.
"""

import dataclasses
import functools
import math
import re

from vidjax.planning import hlo

OPCODES = ("convolution", "dot")


@dataclasses.dataclass(frozen=True)
class Work:
  """What the matrix unit does in an instruction or a fusion.

  Attributes:
    flops: two for each multiply-add. Taps that reach over a picture's border count, since the
      matrix unit multiplies the zeros there; those between the elements of a dilated input do not.
    padded_flops: with channels padded to the width of the matrix unit.
    is_convolution: a window slides; else it is a matrix product.
    count: how many instructions.
  """

  flops: float = 0.0
  padded_flops: float = 0.0
  is_convolution: bool = False
  count: int = 0

  def __add__(self, other: "Work") -> "Work":
    return Work(
      self.flops + other.flops,
      self.padded_flops + other.padded_flops,
      self.is_convolution or other.is_convolution,
      self.count + other.count,
    )


def of_instruction(inside: hlo.Computation, instruction: hlo.Instruction, lanes: int) -> Work:
  """Work of one `convolution` or `dot`.

  Args:
    inside: the computation it stands in.
    instruction: with an opcode of `OPCODES`.
    lanes: width of the matrix unit.
  """
  left, right = (each.arrays[0].dims for each in inside.operands(instruction))
  out = instruction.arrays[0].dims
  if instruction.opcode == "dot":
    contracted = math.prod(left[dim] for dim in _dims(instruction, "lhs_contracting_dims"))
    batch = math.prod(left[dim] for dim in _dims(instruction, "lhs_batch_dims"))
    rows = math.prod(left) // max(1, contracted * batch)
    columns = math.prod(right) // max(1, contracted * batch)
    taps, slides = 1.0, False
  else:
    labels = re.fullmatch(r"(\w+)_(\w+)->(\w+)", instruction.values["dim_labels"])
    assert labels, instruction
    of_left, of_right, of_out = labels.groups()
    groups = int(instruction.values.get("feature_group_count", 1))
    contracted = left[of_left.index("f")] // groups
    rows, columns = out[of_out.index("b")], out[of_out.index("f")]
    taps, slides = 1.0, False
    window = _Window.parse(instruction.values.get("window", ""))
    for number, size in enumerate(window.size):
      digit = str(number)
      outputs = out[of_out.index(digit)]
      assert size == right[of_right.index(digit)], instruction
      along = _taps(
        left[of_left.index(digit)],
        outputs,
        size,
        window.stride[number],
        window.pad[number],
        window.left_dilation[number],
        window.right_dilation[number],
      )
      taps *= along
      slides |= along > 1 and outputs > 1
  flops = 2.0 * math.prod(out) * contracted * taps
  # Either side may be laid along the lanes: the compiler takes the one that wastes less.
  waste = _padding(contracted, lanes) * min(_padding(rows, lanes), _padding(columns, lanes))
  return Work(flops, flops * waste, slides, 1)


def _padding(size: int, lanes: int) -> float:
  return -(-size // lanes) * lanes / size if size else 1.0


def _dims(instruction: hlo.Instruction, key: str) -> list[int]:
  return [int(dim) for dim in re.findall(r"\d+", instruction.values.get(key, ""))]


@dataclasses.dataclass(frozen=True)
class _Window:
  """`window={size=3x3 stride=2x2 pad=1_1x1_1 lhs_dilate=... rhs_dilate=...}`, per spatial dim."""

  size: tuple[int, ...]
  stride: tuple[int, ...]
  pad: tuple[int, ...]  # in front
  left_dilation: tuple[int, ...]
  right_dilation: tuple[int, ...]

  @classmethod
  def parse(cls, text: str) -> "_Window":
    found = dict(part.split("=") for part in text.strip("{}").split())
    size = [int(word) for word in found["size"].split("x")] if found else []

    def each(key: str, default: int) -> tuple[int, ...]:
      if key not in found:
        return (default,) * len(size)
      return tuple(int(word.split("_")[0]) for word in found[key].split("x"))

    return cls(
      tuple(size),
      each("stride", 1),
      each("pad", 0),
      each("lhs_dilate", 1),
      each("rhs_dilate", 1),
    )


@functools.cache
def _taps(
  inputs: int, outputs: int, size: int, stride: int, pad: int, dilation: int, spread: int
) -> float:
  """Taps of a window along one dim that meet data, for an output far from the borders.

  With a dilated input (`dilation` > 1, the gradient of a strided convolution) outputs take turns in
  what they meet: of each turn the fullest output counts, and the turns are averaged.
  """
  turns: dict[int, int] = {}
  period = dilation // math.gcd(stride, dilation)
  for output in range(outputs):
    first = output * stride - pad  # position of tap 0 in the dilated input
    low = max(0, -(first // spread))
    high = min(size - 1, ((inputs - 1) * dilation - first) // spread)
    met = _multiples(first + low * spread, spread, high - low + 1, dilation)
    turn = output % period
    turns[turn] = max(turns.get(turn, 0), met)
  return sum(turns.values()) / max(1, len(turns))


def _multiples(start: int, step: int, count: int, of: int) -> int:
  """How many of `count` numbers start, start + step, ... are multiples of `of`."""
  common = math.gcd(step, of)
  if count <= 0 or start % common:
    return 0
  of, step, start = of // common, step // common, start // common
  first = -start * pow(step, -1, of) % of
  return 0 if first >= count else 1 + (count - 1 - first) // of
