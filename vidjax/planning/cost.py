"""What a program costs: the result of pricing, and the sums that lead to it."""

import collections
import dataclasses
from typing import TypeVar

_Key = TypeVar("_Key")
TOP = 30  # operations that a cost lists by name


@dataclasses.dataclass(frozen=True)
class CollectiveCost:
  """All collectives of one kind in the program.

  Attributes:
    count: how often one runs.
    bytes: of the full array (gathered, or before it is reduced or exchanged), summed.
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
    collectives: kind ("all-gather", ...; "dcn all-reduce", ... between slices) -> cost.
    top_ops: (name, kind, seconds, count) by falling seconds; equal names are one entry.
    assumed_seconds: the part of `seconds` priced by assumption: kernels, and what is waited for
      from other slices and from the host's memory.
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


class Tally:
  """Sums while a computation is priced. `add` takes in that of a part which runs several times."""

  def __init__(self):
    self.seconds = self.low = self.high = self.flops = self.bytes = self.assumed = 0.0
    self.kinds: dict[str, float] = collections.defaultdict(float)
    self.ops: dict[tuple[str, str], float] = collections.defaultdict(float)
    self.op_counts: dict[tuple[str, str], int] = collections.defaultdict(int)
    self.unpriced: dict[str, int] = collections.defaultdict(int)
    # (kind of collective, "count" | "bytes" | "seconds" | "exposed") -> sum
    self.network: dict[tuple[str, str], float] = collections.defaultdict(float)

  def spend(self, kind: str, seconds: float):
    """Time in which nothing else goes on."""
    self.seconds += seconds
    self.kinds[kind] += seconds

  def operation(self, name: str, kind: str, seconds: float):
    """One computing instruction."""
    self.spend(kind, seconds)
    self.ops[name, kind] += seconds
    self.op_counts[name, kind] += 1

  def work(self, *, low: float, high: float, flops: float, bytes_: float):
    """What an instruction does, and the bounds of its seconds."""
    self.low += low
    self.high += high
    self.flops += flops
    self.bytes += bytes_

  def transfer(self, kind: str, bytes_: float, seconds: float):
    """One collective begins."""
    self.network[kind, "count"] += 1
    self.network[kind, "bytes"] += bytes_
    self.network[kind, "seconds"] += seconds

  def wait(self, kind: str, seconds: float, *, collective: bool, assumed: bool):
    """Nothing computes until a transfer is done."""
    self.spend(f"exposed {kind}", seconds)
    if collective:
      self.network[kind, "exposed"] += seconds
    if assumed:
      self.assumed += seconds

  def add(self, other: "Tally", times: int = 1):
    """Takes in `other`, run `times` times."""
    for name in ("seconds", "low", "high", "flops", "bytes", "assumed"):
      setattr(self, name, getattr(self, name) + times * getattr(other, name))
    for name in ("kinds", "ops", "op_counts", "unpriced", "network"):
      mine = getattr(self, name)
      for key, value in getattr(other, name).items():
        mine[key] += times * value

  def cost(self) -> Cost:
    """The sums as a `Cost`."""
    return Cost(
      seconds=self.seconds,
      low_seconds=self.low,
      high_seconds=self.high,
      matrix_flops=self.flops,
      bytes_accessed=self.bytes,
      by_kind={kind: seconds for kind, seconds in _falling(self.kinds) if seconds},
      collectives={
        kind: CollectiveCost(
          int(self.network[kind, "count"]),
          self.network[kind, "bytes"],
          self.network[kind, "seconds"],
          self.network[kind, "exposed"],
        )
        for kind, what in sorted(self.network)
        if what == "count"
      },
      top_ops=[
        (name, kind, seconds, self.op_counts[name, kind])
        for (name, kind), seconds in _falling(self.ops)[:TOP]
      ],
      assumed_seconds=self.assumed,
      unpriced=dict(self.unpriced),
    )


def _falling(sums: dict[_Key, float]) -> list[tuple[_Key, float]]:
  return sorted(sums.items(), key=lambda item: -item[1])
