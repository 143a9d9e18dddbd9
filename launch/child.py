"""The command as a process: its group, its last words, signals on the way to it, and orphans."""

from collections import deque
from collections.abc import Iterator, Sequence
import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from types import FrameType

_LINES = 20  # of stderr that are kept
_LENGTH = 500  # characters of each
_PIPE_SECONDS = 5.0  # for what is left in the pipe after the end

# Asks for an orderly end, and passed on once. A terminal that is closed asks for the same.
_STOPPING = {
  signal.SIGTERM: signal.SIGTERM,
  signal.SIGHUP: signal.SIGTERM,
  signal.SIGINT: signal.SIGINT,
}


class Signals:
  """Signals that this process gets, as what the loop waits for; of the main thread only.

  Attributes:
    stop: SIGTERM or SIGINT once one has come, else None.
    urgent: whether Ctrl-C has come twice.
    passed_on: signals that are for the command alone, and were not fetched yet.
  """

  def __init__(self) -> None:
    self.stop: signal.Signals | None = None
    self.urgent = False
    self.passed_on: list[int] = []

  @contextlib.contextmanager
  def listen(self) -> Iterator["Signals"]:
    """Handles them while the context is open."""
    self._read, write = os.pipe()
    for end in (self._read, write):
      os.set_blocking(end, False)
    wakeup = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    numbers = [*_STOPPING, signal.SIGUSR1, signal.SIGCHLD]
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:  # nohup
      numbers.remove(signal.SIGHUP)
    before = {number: signal.signal(number, self._receive) for number in numbers}
    try:
      yield self
    finally:
      for number, handler in before.items():
        signal.signal(number, handler)
      signal.set_wakeup_fd(wakeup)
      os.close(self._read)
      os.close(write)

  def wait(self, seconds: float | None) -> None:
    """Sleeps until a signal comes, a process ends or the time is over."""
    if select.select([self._read], [], [], seconds)[0]:
      with contextlib.suppress(BlockingIOError):
        while os.read(self._read, 512):
          pass

  def _receive(self, number: int, frame: FrameType | None) -> None:
    if number in _STOPPING:
      self.urgent |= self.stop is not None and number == signal.SIGINT
      self.stop = self.stop or _STOPPING[signal.Signals(number)]
    elif number == signal.SIGUSR1:
      self.passed_on.append(number)


class Child:
  """The command, running in a process group of its own.

  Its stdout is ours; its stderr goes through here, so that the last lines of it are known.

  Args:
    command: program and arguments.

  Raises:
    OSError: it cannot be started.
  """

  def __init__(self, command: Sequence[str]):
    self._process = subprocess.Popen(command, stderr=subprocess.PIPE, process_group=0)
    self.pid = self._process.pid
    self._lines: deque[str] = deque(maxlen=_LINES)
    self._pump = threading.Thread(target=self._copy, name="stderr", daemon=True)
    self._pump.start()

  def wait(self, signals: Signals, grace: float) -> tuple[int, bool]:
    """Waits for the end, passes signals on, and ends the rest of the group.

    A stop goes to the command only, once: it ends its helpers itself. What has not ended `grace`
    seconds later, or at a second Ctrl-C, is killed with all of its group.

    Returns:
      Exit code (minus the number of the signal that ended it), and whether it was killed by us.
    """
    deadline, killed = None, False
    while not self._has_ended():
      now = time.monotonic()
      if signals.stop is not None and deadline is None:
        deadline = now + grace
        self._send(signals.stop)
      while signals.passed_on:
        self._send(signals.passed_on.pop())
      if deadline is not None and not killed and (signals.urgent or now >= deadline):
        killed = True
        self._kill_group()
      signals.wait(max(0.0, deadline - now) if deadline is not None and not killed else None)
    self._kill_group()  # what it left behind; it is not reaped yet, so the number is its own
    code = self._process.wait()
    self._pump.join(_PIPE_SECONDS)
    return code, killed

  def last_words(self) -> list[str]:
    """The last lines that it wrote to stderr."""
    return list(self._lines)

  def _has_ended(self) -> bool:
    """Whether it has; reaps orphans that came to us meanwhile (as PID 1 of a container)."""
    while (info := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
      if info.si_pid == self.pid:
        return True
      os.waitpid(info.si_pid, 0)
    return False

  def _send(self, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
      os.kill(self.pid, number)

  def _kill_group(self) -> None:
    with contextlib.suppress(ProcessLookupError):
      os.killpg(self.pid, signal.SIGKILL)

  def _copy(self) -> None:
    """Copies stderr as it comes, and keeps its last lines."""
    pipe, torn = self._process.stderr, b""
    assert pipe is not None
    with pipe:
      while chunk := os.read(pipe.fileno(), 1 << 16):
        with contextlib.suppress(OSError, ValueError):  # nobody reads ours any more
          sys.stderr.buffer.write(chunk)
          sys.stderr.buffer.flush()
        *lines, torn = (torn + chunk).replace(b"\r", b"\n").split(b"\n")
        torn = torn[-(1 << 16) :]
        self._lines.extend(self._text(line) for line in lines if line.strip())
      if torn.strip():
        self._lines.append(self._text(torn))

  def _text(self, line: bytes) -> str:
    return line.decode(errors="replace")[:_LENGTH]


def reap() -> None:
  """Reaps processes that ended and are nobody else's to wait for, while no command runs."""
  with contextlib.suppress(ChildProcessError):
    while os.waitpid(-1, os.WNOHANG)[0]:
      pass
