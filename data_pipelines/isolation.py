"""Work on a file in a process of its own, since files can make native code hang or crash.

Decoders are C, and among a hundred million files some make one loop for ever or take its process
down. Each thread that calls keeps one such process and uses it again; it is killed when it shows no
sign of life, and a crash costs the file that was under way, nothing else. So does every exception
but those of the machine (`faults`). Results travel by pickle. Deadlines are for standing still, not
for the whole work: a film may take hours.
"""

from collections.abc import Callable, Iterator
import contextlib
import ctypes
import dataclasses
import multiprocessing
from multiprocessing import connection as connections
import os
import signal
import sys
import threading
import time
import traceback
from typing import Any

from absl import logging

from data_pipelines import faults
from vidjax import errors

# Native libraries lose a little memory with each file.
_CALLS_PER_PROCESS = 500
_SECONDS_BETWEEN_SIGNS = 0.5
_PR_SET_PDEATHSIG = 1  # of Linux's prctl

_own = threading.local()


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What a call gave.

  Attributes:
    value: its result.
    cpu_s: processor seconds that it took, of all its threads.
  """

  value: Any
  cpu_s: float


class Alive:
  """Called by the work as it goes on; tells the waiting side, though not each time."""

  def __init__(self, connection: connections.Connection):
    self._connection = connection
    self._told_s = time.monotonic()

  def __call__(self, *_: object) -> None:
    """Says that the work goes on; arguments are for the convenience of callbacks."""
    now_s = time.monotonic()
    if now_s - self._told_s >= _SECONDS_BETWEEN_SIGNS:
      self._told_s = now_s
      try:
        self._connection.send(("alive", None))
      except OSError:  # nobody is there to listen; other errors of connections are the work's
        os._exit(1)


@contextlib.contextmanager
def machine_work(alive: Callable[[], None]) -> Iterator[None]:
  """For the part of the work that is up to the machine: reading and writing results.

  It is waited for as long as it takes (stores have deadlines of their own), and its errors end the
  run instead of costing the file that is under way.
  """
  done = threading.Event()

  def tell() -> None:
    while not done.wait(_SECONDS_BETWEEN_SIGNS):
      alive()

  thread = threading.Thread(target=tell, daemon=True)
  thread.start()
  try:
    with faults.of_machine():
      yield
  finally:
    done.set()
    thread.join()


def call(
  function: Callable[..., Any], *args: Any, stall_seconds: float, max_gigabytes: float = 0.0
) -> Outcome:
  """Calls `function(*args, alive)` in another process.

  Args:
    function: Importable by name. It calls `alive()` at least every `stall_seconds`.
    args: Anything that can be pickled.
    stall_seconds: How long without a sign of life until the process is killed.
    max_gigabytes: Memory that the process may have; more is refused to it. 0 for any; kept by Linux
      only.

  Raises:
    faults.FileFaultError: the process crashed, hung or was killed twice, or the function raised
      something.
    errors.NoSpaceError: it found a disk full.
    faults.MachineFaultError: it raised something else that is the machine's fault.
  """
  try:
    return _call(function, args, stall_seconds, max_gigabytes)
  except _KilledError:  # by a system without memory, which others may have taken: tried again
    return _call(function, args, stall_seconds, max_gigabytes)


def _call(
  function: Callable[..., Any], args: tuple, stall_seconds: float, max_gigabytes: float
) -> Outcome:
  worker = getattr(_own, "worker", None)
  if worker is None or not worker.is_alive():  # one that was killed while idle is no file's fault
    worker = _Worker()
  _own.worker = worker
  try:
    kind, value = worker.call(function, args, stall_seconds, round(max_gigabytes * 1e9))
  except faults.FileFaultError:
    _own.worker = None
    raise
  except BaseException:
    worker.kill()  # this side was interrupted, and an answer may still come
    _own.worker = None
    raise
  if worker.calls >= _CALLS_PER_PROCESS or kind == "spent":
    close()
  if kind == "done":
    return value
  logging.info("%s", "\n".join(value.__notes__))
  raise value


def close() -> None:
  """Ends the process of this thread, if it has one."""
  worker = getattr(_own, "worker", None)
  _own.worker = None
  if worker:
    worker.close()


class _KilledError(faults.FileFaultError):
  """The process was killed, and not by us."""


class _Worker:
  """The calling side of one process."""

  def __init__(self):
    # Forked, it would inherit locks that other threads hold at that moment.
    context = multiprocessing.get_context("spawn")
    self._connection, theirs = context.Pipe()
    self._process = context.Process(target=_serve, args=(theirs, os.getpid()), daemon=True)
    self._process.start()
    theirs.close()
    self.calls = 0

  def call(
    self, function: Callable[..., Any], args: tuple, stall_seconds: float, max_bytes: int
  ) -> tuple[str, Any]:
    """("done", outcome); "raised" or, if the process should not go on, "spent" and an exception."""
    self.calls += 1
    try:
      self._connection.send((function, args, max_bytes))
      while self._connection.poll(stall_seconds):
        kind, value = self._connection.recv()
        if kind != "alive":
          return kind, value
    except (EOFError, OSError):
      self._process.join(timeout=60)
      is_killed = self._process.exitcode == -signal.SIGKILL
      kind = _KilledError if is_killed else faults.FileFaultError
      raise kind(f"the process that read it crashed ({self._how()})") from None
    self.kill()
    raise faults.FileFaultError(f"it hung: nothing happened for {stall_seconds:g} s")

  def is_alive(self) -> bool:
    return self._process.is_alive()

  def _how(self) -> str:
    code = self._process.exitcode
    if code is not None and code < 0:
      with contextlib.suppress(ValueError):
        return signal.Signals(-code).name
    return f"exit code {code}"

  def kill(self) -> None:
    self._process.kill()
    self._process.join()
    self._connection.close()

  def close(self) -> None:
    """Ends the process after its last answer."""
    self._connection.close()
    self._process.join()


def _serve(connection: connections.Connection, parent: int) -> None:
  """The other side: answers calls until nobody is there to ask."""
  _end_with(parent)
  # Ctrl-C goes to the whole group of processes; what it means is decided where the calls are made.
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
    while True:
      function, args, max_bytes = connection.recv()
      _limit_memory(max_bytes)
      connection.send(("alive", None))  # the first time that took imports of some seconds
      began_s = time.process_time()
      try:
        value = function(*args, Alive(connection))
        answer = ("done", Outcome(value, time.process_time() - began_s))
      except Exception as error:
        # One that has had too little memory may have lost some for good.
        answer = ("spent" if isinstance(error, MemoryError) else "raised", _portable(error))
      connection.send(answer)


def _portable(error: Exception) -> Exception:
  """What an exception means, as one that can travel; many of libraries cannot be made again."""
  text = faults.describe(error)
  if errors.is_no_space(error):
    found: Exception = errors.NoSpaceError(text)
  elif faults.is_of_machine(error):
    found = faults.MachineFaultError(text)
  else:
    found = faults.FileFaultError(text)
  found.add_note("".join(traceback.format_exception(error)))
  return found


def _limit_memory(num_bytes: int) -> None:
  """Bounds what this process may have; of its own data, since libraries and files map far more."""
  if sys.platform != "linux":
    return
  import resource

  _, most = resource.getrlimit(resource.RLIMIT_DATA)
  bounds = [bound for bound in (num_bytes, most) if bound > 0]  # -1 is no bound
  resource.setrlimit(resource.RLIMIT_DATA, (min(bounds, default=most), most))


def _end_with(parent: int) -> None:
  """Ends this process with the thread that has started it, even if it hangs in native code then."""
  if sys.platform == "linux":
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
  if os.getppid() != parent:  # which is gone already
    os._exit(1)
