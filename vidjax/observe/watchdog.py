"""Ends a run that hangs: a deadline for each phase, stacks of all processes, exit code 6.

A process that waits for another one in a collective, a thread that sleeps, storage that does not
answer: JAX waits for all of them, for ever, and while it waits no signal handler runs. So a thread
of its own looks at the clock. When a phase has taken longer than `config.deadlines` allows, it
writes the stacks of all threads to `WORKDIR/hang/attemptN_processI.txt` and to stderr, lets the
other processes write theirs, says which of them is behind or silent, and ends the process. What is
in the workdir is whole: the newest checkpoint is where the run goes on.

Time is monotonic, so a clock that is set does no harm; time in which this process was stopped
(SIGSTOP, a suspended machine) does not count.
"""

from collections.abc import Callable, Iterator
import contextlib
import faulthandler
import json
import os
import socket
import sys
import tempfile
import threading
import time
from types import TracebackType

import jax

from vidjax import storage
from vidjax.config import DeadlinesConfig
from vidjax.errors import HANG
from vidjax.parallel import coordination

FOLDER = "hang"

# Phase of the ledger -> its deadline. What is not listed is done in between, as saving is.
_DEADLINES = {
  "init": "restore",
  "restore": "restore",
  "compile": "compile",
  "data_wait": "data",
  "steps": "step",
}
_OTHER = "save"
_TICK = 1.0  # seconds between two looks
_SAY = 5.0  # seconds between two signs of life
_LINGER = 15.0  # for the stacks of the other processes, and for storage that may hang itself
_BACKSTOP = 60.0  # after the deadline, for code that lets no other thread run


class Watchdog:
  """Watches one process; a context manager that runs the thread.

  Args:
    deadlines: in seconds.
    root: workdir.
    attempt: number of this attempt of the run.

  Attributes:
    last_words: called with "hang" before the process is ended.
  """

  def __init__(self, deadlines: DeadlinesConfig, root: storage.Path, attempt: int):
    self._deadlines, self._root, self._attempt = deadlines, root, attempt
    self._now: tuple[str, float] = ("init", time.monotonic())  # phase, and since when
    self.last_words: Callable[[str], None] = lambda _: None
    self._step, self._dispatched = 0, False
    self._closed = threading.Event()
    shortest = min((s for s in vars(deadlines).values() if s), default=_TICK)
    self._tick = min(_TICK, shortest / 4)
    self._say_every = max(min(_SAY, shortest / 4), jax.process_count() / 200)
    self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

  def __enter__(self) -> "Watchdog":
    self._now = (self._now[0], time.monotonic())
    self._thread.start()
    return self

  def __exit__(
    self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
  ) -> None:
    self._closed.set()
    self._thread.join()
    faulthandler.cancel_dump_traceback_later()

  @contextlib.contextmanager
  def phase(self, name: str) -> Iterator[None]:
    """What is done inside has its own deadline; that of the outer phase begins anew after it."""
    outer = self._now[0]
    self._now = (name, time.monotonic())
    try:
      yield
    finally:
      self._now = (outer, time.monotonic())

  def beat(self, step: int) -> None:
    """Says that `step` was begun: its deadline starts."""
    self._step, self._dispatched = step, False
    self._now = (self._now[0], time.monotonic())

  def dispatch(self) -> None:
    """Says that the step has its batch and goes to the devices; there it may wait for others."""
    self._dispatched = True

  def _run(self) -> None:
    looked, said = time.monotonic(), 0.0
    while not self._closed.wait(self._tick):
      now = time.monotonic()
      stopped = now - looked - self._tick
      looked = now
      phase, since = self._now
      if stopped > 5 * self._tick:
        self._now = (phase, since + stopped)
        continue
      if now - said >= self._say_every:
        coordination.tell(f"alive/{jax.process_index()}", self._state(now))
        said = now
      limit = getattr(self._deadlines, _DEADLINES.get(phase, _OTHER))
      if limit:
        faulthandler.dump_traceback_later(max(since + limit - now, 0) + _BACKSTOP, exit=True)
      else:
        faulthandler.cancel_dump_traceback_later()
      if limit and now - since > limit:
        self._end(f"{phase} took longer than {limit:g} s, at step {self._step}")
      elif elsewhere := coordination.told("hang"):
        process, what = next(iter(elsewhere.items()))
        self._end(f"process {process} said: {what}", first=False)

  def _state(self, now: float) -> str:
    phase, since = self._now
    host = socket.gethostname()
    place = [self._step, self._dispatched]
    return json.dumps([place, phase, round(now - since, 1), host, round(now, 1)])

  def _end(self, what: str, *, first: bool = True) -> None:
    """Writes what there is to know, lets the others do so, and leaves."""
    me, count = jax.process_index(), jax.process_count()
    if first:
      coordination.tell(f"hang/{me}", what)
    head = f"attempt {self._attempt}, process {me} of {count}: {what}"
    report = f"{head}\n{self._others()}{_stacks()}"
    print(f"\nvidjax: error: hang: {report}", file=sys.stderr, flush=True)
    path = self._root / FOLDER / f"attempt{self._attempt}_process{me}.txt"

    def write() -> None:
      storage.write_text(path, report)
      self.last_words("hang")

    writing = threading.Thread(target=write, daemon=True)  # storage may be what hangs
    writing.start()
    writing.join(_LINGER)
    coordination.tell(f"hung/{me}", "")
    deadline = time.monotonic() + (_LINGER if me == 0 and count > 1 else 0)
    while len(coordination.told("hung")) < count and time.monotonic() < deadline:
      time.sleep(0.1)  # the service ends with this process, and the others with the service
    os._exit(HANG)

  def _others(self) -> str:
    """A line on each process, and who is behind or says nothing."""
    before = coordination.told("alive")
    if not before:
      return ""
    time.sleep(2.5 * self._say_every)
    after = coordination.told("alive")
    # Those that write a report of their own say nothing else meanwhile.
    speaking = {str(jax.process_index()), *coordination.told("hang")}
    silent = [i for i in before if i not in speaking and before[i] == after.get(i)]
    rows = {i: json.loads(text) for i, text in after.items()}
    lines = []
    lowest = min(row[0] for row in rows.values())
    for i, (place, phase, seconds, host, _) in sorted(rows.items(), key=lambda item: int(item[0])):
      remark = "  <- SILENT: stopped or dead" if i in silent else ""
      if not remark and place == lowest < max(row[0] for row in rows.values()):
        remark = "  <- BEHIND the others"
      step = f"step {place[0]}{'' if place[1] else ', not dispatched'}"
      lines.append(f"  process {i} on {host}: {step}, {seconds:g} s in {phase}{remark}\n")
    return "".join(lines)


def _stacks() -> str:
  """Of all threads of this process."""
  with tempfile.TemporaryFile("w+") as file:
    faulthandler.dump_traceback(file, all_threads=True)
    file.seek(0)
    return file.read()
