"""Where the time of a run goes: `goodput.jsonl`, written as the run goes and over all its attempts.

Each line is a stretch of one attempt, and the stretches of an attempt follow each other without a
gap. `vidjax goodput` adds them up (`vidjax/goodput.py`).

    attempt              number of the attempt
    event                begin, resume, phase, tick or end: what ended the stretch
    began, ended         wall clock, seconds since 1970
    clock                seconds since the attempt began, by a clock that does not jump
    seconds              of the stretch, by class; they add up to its length
    phase                what goes on when the stretch ends; null outside of all phases
    first_step           the first and last step that were seen to end in the stretch; null if none
    last_step
    from_step            the state's step when a `resume` was over; null otherwise
    outcome              of the `end`: "done", or the name of what was raised; null otherwise

A line is added when a phase begins or ends, when a step is logged, and every `TICK_SECONDS`: a
killed process loses no more than that (and a minute in an object store).
"""

from collections.abc import Callable, Iterator
import contextlib
import os
import threading
import time
from types import TracebackType

from absl import logging

from vidjax import storage
from vidjax.observe import journal

NAME = "goodput.jsonl"
TICK_SECONDS = 30.0

# A phase that comes with every step: its time is added up, and its ends are no lines.
DATA_WAIT = "data_wait"


class Ledger:
  """The times of one attempt, a context manager around it; time is counted from when it is made.

  Phases nest: the time of an inner phase does not count for the outer one. Time outside of all
  phases is "init" before training has begun, "end" after it.

  Args:
    root: workdir.
    attempt: number of this attempt.
    writes: whether this process is the one that writes the file.
    age: seconds that the attempt has lasted by now.
    watched: context for a phase, in which somebody else watches it, too.
  """

  def __init__(
    self,
    root: storage.Path,
    attempt: int,
    *,
    writes: bool = True,
    age: float = 0.0,
    watched: Callable[[str], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
  ):
    self._watched = watched
    self._path, self._attempt, self._writes = root / NAME, attempt, writes
    self._journal: journal.Journal | None = None
    self._outside = "init"
    self._phases: list[str] = []
    self._mark = time.perf_counter()  # what came before it is in `_seconds`
    self._began = self._mark - age
    self._seconds: dict[str, float] = {"init": age}
    self._row_began = time.time() - age
    self._steps: tuple[int, int] | None = None
    # The main thread goes from phase to phase, another one writes what has come of it meanwhile.
    self._lock = threading.RLock()
    self._closed = threading.Event()
    self._ticker = threading.Thread(target=self._tick, name="goodput", daemon=True)

  def __enter__(self) -> "Ledger":
    if self._writes:
      self._journal = journal.Journal(self._path)
      self._write("begin")
      self._ticker.start()
    return self

  def __exit__(
    self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
  ) -> None:
    self._closed.set()
    if self._journal is not None:
      self._ticker.join()
    self.end("done" if error is None else type(error).__name__)

  def end(self, outcome: str) -> None:
    """Writes the last line; called from another thread where the process is ended from there."""
    if self._journal is None:
      return
    try:
      with contextlib.closing(self._journal):
        self._write("end", outcome=outcome)
    except OSError as exc:
      # How the run ends is not to be hidden: its own error says more, and a ledger is no result.
      logging.warning("the end of this attempt is not in %s: %s", self._path, exc)

  @contextlib.contextmanager
  def phase(self, name: str) -> Iterator[None]:
    """Counts the time inside as `name`."""
    self._enter(name)
    try:
      with self._watched(name):
        yield
    finally:
      self._leave(name)

  def resumed(self, step: int) -> None:
    """Training goes on from the state of `step`: steps after it that were done before are lost."""
    self._write("resume", from_step=step)

  def step_ended(self, step: int) -> None:
    """Steps up to this one have ended."""
    with self._lock:
      self._steps = (self._steps[0] if self._steps else step, step)

  def note(self) -> None:
    """Writes what has come so far."""
    self._write("tick")

  def publish(self) -> None:
    """Writes what has come so far, and makes it visible to readers also in an object store."""
    with self._lock:
      self.note()
      if self._journal is not None:
        self._journal.upload()

  def _enter(self, name: str) -> None:
    with self._lock:
      self._charge()
      self._phases.append(name)
      if name != DATA_WAIT:
        self._write("phase")

  def _leave(self, name: str) -> None:
    with self._lock:
      self._charge()
      left = self._phases.pop()
      assert left == name
      if name == "steps":
        self._outside = "end"
      if name != DATA_WAIT:
        self._write("phase")

  def _charge(self) -> None:
    """Counts the time since the last call for what went on."""
    now = time.perf_counter()
    name = self._phases[-1] if self._phases else self._outside
    self._seconds[name] = self._seconds.get(name, 0.0) + now - self._mark
    self._mark = now

  def _write(self, event: str, *, from_step: int | None = None, outcome: str | None = None) -> None:
    with self._lock:
      if self._journal is None:
        return
      self._charge()
      ended = time.time()
      first, last = self._steps or (None, None)
      row = {
        "attempt": self._attempt,
        "event": event,
        "began": round(self._row_began, 3),
        "ended": round(ended, 3),
        "clock": round(self._mark - self._began, 6),
        "seconds": {name: round(s, 6) for name, s in self._seconds.items()},
        "phase": self._phases[-1] if self._phases else None,
        "first_step": first,
        "last_step": last,
        "from_step": from_step,
        "outcome": outcome,
      }
      self._row_began, self._seconds, self._steps = ended, {}, None
      self._journal.write(row)

  def _tick(self) -> None:
    assert self._journal is not None
    while not self._closed.wait(TICK_SECONDS):
      try:
        self.note()
        self._journal.upload_if_due()
      except OSError as exc:  # a full disk stops the run where it matters, not here
        logging.warning("%s cannot be written: %s", self._path, exc)


def process_age() -> float:
  """Seconds since this process was started; 0 where the system does not say."""
  try:
    fields = storage.read_text("/proc/self/stat").rsplit(")", 1)[1].split()
    started = int(fields[19]) / os.sysconf("SC_CLK_TCK")  # since boot
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started)
  except (OSError, AttributeError, IndexError, ValueError):
    return 0.0
