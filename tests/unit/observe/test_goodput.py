"""The ledger: stretches without gaps, on disk as they come, by clocks that may jump."""

import itertools
import threading
import time

import object_store
import pytest

from vidjax import errors, storage
from vidjax.observe import goodput, journal
from vidjax.observe.goodput import DATA_WAIT, Ledger


@pytest.fixture
def clock(monkeypatch):
  """Time that passes only when a test says so; `wall` may be set to anything."""
  now = {"s": 100.0, "wall": 5000.0}
  monkeypatch.setattr(goodput.time, "perf_counter", lambda: now["s"])
  monkeypatch.setattr(goodput.time, "time", lambda: now["wall"])

  def passes(seconds: float) -> None:
    now["s"] += seconds
    now["wall"] += seconds

  return now, passes


def rows(root):
  return [row for _, row in journal.read(storage.Path(root) / goodput.NAME)]


def total(root):
  seconds = {}
  for row in rows(root):
    for name, value in row["seconds"].items():
      seconds[name] = seconds.get(name, 0.0) + value
  return seconds


def test_phases_nest_and_leave_no_gap(tmp_path, clock):
  _, passes = clock
  with Ledger(storage.Path(tmp_path), 3, age=7.0) as ledger:
    passes(1.0)
    with ledger.phase("restore"):
      passes(2.0)
    ledger.resumed(40)
    with ledger.phase("steps"):
      for step in (41, 42):
        with ledger.phase(DATA_WAIT):
          passes(0.25)
        passes(4.0)
        ledger.step_ended(step)
      with ledger.phase("compile"):
        passes(16.0)
    passes(32.0)
  assert total(tmp_path) == {
    **{"init": 8.0, "restore": 2.0, "data_wait": 0.5},
    **{"steps": 8.0, "compile": 16.0, "end": 32.0},
  }
  found = rows(tmp_path)
  assert {row["attempt"] for row in found} == {3}
  assert [row["event"] for row in found] == [
    "begin",
    *["phase"] * 2,
    "resume",
    *["phase"] * 4,
    "end",
  ]
  assert sum(row["last_step"] is not None for row in found) == 1
  assert (found[0]["began"], found[-1]["ended"]) == (4993.0, 5059.5)
  for before, after in itertools.pairwise(found):
    assert after["began"] == before["ended"]
    assert sum(after["seconds"].values()) == pytest.approx(after["clock"] - before["clock"])
  assert [row["from_step"] for row in found if row["event"] == "resume"] == [40]
  assert [(row["first_step"], row["last_step"]) for row in found if row["last_step"]] == [(41, 42)]
  assert found[-1]["outcome"] == "done"


def test_what_a_killed_run_leaves_says_what_it_was_doing(tmp_path, clock):
  _, passes = clock
  with Ledger(storage.Path(tmp_path), 1) as ledger:
    with ledger.phase("init"):
      passes(1.0)
    with ledger.phase("compile"):
      passes(60.0)
      left = rows(tmp_path)
  assert [row["phase"] for row in left] == [None, "init", None, "compile"]
  assert sum(sum(row["seconds"].values()) for row in left) == 1.0


def test_time_is_written_while_a_phase_lasts(tmp_path, monkeypatch):
  monkeypatch.setattr(goodput, "TICK_SECONDS", 0.01)
  with Ledger(storage.Path(tmp_path), 1) as ledger, ledger.phase("compile"):
    deadline = time.monotonic() + 20
    while sum(row["event"] == "tick" for row in rows(tmp_path)) < 3:
      assert time.monotonic() < deadline
      time.sleep(0.01)
    assert total(tmp_path)["compile"] > 0.01
  assert not [thread for thread in threading.enumerate() if thread.name == "goodput"]


def test_a_wall_clock_that_jumps_changes_no_duration(tmp_path, clock):
  now, passes = clock
  with Ledger(storage.Path(tmp_path), 1) as ledger, ledger.phase("steps"):
    passes(5.0)
    now["wall"] -= 3600
    passes(5.0)
    now["wall"] += 86400
  assert total(tmp_path) == {"init": 0.0, "steps": 10.0, "end": 0.0}
  assert rows(tmp_path)[-1]["clock"] == 10.0


@pytest.mark.parametrize(
  ("error", "outcome"), [(errors.Preempted("x"), "Preempted"), (KeyError("x"), "KeyError")]
)
def test_an_attempt_that_fails_says_so(tmp_path, error, outcome):
  with pytest.raises(type(error)), Ledger(storage.Path(tmp_path), 1) as ledger:
    with ledger.phase("steps"):
      raise error
  assert rows(tmp_path)[-1]["outcome"] == outcome


def test_a_ledger_that_cannot_be_written_hides_no_error(tmp_path, monkeypatch):
  ledger = Ledger(storage.Path(tmp_path), 1)
  monkeypatch.setattr(goodput, "TICK_SECONDS", 0.01)

  def full(*_):
    raise errors.NoSpaceError("full")

  def fail():
    with ledger:
      monkeypatch.setattr(journal.Journal, "write", full)
      time.sleep(0.1)  # the thread cannot write either
      raise errors.DataError("the run's own")

  with pytest.raises(errors.DataError):
    fail()


def test_only_the_process_that_writes_writes(tmp_path):
  with Ledger(storage.Path(tmp_path), 1, writes=False) as ledger, ledger.phase("steps"):
    ledger.resumed(0)
    ledger.note()
  assert not list(tmp_path.iterdir())


def test_object_store_has_it_after_a_minute_and_at_the_end(monkeypatch):
  monkeypatch.setattr(goodput, "TICK_SECONDS", 0.02)
  with object_store.serve() as store, store.environment():
    root = storage.Path("gs://bucket/run")
    for attempt in (1, 2):
      with Ledger(root, attempt) as ledger, ledger.phase("steps"):
        before = store.writes
        time.sleep(0.1)
        assert store.writes == before  # not at every line
        with monkeypatch.context() as patch:
          patch.setattr(journal, "UPLOAD_SECONDS", 0.0)
          deadline = time.monotonic() + 20
          while store.writes == before:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert rows(root)[-1]["phase"] == "steps"
    assert [(r["attempt"], r["outcome"]) for r in rows(root) if r["event"] == "end"] == [
      (1, "done"),
      (2, "done"),
    ]


def test_process_age_is_that_of_this_process():
  age = goodput.process_age()
  time.sleep(0.05)
  assert 0.03 < goodput.process_age() - age < 5.0
