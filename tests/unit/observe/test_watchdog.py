"""The watchdog and the hard end of a stop, each in a process of its own, which they end."""

import signal
import subprocess
import sys
import time

import pytest

BEGIN = """
import time
from vidjax import storage
from vidjax.config import DeadlinesConfig
from vidjax.observe.watchdog import Watchdog
root = storage.Path({root!r})
deadlines = DeadlinesConfig({deadlines})
with Watchdog(deadlines, root, 3) as watchdog, watchdog.phase("steps"):
  watchdog.beat(1)
  print("begun", flush=True)
"""


def run(tmp_path, deadlines, body):
  code = BEGIN.format(root=str(tmp_path), deadlines=deadlines) + body
  return subprocess.Popen(
    [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
  )


def ended(process):
  out, err = process.communicate(timeout=60)
  return process.returncode, out, err


def test_a_step_that_takes_too_long(tmp_path):
  def_body = "  def where_it_hangs(): time.sleep(60)\n  watchdog.beat(7)\n  where_it_hangs()\n"
  code, _, err = ended(run(tmp_path, "step=0.5", def_body))
  assert code == 6
  text = (tmp_path / "hang" / "attempt3_process0.txt").read_text()
  assert "steps took longer than 0.5 s, at step 7" in text
  assert "where_it_hangs" in text
  assert "where_it_hangs" in err


@pytest.mark.parametrize(
  ("deadlines", "body"),
  [
    ("step=1.0", "  for n in range(40):\n    watchdog.beat(n)\n    time.sleep(0.05)\n"),
    ("step=0.4", "  with watchdog.phase('compile'):\n    time.sleep(1.2)\n"),
    ("step=0.0, save=0.0", "  time.sleep(1.2)\n"),
    ("step=0.8", "  time.time = lambda: 0.0\n  time.sleep(0.3)\n"),
  ],
  ids=["beats", "another phase", "off", "clock"],
)
def test_what_is_in_time_is_left_alone(tmp_path, deadlines, body):
  code, _, err = ended(run(tmp_path, deadlines, body + "print('done')\n"))
  assert code == 0, err
  assert not (tmp_path / "hang").exists()


def test_outer_phase_begins_anew_after_an_inner_one(tmp_path):
  body = "  with watchdog.phase('save'):\n    time.sleep(0.1)\n  time.sleep(30)\n"
  code, _, err = ended(run(tmp_path, "step=0.5, save=20.0", body))
  assert code == 6
  assert "steps took longer" in err


def test_time_in_which_the_process_was_stopped_does_not_count(tmp_path):
  process = run(tmp_path, "step=2.0", "  time.sleep(1.0)\n")
  assert process.stdout.readline() == "begun\n"
  process.send_signal(signal.SIGSTOP)
  time.sleep(4.0)
  process.send_signal(signal.SIGCONT)
  code, _, err = ended(process)
  assert code == 0, err


STOP = """
import sys, time
from vidjax.observe import stop_signal
with stop_signal.listen({grace}) as stop:
  print("begun", flush=True)
  end = time.monotonic() + {seconds}
  while time.monotonic() < end: time.sleep(0.01)
  print("number", stop.number, flush=True)
time.sleep({after})
"""


def told(grace, seconds, after, *signals):
  """Exit code, output and errors of a process that is sent signals, 1.2 s after one another."""
  code = STOP.format(grace=grace, seconds=seconds, after=after)
  process = subprocess.Popen(
    [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
  )
  assert process.stdout.readline() == "begun\n"
  for number in signals:
    process.send_signal(number)
    time.sleep(1.2)
  return ended(process)


def test_grace_time_ends_the_process():
  code, _, err = told(1.0, 30, 0, signal.SIGTERM)
  assert code == 143
  assert "not stopped within deadlines.grace=1 s" in err


def test_second_sigterm_ends_the_process():
  code, _, err = told(60.0, 30, 0, signal.SIGTERM, signal.SIGTERM)
  assert code == 143
  assert "a second SIGTERM" in err


def test_one_sigterm_is_a_request_and_stopping_in_time_is_no_haste():
  code, out, _ = told(1.5, 1.0, 1.5, signal.SIGTERM)
  assert (code, out) == (0, f"number {signal.SIGTERM:d}\n")


def test_ctrl_c_then_sigterm_is_still_a_stop_in_order():
  code, out, _ = told(0.0, 3.0, 0, signal.SIGINT, signal.SIGTERM)
  assert (code, out) == (0, f"number {signal.SIGTERM:d}\n")
