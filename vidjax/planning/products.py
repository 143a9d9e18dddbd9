"""FLOPs of one call of a module, forward."""

from collections.abc import Sequence
import functools
from typing import Any

from vidjax import flops
from vidjax.planning.pieces import Call


@functools.cache
def count(call: Call) -> float:
  """Of its matrix products and convolutions, two per multiply-add; see `vidjax.flops`."""

  def forward(values: Sequence[Any], arrays: Sequence[Any]) -> Any:
    return call.forward(list(values), list(arrays))

  return float(flops.step_flops(forward, call.parameters, call.arrays).forward)
