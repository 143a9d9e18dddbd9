"""Metrics are read late and in order, every step is judged, and FLOPs become MFU."""

import jax
import jax.numpy as jnp
import pytest

from vidjax import config as configs
from vidjax import storage
from vidjax.observe import meter as meters
from vidjax.observe import writers
from vidjax.observe.goodput import Ledger
from vidjax.observe.meter import LAG, Meter, Reading

NOTES = {"sample_ids_hash": "ab", "rejected_clips": 0, "captions": ["unused"]}


class Rows:
  """A writer that keeps what it is given."""

  def __init__(self):
    self.rows = {}

  def write(self, step, metrics):
    self.rows[step] = {name: writers._plain(value) for name, value in metrics.items()}


def make(tmp_path, *, every=1, total=100, devices=1, peak=None, note=lambda reading: None):
  config = configs.TrainConfig(
    total_samples=4 * total,
    batch_size=4,
    log_every_steps=every,
    data=configs.DataConfig(path="none"),
  )
  writer, ledger = Rows(), Ledger(storage.Path(tmp_path), 1)
  meter = Meter(config, writer, ledger, devices=devices, peak_flops=peak, note=note)
  return meter, writer.rows


def of_step(step, cause=0):
  norm = jnp.float32(2 * step)
  counts = {"skip_cause": jnp.int32(cause), "skipped_steps": jnp.int32(0)}
  return {"loss": jnp.float32(step), "grad_norm": norm} | counts


def push(meter, step, *, cause=0, flops=None, waited=0.0, **more):
  metrics = of_step(step, cause)
  metrics |= {name: jnp.float32(value) for name, value in more.items()}
  meter.push(step, metrics, NOTES, waited=waited, flops=flops)


def test_rows_come_in_order_and_so_many_steps_late(tmp_path):
  meter, rows = make(tmp_path)
  for step in range(1, 8):
    push(meter, step)
    assert list(rows) == list(range(1, step - LAG + 1))
    assert meter.last == (f"loss {step - LAG:.4f}" if step > LAG else "")
  meter.flush()
  assert list(rows) == list(range(1, 8))
  assert [float(row["loss"]) for row in rows.values()] == list(range(1, 8))
  assert rows[3]["samples"] == 12
  assert "captions" not in rows[3]


def test_only_due_rows_are_written_and_the_last_one_is(tmp_path):
  meter, rows = make(tmp_path, every=5, total=13)
  for step in range(1, 14):
    push(meter, step, **{"grad_norm/mid": step})
  meter.flush()
  assert list(rows) == [1, 5, 10, 13]
  assert float(rows[10]["grad_norm/mid"]) == 10


def test_every_step_is_judged_though_none_is_logged(tmp_path):
  judged = []
  meter, rows = make(tmp_path, every=1000, total=1000, note=judged.append)
  for step in range(1, 8):
    push(meter, step, cause=step % 3)
    assert len(judged) == max(0, step - LAG)
  meter.flush()
  assert judged == [Reading(s, s % 3, float(s), 2.0 * s, "ab") for s in range(1, 8)]
  assert list(rows) == [1]
  assert "skip_cause" not in rows[1]


def test_what_the_judge_raises_ends_the_loop_also_at_its_end(tmp_path):
  def note(reading):
    if reading.step == 3:
      raise ZeroDivisionError

  meter, _ = make(tmp_path, note=note)
  for step in range(1, 3 + LAG):
    push(meter, step)
  with pytest.raises(ZeroDivisionError):
    meter.flush()


def test_steps_that_were_not_read_are_forgotten_when_the_run_goes_back(tmp_path):
  judged = []
  meter, rows = make(tmp_path, note=lambda reading: judged.append(reading.step))
  for step in range(1, 6):
    push(meter, step)
  meter.forget()
  for step in range(2, 5):
    push(meter, step)
  meter.flush()
  assert judged == [1, 2, 3, 2, 3, 4]
  assert list(rows) == [1, 2, 3, 4]


