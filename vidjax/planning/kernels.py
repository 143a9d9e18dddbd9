"""Work of hand-written (Pallas) kernels, which XLA knows nothing about.

A kernel's price is given by who wrote it, from the plain-JAX reference that it replaces and what
the matrix unit has to do for it. Splash attention and our own kernels (`vidjax.nn.kernels`) are
recognized by their names and counted from their operands. What a kernel says of itself
(`cost_estimate`) is not believed.
"""

from collections.abc import Mapping
import dataclasses
import math
import re

from vidjax.nn.kernels import work
from vidjax.planning import hlo

TARGET = "tpu_custom_call"
# Custom calls that only name or place a buffer.
FREE_TARGETS = (
  "AllocateBuffer",
  "AssumeGatherIndicesInBound",
  "ConcatBitcast",
  "SPMDFullToShardShape",
  "SPMDShardToFullShape",
  "Sharding",
)


@dataclasses.dataclass(frozen=True)
class KernelPrice:
  """Work of one call of a kernel, counted on its plain-JAX reference.

  Attributes:
    matrix_flops: in matrix products, two per multiply-add.
    vector_flops: elementwise operations.
    padded_flops: `matrix_flops` with channels padded to the matrix unit; None for no padding.
  """

  matrix_flops: float
  vector_flops: float = 0.0
  padded_flops: float | None = None


def price(
  inside: hlo.Computation,
  instruction: hlo.Instruction,
  prices: Mapping[str, KernelPrice],
  lanes: int,
) -> KernelPrice | None:
  """Price of the kernel that `instruction` calls, None if there is none.

  Args:
    inside: the computation it stands in.
    instruction: a custom call of `TARGET`.
    prices: regular expression, searched for in the instruction's name and the op's -> price.
    lanes: width of the matrix unit.
  """
  name = f"{instruction.name} {instruction.op_name}"
  for pattern, given in prices.items():
    if re.search(pattern, name):
      return given
  return _splash(inside, instruction, name, lanes) or _temporal(inside, instruction, name)


def _splash(
  inside: hlo.Computation, instruction: hlo.Instruction, name: str, lanes: int
) -> KernelPrice | None:
  """JAX's splash or flash attention; its masks are taken as full.

  Matrix products of size queries x keys x channels: 2 forward (logits, output), 3 for the gradient
  of the queries (logits again, that of the weights, that of the queries), 4 for keys and values, 5
  where one kernel makes all three gradients.
  """
  part = re.search(r"(?:splash|flash)\w*?_(fwd|dkv|dq)", name)
  inputs = [
    array.dims
    for each in inside.operands(instruction)
    for array in each.arrays
    if array.dtype in ("bf16", "f32") and len(array.dims) >= 3 and 32 <= array.dims[-1] <= 512
  ]
  if not part or len(inputs) < 2:
    return None
  query, key = inputs[:2]
  products = {"fwd": 2, "dq": 3, "dkv": 5 if len(instruction.arrays) >= 3 else 4}[part.group(1)]
  pairs = 2.0 * products * math.prod(query[:-2]) * query[-2] * key[-2]
  return KernelPrice(pairs * query[-1], padded_flops=pairs * max(query[-1], lanes))


def _temporal(
  inside: hlo.Computation, instruction: hlo.Instruction, name: str
) -> KernelPrice | None:
  """`vidjax.nn.kernels.temporal_attention`: the width of a head is in the name."""
  found = re.search(r"temporal_attention_(forward|backward)_(\d+)", name)
  if not found:
    return None
  shape = next(iter(inside.operands(instruction))).arrays[0].dims
  is_backward = found.group(1) == "backward"
  matrix, padded, vector = work.temporal_attention(shape, int(found[2]), backward=is_backward)
  return KernelPrice(matrix, vector, padded)
