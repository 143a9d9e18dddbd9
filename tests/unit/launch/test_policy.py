"""What follows which exit code, when, and how often."""

import pytest

from launch import policy
from launch.policy import Limits, Policy
from vidjax import errors

ALL_OF_OURS = [error.exit_code for error in errors._OURS]


def decide(code, limits=None, progress=None):
  return Policy(limits or Limits(), None, draw=lambda: 0.0).decide(code, progress)


@pytest.mark.parametrize(
  ("code", "action"),
  [
    (0, "done"),
    *((code, "stop") for code in (2, 4, 5, 7, 126, 127, 130)),
    *((code, "restart") for code in (1, 3, 6, 75, 134, 137, 139, -6, -9, -11, -15, 42)),
  ],
)
def test_by_exit_code(code, action):
  decision = decide(code)
  assert decision.action == action
  assert decision.code == (128 - code if code < 0 else code)
  assert decision.delay == (0.5 if action == "restart" and code != 75 else 0.0)


def test_every_code_of_the_commands_has_a_word():
  for code in {errors.INTERNAL, errors.HANG, *ALL_OF_OURS}:
    assert "unknown" not in policy.meaning(code)
  assert policy.meaning(-9) == policy.meaning(137) == "ended by signal 9"


def test_delays_double_up_to_the_bound_and_are_jittered():
  limits = Limits(max_failures=100, first_delay=2.0, max_delay=15.0)
  for draw, delays in ((0.0, [1, 2, 4, 7.5, 7.5]), (1.0, [2, 4, 8, 15, 15])):
    made = Policy(limits, 0, draw=lambda draw=draw: draw)
    assert [made.decide(1, 0).delay for _ in range(5)] == delays
  long = Policy(Limits(max_failures=10**9), None)
  assert all(0 < long.decide(1, None).delay <= 60 for _ in range(2000))


def test_progress_makes_it_patient_again():
  made = Policy(Limits(max_failures=3), 10, draw=lambda: 0.0)
  assert [made.decide(1, 10).delay for _ in range(2)] == [0.5, 1.0]
  decision = made.decide(1, 11)
  assert (decision.action, decision.delay, made.failures) == ("restart", 0.5, 1)
  # Steps that were there before are none: this run goes in a circle.
  assert made.decide(1, 5).action == "restart"
  stopped = made.decide(-9, 11)
  assert (stopped.action, stopped.code) == ("stop", 137)
  assert "3 failures in a row without progress, which is at step 11" in stopped.why


def test_without_any_progress_it_stops_after_so_many():
  made = Policy(Limits(max_failures=5), None)
  assert [made.decide(6, None).action for _ in range(5)] == ["restart"] * 4 + ["stop"]


def test_a_command_that_is_always_preempted_stops_too():
  made = Policy(Limits(max_failures=3), 7)
  assert [made.decide(75, 7).action for _ in range(3)] == ["restart", "restart", "stop"]


def test_a_checkpoint_that_failed_is_tried_again_by_a_run_that_came_further():
  made = Policy(Limits(), None)
  assert made.decide(4, 300).action == "restart"  # a save failed in the background
  assert made.decide(4, 350).action == "restart"
  assert made.decide(4, 350).action == "stop"  # the same again, or nothing could be restored
  assert made.decide(2, 400).action == "stop"