def test_a_step_is_not_waited_for_before_others_are_dispatched(tmp_path, monkeypatch):
  """Reading is what waits: no step is read before `LAG` others were given."""
  read, given = [], []
  get = jax.device_get
  monkeypatch.setattr(
    meters.jax, "device_get", lambda m: (read.append((int(m["loss"]), len(given))), get(m))[1]
  )
  meter, _ = make(tmp_path, every=4)
  for step in range(1, 10):
    given.append(step)
    push(meter, step)
  assert read == [(step, step + LAG) for step in range(1, 10 - LAG)]


def test_explicit_transfers_only(tmp_path):
  meter, rows = make(tmp_path)
  values = [of_step(step) for step in range(4)]
  with jax.transfer_guard("disallow"):
    for step, metrics in enumerate(values, 1):
      meter.push(step, metrics, NOTES, waited=0.0, flops=None)
    meter.flush()
  assert len(rows) == 4


def clock(monkeypatch):
  """Time that passes only when a test says so."""
  now = {"s": 100.0}
  monkeypatch.setattr(meters.time, "perf_counter", lambda: now["s"])
  return now


@pytest.mark.parametrize("hidden", [False, True], ids=["slow host", "slow device"])
def test_flops_of_unlike_steps_become_utilization(tmp_path, monkeypatch, hidden):
  """Whether a step is seen to have ended at the next one, or only when it is waited for."""
  now = clock(monkeypatch)
  meter, rows = make(tmp_path, every=4, devices=2, peak=100e12)
  if hidden:
    monkeypatch.setattr(meter, "_look", lambda: None)
  for step in range(1, 12):
    push(meter, step, flops=40e12 if step % 2 else 20e12, waited=0.125)
    now["s"] += 0.5
  meter.flush()
  # Steps 5 to 8: four of them, 120 TFLOP, two devices, four half seconds.
  assert rows[8]["step_seconds"] == pytest.approx(0.5)
  assert rows[8]["data_wait_seconds"] == 0.125
  assert rows[8]["clips_per_second"] == pytest.approx(8.0)
  assert rows[8]["tflops_per_device"] == pytest.approx(120 / 2 / 2.0)
  assert rows[8]["mfu"] == pytest.approx(0.3)


def test_unknown_is_null(tmp_path, monkeypatch):
  now = clock(monkeypatch)
  meter, rows = make(tmp_path, every=2)
  for step, flops in enumerate([4e12, 4e12, None, 4e12, 4e12, 4e12], 1):
    push(meter, step, flops=flops)
    now["s"] += 1.0
  meter.flush()
  assert rows[2]["tflops_per_device"] == pytest.approx(4.0)
  assert rows[4]["tflops_per_device"] is None  # not counted for one of the steps
  assert rows[6]["tflops_per_device"] == pytest.approx(4.0)
  assert all(row["mfu"] is None for row in rows.values())  # the chip's peak is not known


def test_steps_that_end_unseen_share_their_time(tmp_path, monkeypatch):
  """The host was away for two steps: neither of them took no time."""
  now = clock(monkeypatch)
  meter, rows = make(tmp_path)
  with monkeypatch.context() as patch:
    patch.setattr(meter, "_look", lambda: None)
    push(meter, 1)
    push(meter, 2)
  now["s"] += 3.0
  meter.flush()
  assert rows[1]["step_seconds"] + rows[2]["step_seconds"] == pytest.approx(3.0)
  assert rows[2]["step_seconds"] > 1.0


def test_time_aside_is_no_steps_time(tmp_path, monkeypatch):
  now = clock(monkeypatch)
  meter, rows = make(tmp_path, every=1)
  push(meter, 1)
  now["s"] += 1.0
  with meter.aside("samples"):
    assert list(rows) == [1]  # nothing runs meanwhile
    now["s"] += 50.0
  push(meter, 2)
  now["s"] += 0.5
  meter.flush()
  assert rows[1]["step_seconds"] == pytest.approx(1.0)
  assert rows[2]["step_seconds"] == pytest.approx(0.5)
