"""SIGTERM (preemption) and SIGINT (Ctrl-C) as a number that the loop reads between steps.

The first signal asks for an orderly stop. A second one ends the process at once: Ctrl-C with 130,
SIGTERM with 143, as does a stop that takes longer than the grace time, since the machine is gone by
then anyway and the newest checkpoint is whole.
"""

from collections.abc import Iterator
import contextlib
import faulthandler
import os
import signal
import threading
import time
from types import FrameType

from vidjax import errors

ENDED_HARD = 128 + signal.SIGTERM  # exit code: stopped, but nothing was saved on the way
_SAME_SECONDS = 1.0  # a scheduler and a supervisor may both hand on the same SIGTERM


class StopSignal:
  """Whether and how the process was asked to stop.

  Args:
    grace: seconds from SIGTERM to the end; 0 for as long as it takes.
  """

  def __init__(self, grace: float = 0.0) -> None:
    self._grace = grace
    self._signal: int | None = None
    self._terminated: float | None = None  # when, by the monotonic clock
    self._end: threading.Timer | None = None

  @property
  def number(self) -> int:
    """Of the signal that came; 0 as long as none did."""
    return self._signal or 0

  def _receive(self, number: int, frame: FrameType | None) -> None:
    if self._signal is not None and number == signal.SIGINT:
      raise KeyboardInterrupt
    now = time.monotonic()
    if number == signal.SIGTERM and self._terminated is not None:
      if now - self._terminated > _SAME_SECONDS:
        _end_now("a second SIGTERM")
      return
    self._signal = number
    if number == signal.SIGTERM:
      self._terminated = now
      self.hurry()

  def hurry(self) -> None:
    """Starts the grace time; also where another process got the signal."""
    if self._grace and self._end is None:
      text = f"not stopped within deadlines.grace={self._grace:g} s of SIGTERM"
      self._end = threading.Timer(self._grace, _end_now, [text])
      self._end.daemon = True
      self._end.start()

  def close(self) -> None:
    """The stop was in time, or there was none."""
    if self._end is not None:
      self._end.cancel()


def _end_now(why: str) -> None:
  """Says why and where, and leaves without a word to anybody else."""
  os.write(2, f"vidjax: ended hard, newest checkpoint stands: {why}\n".encode())
  faulthandler.dump_traceback()
  os._exit(ENDED_HARD)


def error(number: int, message: str) -> Exception:
  """What to raise after the state is saved: exit code 75 for SIGTERM, 130 for Ctrl-C."""
  return errors.Interrupted(message) if number == signal.SIGINT else errors.Preempted(message)


@contextlib.contextmanager
def listen(grace: float = 0.0) -> Iterator[StopSignal]:
  """Handles both signals while the context is open; only the main thread can."""
  stop = StopSignal(grace)
  if threading.current_thread() is not threading.main_thread():
    yield stop
    return
  before = {s: signal.signal(s, stop._receive) for s in (signal.SIGTERM, signal.SIGINT)}
  try:
    yield stop
  finally:
    stop.close()
    for number, handler in before.items():
      signal.signal(number, handler)
