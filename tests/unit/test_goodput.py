"""The report: every second in one class, steps that were done again, attempts that say no more."""

import json
import subprocess
import sys

import object_store
import pytest

from vidjax import errors, goodput, storage


class Attempt:
  """Lines of an attempt, written by hand; its clock and the wall go on with each of them."""

  def __init__(self, number: int, began: float, *, resumed: int | None = None, init: float = 0.0):
    self.number, self.wall, self.clock, self.rows = number, began, 0.0, []
    self.add({}, event="begin")
    if resumed is not None:
      self.add({"init": init}, event="resume", from_step=resumed)

  def add(self, seconds, *, event="tick", ended=(None, None), **more):
    began, passed = self.wall, sum(seconds.values())
    self.wall, self.clock = began + passed, self.clock + passed
    given = {"phase": "steps", "from_step": None, "outcome": None, "event": event} | more
    self.rows.append(
      {
        **{"attempt": self.number, "began": began, "ended": self.wall, "clock": self.clock},
        **{"seconds": seconds, "first_step": ended[0], "last_step": ended[1]},
        **given,
      }
    )
    return self

  def end(self, outcome="done", **seconds):
    return self.add(seconds, event="end", outcome=outcome, phase=None)


def summarize(*attempts, now=1e9):
  return goodput.summarize([row for attempt in attempts for row in attempt.rows], now)


def write(root, *attempts, torn=""):
  lines = [json.dumps(row) + "\n" for attempt in attempts for row in attempt.rows]
  storage.write_text(storage.Path(root) / "goodput.jsonl", "".join(lines) + torn)


def simple():
  attempt = Attempt(1, 1000.0, resumed=0, init=4.0).add({"compile": 6.0})
  attempt.add({"steps": 8.0, "data_wait": 1.0}, ended=(1, 10))
  return attempt.add({"save": 0.5}).end(end=0.5)


SIMPLE = {
  **{"steps": 8.0, "data_wait": 1.0, "init": 4.0},
  **{"compile": 6.0, "save": 0.5, "end": 0.5},
}


def test_one_attempt():
  report = summarize(simple())
  assert report.wall == 20.0
  assert report.goodput == pytest.approx(0.4)
  assert report.seconds == SIMPLE
  assert list(report.seconds) == list(SIMPLE), "in the order in which they are shown"
  (one,) = report.attempts
  assert (one.outcome, one.from_step, one.last_step, one.wasted_steps) == ("done", 0, 10, 0)
  badput = report.to_json()["badput"]
  assert badput["compile"] == pytest.approx(0.3)
  assert sum(badput.values()) == pytest.approx(0.6)


def killed():
  """Ten steps of 1 s, ten of 2 s, and 3 s of a step that does not come to its end."""
  attempt = Attempt(1, 1000.0, resumed=0, init=5.0)
  attempt.add({"steps": 10.0}, ended=(1, 10)).add({"steps": 20.0}, ended=(11, 20))
  return attempt.add({"steps": 3.0})


def test_steps_that_are_done_again_are_wasted():
  second = Attempt(2, 1100.0, resumed=15, init=2.0)
  second.add({"steps": 30.0}, ended=(16, 30)).end()
  report = summarize(killed(), second)
  first, then = report.attempts
  assert (first.outcome, first.wasted_steps, first.last_step) == ("killed", 5, 20)
  assert first.seconds == {"steps": 20.0, "wasted": 10.0 + 3.0, "init": 5.0}
  assert (then.outcome, then.wasted_steps, then.from_step) == ("done", 0, 15)
  assert then.seconds == {"steps": 30.0, "init": 2.0, "idle": 1100.0 - 1038.0}
  assert report.seconds["steps"] == 50.0
  assert report.wall == 1132.0 - 1000.0


def test_three_attempts_one_of_which_comes_to_nothing():
  """The third begins before the second: steps of both are done again."""
  second = Attempt(2, 1038.0, resumed=15)
  second.add({"steps": 10.0}, ended=(16, 20)).add({"restore": 1.0}, phase="restore")
  nothing = Attempt(3, 1060.0).add({"restore": 4.0}, phase="restore")
  fourth = Attempt(4, 1070.0, resumed=8).add({"steps": 6.0}, ended=(9, 14)).end("Preempted")
  report = summarize(killed(), second, nothing, fourth)
  assert [a.outcome for a in report.attempts] == ["killed", "killed", "killed", "Preempted"]
  assert [a.wasted_steps for a in report.attempts] == [12, 5, 0, 0]
  assert [a.seconds.get("wasted", 0.0) for a in report.attempts] == [2.0 + 20.0 + 3.0, 10.0, 0, 0]
  assert [a.seconds.get("idle", 0.0) for a in report.attempts] == [0.0, 0.0, 11.0, 6.0]
  assert report.attempts[2].from_step is None
  assert report.seconds["steps"] == 8.0 + 6.0
  assert report.to_json()["wasted_steps"] == 17


def test_a_rollback_within_an_attempt_wastes_its_steps():
  attempt = Attempt(1, 1000.0, resumed=0).add({"steps": 10.0}, ended=(1, 10))
  attempt.add({"restore": 1.0}, event="resume", from_step=4)
  attempt.add({"steps": 12.0}, ended=(5, 10)).end()
  (one,) = summarize(attempt).attempts
  assert (one.wasted_steps, one.from_step, one.last_step) == (6, 0, 10)
  assert one.seconds == {"steps": 16.0, "wasted": 6.0, "restore": 1.0}


