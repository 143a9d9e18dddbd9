"""What our kernels do in one call, in numbers, for their price; needs no JAX."""

from collections.abc import Sequence

LANES = 128  # of a vector register: heads that share one are told apart by masks
GROUP = 16  # positions whose frames are attended to at once: rows of a tile in bfloat16


def temporal_attention(
  shape: Sequence[int], width: int, *, backward: bool
) -> tuple[float, float, float]:
  """What one call does: FLOPs of the reference, FLOPs that the matrix unit does, elementwise work.

  Groups multiply the rows of all their positions, and heads all lanes.

  Args:
    shape: (B, T, S, C) of the queries.
    width: D.
    backward: of the gradient, which computes the weights again.
  """
  batch, frames, positions, channels = shape
  products, elementwise = (5, 18) if backward else (2, 10)
  groups = batch * -(-positions // GROUP) * -(-channels // LANES) * (LANES // width)
  pairs = groups * (frames * GROUP) ** 2
  reference = 2.0 * products * batch * frames**2 * positions * channels
  return reference, 2.0 * products * pairs * LANES, float(elementwise * pairs)
