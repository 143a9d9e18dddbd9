"""Seconds, FLOPs and bytes of one step from the optimized HLO text that XLA compiled for a TPU."""

from collections.abc import Mapping
import dataclasses

from vidjax.planning.topology import Topology


@dataclasses.dataclass(frozen=True)
class KernelPrice:
  """Work of one call of a hand-written (Pallas) kernel, counted on its plain-JAX reference.

  Attributes:
    matrix_flops: in matrix products, two per multiply-add, padding to the matrix unit included.
    vector_flops: elementwise operations.
  """

  matrix_flops: float
  vector_flops: float = 0.0


@dataclasses.dataclass(frozen=True)
class CollectiveCost:
  """All collectives of one kind in the program.

  Attributes:
    count: how often one runs.
    bytes: of the full array: gathered, or before it is reduced or exchanged; summed.
    seconds: on the network.
    exposed_seconds: of these, how many no computation hides.
  """

  count: int
  bytes: float
  seconds: float
  exposed_seconds: float


@dataclasses.dataclass(frozen=True)
class Cost:
  """Of one run of the program, for one device.

  Attributes:
    seconds: the estimate.
    low_seconds: roofline: each instruction at the peak rate of the unit that limits it.
    high_seconds: XLA's own cycle counts, which are pessimistic, added up. Neither bound holds
      exposed collectives, so that `seconds` can exceed `high_seconds`.
    matrix_flops: of dots and convolutions, two per multiply-add, recomputation included.
    bytes_accessed: read from and written to HBM, in the physical (tile-padded) layout.
    by_kind: seconds of "conv", "dot", "elementwise", "reduce", "copy", "kernel" and
      "exposed ..." for what is waited for; they add up to `seconds`.
    collectives: kind ("all-gather", ...) -> cost.
    top_ops: (name, kind, seconds, count) by falling seconds; equal names are one entry.
    assumed_seconds: the part of `seconds` in kernels, priced by assumption.
    unpriced: what is not in `seconds`, since no price is known -> occurrences.
  """

  seconds: float
  low_seconds: float
  high_seconds: float
  matrix_flops: float
  bytes_accessed: float
  by_kind: dict[str, float]
  collectives: dict[str, CollectiveCost]
  top_ops: list[tuple[str, str, float, int]]
  assumed_seconds: float
  unpriced: dict[str, int]


def price(
  hlo_text: str, topology: Topology, kernel_prices: Mapping[str, KernelPrice] | None = None
) -> Cost:
  """Prices `compiled.as_text()` of a program compiled for `topology`.

  Args:
    hlo_text: optimized, scheduled HLO.
    topology: what it was compiled for.
    kernel_prices: regular expression of a kernel's name -> work of one call.

  Raises:
    ValueError: the text is no scheduled HLO module.
  """
  raise NotImplementedError
