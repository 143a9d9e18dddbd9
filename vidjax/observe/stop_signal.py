"""SIGTERM (preemption) and SIGINT (Ctrl-C) as a number that the loop reads between steps.

The first signal asks for an orderly stop; a second Ctrl-C ends the process at once.
"""

from collections.abc import Iterator
import contextlib
import signal
import threading
from types import FrameType

from vidjax import errors


class StopSignal:
  """Whether and how the process was asked to stop."""

  def __init__(self) -> None:
    self._signal: int | None = None

  @property
  def number(self) -> int:
    """Of the signal that came; 0 as long as none did."""
    return self._signal or 0

  def _receive(self, number: int, frame: FrameType | None) -> None:
    if self._signal is not None and number == signal.SIGINT:
      raise KeyboardInterrupt
    self._signal = number


def error(number: int, message: str) -> Exception:
  """What to raise after the state is saved: exit code 75 for SIGTERM, 130 for Ctrl-C."""
  return errors.Interrupted(message) if number == signal.SIGINT else errors.Preempted(message)


@contextlib.contextmanager
def listen() -> Iterator[StopSignal]:
  """Handles both signals while the context is open; only the main thread can."""
  stop = StopSignal()
  if threading.current_thread() is not threading.main_thread():
    yield stop
    return
  before = {s: signal.signal(s, stop._receive) for s in (signal.SIGTERM, signal.SIGINT)}
  try:
    yield stop
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)
