"""What the loop says of each step, `LAG` steps late."""

import collections
from collections.abc import Callable, Iterator
import contextlib
import dataclasses
import time
from typing import Any

import jax

from vidjax import flops
from vidjax.config import TrainConfig
from vidjax.observe.goodput import Ledger
from vidjax.observe.writers import Discarded, MetricsWriter

# Steps that are dispatched before the host waits for the first of them. While it waits, one runs
# and one is queued, so that what the host does between two steps may take as long as a step. A
# longer queue would make an orderly stop later. A run that goes back does so `LAG` steps after the
# last that counts. The host waits at the same steps in all processes.
LAG = 2

# Of every step; the others only of those that are logged.
_NEEDED = ("loss", "grad_norm", "skip_cause", "skipped_steps")
_NOTES = ("sample_ids_hash", "rejected_clips", "damaged_checkpoints")


@dataclasses.dataclass(frozen=True)
class Reading:
  """What is known of one step.

  Attributes:
    step: number of updates, this one included.
    cause: why it was skipped, by the number in the step's `skip_cause`; 0 if it was not.
    loss: as computed; may be NaN.
    grad_norm: likewise.
    sample_ids_hash: of its batch.
  """

  step: int
  cause: int
  loss: float
  grad_norm: float
  sample_ids_hash: str


@dataclasses.dataclass
class _Pending:
  """A step that may still be computed, or `ended` then, by the host's clock."""

  step: int
  metrics: dict[str, Any]
  notes: dict[str, Any]
  waited: float
  flops: int | None
  ended: float | None = None


class Meter:
  """Reads metrics late, so that the device never waits for the host.

  Args:
    config: of the run.
    writer: of the rows that are due.
    ledger: of the run's time.
    devices: number of devices in the mesh.
    peak_flops: of one device, FLOP/s; None where it is not known.
    note: called with what is known of each step; what it raises ends the loop.
  """

  def __init__(
    self,
    config: TrainConfig,
    writer: MetricsWriter | Discarded,
    ledger: Ledger,
    *,
    devices: int,
    peak_flops: float | None,
    note: Callable[[Reading], None],
  ):
    self._config, self._writer, self._ledger = config, writer, ledger
    self._devices, self._peak_flops = devices, peak_flops
    self._pending: collections.deque[_Pending] = collections.deque()
    self._note = note
    self._ended = time.perf_counter()  # when a step ended last
    self._since = self._ended  # when the step of the newest row ended
    self._waited = 0.0  # since then
    self._flops: list[int | None] = []  # of each step since then
    self.last = ""  # the newest loss that is known, for people

  def push(
    self,
    step: int,
    metrics: dict[str, jax.Array],
    notes: dict[str, Any],
    *,
    waited: float,
    flops: int | None,
  ) -> None:
    """Takes the metrics of `step`, which may still be computed; reads those of `step - LAG`.

    Args:
      step: number of updates, this one included.
      metrics: by name, on the devices.
      notes: of the batch.
      waited: seconds that the loop waited for the batch.
      flops: of the model in this step, all devices; None if it is not counted.
    """
    self._look()
    if not self._due(step):
      metrics = {name: metrics[name] for name in _NEEDED}
    with jax.transfer_guard_device_to_host("allow"):  # begins as soon as the step has ended
      for value in jax.tree.leaves(metrics):
        value.copy_to_host_async()
    notes = {name: notes[name] for name in _NOTES if name in notes}
    self._pending.append(_Pending(step, metrics, notes, waited, flops))
    if len(self._pending) > LAG:
      self._read()

  def flush(self) -> None:
    """Waits for all steps, and logs those that are due."""
    self._look()
    while self._pending:
      self._read()

  def forget(self) -> None:
    """Drops steps that are not read yet: the run goes back to before them."""
    self._pending.clear()
    self._ended = self._since = time.perf_counter()
    self._waited, self._flops = 0.0, []

  @contextlib.contextmanager
  def aside(self, phase: str) -> Iterator[None]:
    """For what is not training: steps end before it, and its time is not theirs."""
    self.flush()
    began = time.perf_counter()
    with self._ledger.phase(phase):
      yield
    passed = time.perf_counter() - began
    self._since, self._ended = self._since + passed, self._ended + passed

  def _due(self, step: int) -> bool:
    every, last = self._config.log_every_steps, self._config.total_steps
    return step % every == 0 or step in (1, last)

  def _look(self) -> None:
    """Notes which steps have ended: where the host is the slower, before they are read.

    Those that are found together share the time since the one before.
    """
    found = [p for p in self._pending if p.ended is None and p.metrics["loss"].is_ready()]
    if found:
      before, now = self._ended, time.perf_counter()
      for number, pending in enumerate(found, 1):
        pending.ended = before + (now - before) * number / len(found)
      self._ended = now

  def _read(self) -> None:
    pending = self._pending.popleft()
    metrics = jax.device_get(pending.metrics)
    if pending.ended is None:
      pending.ended = self._ended = time.perf_counter()
    self.last = f"loss {float(metrics['loss']):.4f}"
    self._waited += pending.waited
    self._flops.append(pending.flops)
    self._ledger.step_ended(pending.step)
    if self._due(pending.step):
      self._log(pending.step, pending.ended, metrics, pending.notes)
      self._ledger.note()
    self._note(_reading(pending.step, metrics, pending.notes))

  def _log(self, step: int, ended: float, metrics: dict[str, Any], notes: dict[str, Any]) -> None:
    steps, passed = len(self._flops), ended - self._since
    known = [n for n in self._flops if n is not None]
    rates = flops.rates(sum(known), passed, self._devices, self._peak_flops)
    row = {name: value for name, value in metrics.items() if name != "skip_cause"} | {
      "samples": step * self._config.batch_size,
      "step_seconds": passed / steps,
      "data_wait_seconds": self._waited / steps,
      "clips_per_second": steps * self._config.batch_size / passed,
      **(rates if len(known) == steps else dict.fromkeys(rates)),
    }
    self._writer.write(step, row | notes)
    self._since, self._waited, self._flops = ended, 0.0, []


def _reading(step: int, metrics: dict[str, Any], notes: dict[str, Any]) -> Reading:
  """What the guard's metrics, on the host, say of a step."""
  return Reading(
    step,
    int(metrics["skip_cause"]),
    float(metrics["loss"]),
    float(metrics["grad_norm"]),
    notes["sample_ids_hash"],
  )