def test_nothing_is_done_again_after_an_orderly_stop():
  first = Attempt(1, 1000.0, resumed=0).add({"steps": 7.0}, ended=(1, 7)).end("Preempted", save=1.0)
  second = Attempt(2, 1008.0, resumed=7).add({"steps": 3.0}, ended=(8, 10)).end()
  report = summarize(first, second)
  assert report.seconds == {"steps": 10.0, "save": 1.0}
  assert [a.outcome for a in report.attempts] == ["Preempted", "done"]


def test_a_clock_that_went_back_between_attempts_makes_no_negative_time():
  report = summarize(killed(), Attempt(2, 500.0, resumed=20).add({"steps": 5.0}, ended=(21, 25)))
  assert "idle" not in report.seconds
  assert report.wall == 38.0 + 5.0


def test_a_clock_that_went_back_within_an_attempt_is_not_asked():
  first = Attempt(1, 1000.0, resumed=0).add({"steps": 10.0}, ended=(1, 10))
  first.wall -= 3600.0
  first.add({"steps": 10.0}, ended=(11, 20)).end()
  second = Attempt(2, first.wall + 5.0, resumed=20).end()
  report = summarize(first, second)
  assert report.seconds == {"steps": 20.0, "idle": 5.0}


def test_a_step_of_several_lines_has_the_time_of_all():
  attempt = Attempt(1, 0.0, resumed=0)
  attempt.add({"steps": 30.0}).add({"steps": 30.0}).add({"steps": 20.0}, ended=(1, 1))
  attempt.add({"steps": 30.0})
  then = Attempt(2, 110.0, resumed=0).add({"steps": 80.0}, ended=(1, 1)).end()
  report = summarize(attempt, then)
  assert report.seconds == {"steps": 80.0, "wasted": 110.0}
  assert report.attempts[0].wasted_steps == 1


def test_a_run_under_way_is_no_killed_one():
  attempt = Attempt(1, 1000.0, resumed=0).add({"steps": 10.0}, ended=(1, 9)).add({"steps": 1.0})
  report = summarize(attempt, now=1011.0 + 60.0)
  assert (report.attempts[0].outcome, report.seconds) == ("running", {"steps": 11.0})
  report = summarize(attempt, now=1011.0 + 600.0)
  assert (report.attempts[0].outcome, report.seconds["wasted"]) == ("killed", 1.0)
  (row,) = goodput.attempts_table(report)[1]
  assert row[2:5] == ("killed in steps", "1-9", "0")


@pytest.fixture(params=["local", "gs"])
def workdir(request, tmp_path):
  if request.param == "local":
    yield storage.Path(tmp_path / "run")
    return
  with object_store.serve() as store, store.environment():
    yield storage.Path("gs://bucket/run")


def test_a_torn_last_line_is_no_line(workdir):
  write(workdir, simple(), torn='{"attempt": 1, "ev')
  assert goodput.read(workdir).seconds == SIMPLE


def test_no_ledger_is_bad_input(workdir):
  with pytest.raises(FileNotFoundError, match=r"there is no goodput\.jsonl") as info:
    goodput.read(workdir)
  assert errors.exit_code(info.value) == 2
  storage.write_text(workdir / "goodput.jsonl", '{"torn')
  with pytest.raises(FileNotFoundError, match="no whole line yet"):
    goodput.read(workdir)


@pytest.mark.parametrize("line", ["nonsense", "[]", '{"attempt": 1, "outcome": "done"}'])
def test_a_broken_line_is_named(tmp_path, line):
  write(tmp_path, simple())
  path = tmp_path / "goodput.jsonl"
  lines = path.read_text().splitlines(keepends=True)
  path.write_text("".join([*lines[:2], line + "\n", *lines[2:]]))
  with pytest.raises(ValueError, match=r"goodput\.jsonl line 3"):
    goodput.read(tmp_path)


def run(*arguments):
  command = [sys.executable, "-m", "vidjax.cli", "goodput", *map(str, arguments)]
  return subprocess.run(command, capture_output=True, text=True)


def test_the_command(tmp_path):
  write(tmp_path, killed(), Attempt(2, 1042.0, resumed=15).add({"steps": 10.0}, ended=(16, 20)))
  printed = run(f"--workdir={tmp_path}")
  assert printed.returncode == 0, printed.stderr
  lines = [line.split() for line in printed.stdout.splitlines()]
  assert lines[1][:6] == ["1", "1970-01-01", "00:16:40", "killed", "in", "steps"]
  assert ["1", "steps", "20.0", "52.6", "%"] in lines
  assert ["all", "steps", "30.0", "57.7", "%"] in lines
  assert ["idle", "4.0", "7.7", "%"] in lines
  assert "goodput 57.7 %: 30.0 of 52.0 seconds" in printed.stdout

  figures = json.loads(run(f"--workdir={tmp_path}", "--json").stdout)
  assert figures["wall_seconds"] == 52.0
  assert figures["goodput"] == pytest.approx(30 / 52)
  assert figures["attempts"][0]["seconds"]["wasted"] == 13.0

  refused = run(f"--workdir={tmp_path / 'nowhere'}")
  assert refused.returncode == 2
  assert refused.stderr.startswith("vidjax: error: --workdir=")
  assert len(refused.stderr.splitlines()) == 1
