"""What the loop says of each step, one step late."""

import time
from typing import Any

import jax
import numpy as np

from vidjax import errors
from vidjax.config import TrainConfig
from vidjax.observe.writers import Discarded, MetricsWriter

# Consecutive steps whose loss or gradient is not finite before the run gives up.
MAX_CONSECUTIVE_SKIPS = 10


class Meter:
  """Reads metrics one step late, so that the device never waits for the host."""

  def __init__(self, config: TrainConfig, writer: MetricsWriter | Discarded):
    self._config, self._writer = config, writer
    self._pending: tuple[int, dict[str, jax.Array], dict[str, Any]] | None = None
    self._logged_step, self._logged_at = None, time.perf_counter()
    self._waited, self._skips, self._skipped_before = 0.0, 0, 0
    self.last = ""  # the newest loss that is known, for people

  def push(
    self, step: int, metrics: dict[str, jax.Array], notes: dict[str, Any], waited: float
  ) -> None:
    """Takes the metrics of `step`, which may still be computed; logs the step before."""
    self._waited += waited
    self.flush()
    self._pending = (
      step,
      metrics,
      {"sample_ids_hash": notes["sample_ids_hash"], "rejected_clips": notes["rejected_clips"]},
    )

  def flush(self) -> None:
    """Waits for the pending step and logs it where it is due."""
    if self._pending is None:
      return
    (step, device_metrics, extra), self._pending = self._pending, None
    metrics = jax.device_get(device_metrics)
    self.last = f"loss {float(metrics['loss']):.4f}"
    skipped = int(metrics["skipped_steps"])
    self._skips = self._skips + 1 if skipped > self._skipped_before else 0
    self._skipped_before = skipped
    if step % self._config.log_every_steps == 0 or step == self._config.total_steps or step == 1:
      self._log(step, metrics, extra)
    if self._skips >= MAX_CONSECUTIVE_SKIPS:
      raise errors.NonFiniteError(
        f"loss or gradient was not finite in {self._skips} steps in a row, until step {step}:"
        " lower optimizer.learning_rate, or resume from an earlier checkpoint"
      )

  def _log(self, step: int, metrics: dict[str, Any], extra: dict[str, Any]) -> None:
    now = time.perf_counter()
    count = step - self._logged_step if self._logged_step is not None else 1
    seconds = (now - self._logged_at) / count
    row = {name: np.asarray(value).tolist() for name, value in metrics.items()}
    row |= {
      "samples": step * self._config.batch_size,
      "step_seconds": seconds,
      "data_wait_seconds": self._waited / count,
      "clips_per_second": self._config.batch_size / seconds,
      "tflops_per_device": None,
      "mfu": None,  # null until the model's FLOPs are counted and the chip's peak is known
    }
    self._writer.write(step, row | extra)
    self._logged_step, self._logged_at, self._waited = step, now, 0.0
