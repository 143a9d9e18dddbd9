"""What a person is told who decides whether to stop a run."""

import time

import pytest
import run_folders
from run_folders import row

from vidjax import storage
from vidjax.reporting import health, run


def judged(root) -> health.Verdict:
  return health.judge(run.read(root))


def texts(root) -> list[tuple[str, str]]:
  return [(finding.level, finding.text) for finding in judged(root).findings]


def with_rows(folder, rows):
  root = run_folders.usual(folder, steps=len(rows))
  run_folders.lines(root / "metrics.jsonl", rows)
  return root


def test_a_sound_run_is_called_so(tmp_path):
  verdict = judged(run_folders.usual(tmp_path))
  assert (verdict.state, verdict.level, verdict.findings) == ("running", "good", [])
  assert verdict.seconds_per_step == pytest.approx(0.5, rel=1e-3)
  assert verdict.seconds_left == pytest.approx(30.0, rel=1e-3)
  assert verdict.line.startswith(
    "Running: step 40 of 100 (40.0%); 0.500 s a step, 8.00 clips/s; about 30 s left, until "
  )
  assert verdict.line.endswith(" UTC. Nothing is wrong.")


def test_the_pace_is_that_of_the_newest_attempt(tmp_path):
  root, now = run_folders.usual(tmp_path), time.time()
  spans = run_folders.ledger(1, 1, 30, None, now - 500.0, pace=0.1)
  spans += run_folders.ledger(2, 31, 40, None, now - 45.0, pace=4.0)
  run_folders.lines(root / "goodput.jsonl", spans)
  assert judged(root).seconds_per_step == pytest.approx(4.0)


@pytest.mark.parametrize(
  ("outcome", "state", "words"),
  [
    ("Preempted", "stopped", "preempted, state saved"),
    ("hang", "failed", "it hung and was ended by its watchdog"),
    ("NonFiniteError", "failed", "it ended with NonFiniteError"),
  ],
)
def test_how_it_ended(tmp_path, outcome, state, words):
  verdict = judged(run_folders.usual(tmp_path, outcome=outcome))
  assert verdict.state == state
  assert words in verdict.line
  assert verdict.seconds_left is None
  assert verdict.level == ("bad" if state == "failed" else "good")


def test_a_silent_run_is_taken_for_killed(tmp_path):
  root = run_folders.usual(tmp_path)
  run_folders.lines(root / "goodput.jsonl", run_folders.ledger(1, 1, 40, None, 1000.0))
  verdict = judged(root)
  assert (verdict.state, verdict.level) == ("failed", "bad")
  assert "killed, or silent for" in verdict.line


def test_all_steps_done_is_done(tmp_path):
  verdict = judged(run_folders.usual(tmp_path, steps=100, outcome="done"))
  assert verdict.line == "Done: step 100 of 100 (100.0%). Nothing is wrong."


def test_the_supervisor_gave_up(tmp_path):
  root = run_folders.usual(tmp_path, outcome="DataError")
  end = {"time": time.time(), "event": "end", "code": 3, "decision": "restart", "why": "data"}
  run_folders.lines(root / "supervisor.jsonl", [end])
  assert "the supervisor starts it again" in judged(root).line
  run_folders.lines(root / "supervisor.jsonl", [end | {"time": 1000.0}])
  assert "starts it again" not in judged(root).line, "of an attempt long ago"
  stop = end | {"time": time.time(), "decision": "stop", "why": "5 failures without progress"}
  run_folders.lines(root / "supervisor.jsonl", [end, stop])
  assert ("bad", "the supervisor gave up: 5 failures without progress") in texts(root)


def test_a_loss_that_falls_noisily_is_no_trouble(tmp_path):
  noise = [((step * 7919) % 100 - 50) / 100 for step in range(1, 401)]
  rows = [row(step, loss=1.0 + 10 / step + noise[step - 1]) for step in range(1, 401)]
  assert texts(with_rows(tmp_path, rows)) == []


@pytest.mark.parametrize(("end", "level"), [(1.4, "warn"), (5.0, "bad")])
def test_a_loss_that_rises(tmp_path, end, level):
  rows = [row(step, loss=1.0 + (end - 1.0) * (step > 80)) for step in range(1, 100)]
  ((found, text),) = texts(with_rows(tmp_path, rows))
  assert found == level
  assert text.startswith("the loss rises" if level == "warn" else "it diverges")


def test_a_loss_that_does_not_fall(tmp_path):
  rows = [row(step, loss=1.0) for step in range(1, 101)]
  assert ("warn", "the loss is no lower than at the beginning") in texts(with_rows(tmp_path, rows))


def test_a_loss_that_is_not_finite(tmp_path):
  rows = [row(step) for step in range(1, 30)] + [row(30, loss=None)]
  assert texts(with_rows(tmp_path, rows))[0] == ("bad", "the loss of step 30 is not finite")


@pytest.mark.parametrize(("last", "level"), [(10, "warn"), (100, "bad")])
def test_skipped_steps(tmp_path, last, level):
  """Long ago, or until now."""
  rows = [
    row(s, skipped_steps=min(s, last) // 2, skipped_loss_spike=min(s, last) // 2)
    for s in range(1, 101)
  ]
  ((found, text),) = texts(with_rows(tmp_path, rows))
  assert found == level
  assert text.startswith(f"skipped: {last // 2} steps ({last // 2} by loss spike)")


@pytest.mark.parametrize(("wait", "level"), [(0.05, "warn"), (0.25, "bad")])
def test_waits_for_data(tmp_path, wait, level):
  rows = [row(step, data_wait_seconds=wait) for step in range(1, 41)]
  assert texts(with_rows(tmp_path, rows)) == [(level, f"{wait / 0.5:.0%} of a step waits for data")]


def test_steps_that_slow_down(tmp_path):
  rows = [row(step, step_seconds=0.5 if step < 35 else 1.0) for step in range(1, 41)]
  assert texts(with_rows(tmp_path, rows)) == [("warn", "steps take 2.0 times as long as usual")]


def test_upkeep(tmp_path):
  root = run_folders.usual(tmp_path)
  storage.write_json(root / "config.json", run_folders.config(checkpoint={"every_steps": 10}))
  assert texts(root) == [
    ("bad", "there is no complete checkpoint: what ends it now loses everything")
  ]
  storage.write_text(root / "checkpoints" / "30" / "commit_success.txt", "")
  storage.write_text(root / "checkpoints" / "20" / "damaged.txt", "a checksum differs\n")
  storage.write_json(root / "rejected_clips.json", {"a": "no moov atom"})
  gap = {"at_sample": 8, "samples": 12, "at_step": 3, "to_step": 0, "causes": {"loss spike": 3}}
  storage.write_json(root / "skipped_samples.json", [gap])
  storage.write_text(root / "hang" / "attempt1_process0.txt", "steps took longer than 9 s")
  assert [text for _, text in texts(root)] == [
    "1 report of hangs",
    "damaged: 1 checkpoint",
    "it went back 1 time and left out 12 samples",
    "not readable: 1 clip",
  ]


@pytest.mark.parametrize(
  ("seconds", "text"),
  [(42, "42 s"), (200, "3 min"), (7260, "2 h 1 min"), (86400 * 3 + 3600 * 5, "3 d 5 h")],
)
def test_durations(seconds, text):
  assert health.duration(seconds) == text
