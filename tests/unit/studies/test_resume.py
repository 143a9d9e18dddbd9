"""The ledger and the loop over units: what is done stays done, and plans are not mixed."""

import json

import pytest

from benchmarks.studies import ledger as ledgers
from benchmarks.studies import run
from benchmarks.studies import units as pieces
from vidjax import errors

UNITS = [pieces.Unit(f"train/a/{i}", "train", "h", 10.0, stage="a", seed=i) for i in range(4)]


class Worker:
  """Notes what it did, and is stopped at one unit."""

  def __init__(self, stop_at: str = "", by: type[BaseException] = KeyboardInterrupt):
    self.did, self.stop_at, self.by = [], stop_at, by

  def __call__(self, unit, done):
    assert unit.name not in done
    if unit.name == self.stop_at:
      raise self.by("stopped")
    self.did.append(unit.name)
    return {"value": unit.seed}


def work(out, worker, units=UNITS, budget=1e9):
  return run.work(units, ledgers.Ledger(out), budget, worker)


@pytest.mark.parametrize("by", [KeyboardInterrupt, errors.Interrupted, RuntimeError])
def test_a_run_that_is_stopped_goes_on_with_the_unit_that_was_under_way(tmp_path, by):
  first = Worker("train/a/2", by)
  with pytest.raises(by):
    work(tmp_path, first)
  rows = ledgers.Ledger(tmp_path).rows
  assert [row["state"] for row in rows] == ["done", "done", "stopped"]
  second = Worker()
  assert work(tmp_path, second) == 0
  assert second.did == ["train/a/2", "train/a/3"]
  third = Worker()
  assert work(tmp_path, third) == 0
  assert third.did == []
  done = ledgers.Ledger(tmp_path).done
  assert {name: row["result"] for name, row in done.items()} == {
    unit.name: {"value": unit.seed} for unit in UNITS
  }


def test_a_line_that_a_kill_cut_off_is_forgotten_and_its_unit_done_again(tmp_path):
  work(tmp_path, Worker(), UNITS[:2])
  path = tmp_path / ledgers.FILE
  path.write_text(path.read_text() + '{"unit": "train/a/2", "sta')
  worker = Worker()
  assert work(tmp_path, worker) == 0
  assert worker.did == ["train/a/2", "train/a/3"]
  rows = [json.loads(line) for line in path.read_text().splitlines()]
  assert [row["unit"] for row in rows] == [unit.name for unit in UNITS]


def test_a_line_that_is_broken_in_the_middle_is_an_error(tmp_path):
  work(tmp_path, Worker(), UNITS[:2])
  path = tmp_path / ledgers.FILE
  path.write_text("{broken\n" + path.read_text())
  with pytest.raises(ValueError, match=r"results\.jsonl:1 is no JSON"):
    ledgers.Ledger(tmp_path)


def test_rows_of_another_plan_are_refused(tmp_path):
  work(tmp_path, Worker())
  ledger = ledgers.Ledger(tmp_path)
  ledger.check({unit.name: "h" for unit in UNITS})
  ledger.check({"train/b/0": "other"})
  with pytest.raises(ValueError, match="holds 'train/a/1' of the plan h, the plan now is other"):
    ledger.check({"train/a/0": "h", "train/a/1": "other"})


def test_what_a_kill_left_of_another_plan_is_refused_as_well(tmp_path):
  ledger = ledgers.Ledger(tmp_path)
  kept = ledger.unit("train/a/0", "h")
  kept.__enter__()  # and never left
  with pytest.raises(ValueError, match="holds 'train/a/0' of the plan h, the plan now is other"):
    ledgers.Ledger(tmp_path).check({"train/a/0": "other"})
  ledgers.Ledger(tmp_path).check({"train/a/0": "h"})


def test_nothing_is_begun_beyond_the_budget(tmp_path, capsys):
  ledger = ledgers.Ledger(tmp_path)
  worker = Worker()

  def do(unit, done):
    result = worker(unit, done)
    if len(worker.did) == 2:
      ledger.append({"unit": "other", "hash": "h", "state": "stopped", "cpu_seconds": 25.0})
    return result

  assert run.work(UNITS, ledger, 34.9, do) == run.OUT_OF_BUDGET
  assert worker.did == ["train/a/0", "train/a/1"]
  said = capsys.readouterr().out
  assert "train/a/2 is expected to take 10; 2 units are missing:\n" in said
  assert said.endswith("  train/a/2\n  train/a/3\n")


def test_the_time_of_children_counts(tmp_path):
  import subprocess
  import sys

  ledger = ledgers.Ledger(tmp_path)
  with ledger.unit("train/a/0", "h") as kept:
    subprocess.run([sys.executable, "-c", "sum(range(10_000_000))"], check=True)
    kept["result"] = {}
  assert ledger.rows[0]["cpu_seconds"] > 0.05
  assert ledger.cpu_seconds == ledger.rows[0]["cpu_seconds"]


def test_a_plan_that_changed_is_refused_by_the_command(tmp_path, capsys):
  out = tmp_path / "out"
  out.mkdir()
  row = {"unit": "make/films", "hash": "0" * 16, "state": "done", "cpu_seconds": 1.0}
  (out / ledgers.FILE).write_text(json.dumps(row) + "\n")
  code = errors.run_main(run.main, ["--study=curation", f"--out={out}", "--list"])
  assert code == 2
  said = capsys.readouterr().err
  assert "holds 'make/films' of the plan 0000000000000000, the plan now is" in said
  assert run.main(["--study=image_first", f"--out={out}", "--list"]) == 0


def test_an_unknown_study_and_a_folder_that_is_missing_are_named(tmp_path, capsys):
  with pytest.raises(ValueError, match="--study=other: choose from image_first"):
    run.main(["--study=other"])
  flags = [f"--out={tmp_path}", f"--real={tmp_path / 'none'}", "--list"]
  assert run.main(flags) == 0
  said = capsys.readouterr().out
  assert f"image_first_real is left out: there is no folder {tmp_path / 'none'}" in said
  assert "train/real_video/0" not in said
  assert "train/video/0" in said
