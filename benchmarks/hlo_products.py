"""The matrix FLOPs that a compiled program holds, read from its text."""

import math
import re
from typing import Any

# `%name = f32[2,3]{1,0} opcode(operands), attributes`; tuples have no single shape and are no
# operands of products.
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.\-]+) = \w+\[([\d,]*)\]\S* ([\w\-]+)\((.*)$")


def flops(program: Any) -> int:
  """Two for each multiply-add of `dot` and `convolution` instructions of a compiled program.

  A convolution has all its taps at each output, also those on padding, and none for the holes of a
  dilated input. Bodies of loops count once.
  """
  shapes, found = {}, []
  for line in program.as_text().splitlines():
    match = _INSTRUCTION.match(line)
    if match:
      name, dims, opcode, rest = match.groups()
      shapes[name] = [int(dim) for dim in dims.split(",") if dim]
      if opcode in ("dot", "convolution"):
        found.append((opcode, shapes[name], rest))
  total = 0
  for opcode, out, rest in found:
    left, right = (shapes[name] for name in re.findall(r"%([\w.\-]+)", rest)[:2])
    count = _dot if opcode == "dot" else _convolution
    total += 2 * math.prod(out) * count(left, right, out, rest)
  return total


def _dot(left: list[int], _right: list[int], _out: list[int], rest: str) -> int:
  contracted = re.search(r"lhs_contracting_dims={([\d,]*)}", rest)
  assert contracted is not None, rest
  return math.prod(left[int(dim)] for dim in contracted[1].split(",") if dim)


def _convolution(left: list[int], right: list[int], out: list[int], rest: str) -> float:
  """Multiply-adds of one output."""
  labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", rest)
  assert labels is not None, rest
  of_left, of_right, of_out = labels.groups()
  window = dict(re.findall(r"(size|stride|pad|lhs_dilate|rhs_dilate)=([\dx_\-]+)", rest))
  count = right[of_right.index("i")]
  for k, size in enumerate(int(n) for n in window.get("size", "").split("x") if n):

    def setting(name: str, default: str, k: int = k) -> str:
      return window[name].split("x")[k] if name in window else default

    ins, outs = left[of_left.index(str(k))], out[of_out.index(str(k))]
    holes, apart = int(setting("lhs_dilate", "1")), int(setting("rhs_dilate", "1"))
    stride, before = int(setting("stride", "1")), int(setting("pad", "0_0").split("_")[0])
    read = [(o * stride + t * apart - before) for o in range(outs) for t in range(size)]
    valid = sum(at >= 0 and at % holes == 0 and at // holes < ins for at in read)
    # A batch of products is written as a window that finds one input at each output.
    count *= 1 if valid == outs else size / holes
  return count
