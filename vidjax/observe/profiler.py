"""Traces of a few steps (XPlane, for XProf and TensorBoard), when they are asked for.

A trace of the next `profile.num_steps` steps is asked for in three ways:
  config    `profile.at_steps` lists the first step of each;
  signal    `kill -USR1 PID`, on any host, for the devices of that process;
  file      `touch WORKDIR/profile`, where the workdir is on a file system. The file is taken away.

The traces of a list or file are those of the first process. A request that comes while a trace is
under way is answered by that trace. The end of the run ends a trace, and so does an error: what was
recorded is kept. `profile_traces/STEP`, of the first step in it, appears when it is whole. Nothing
that goes wrong here stops training.
"""

from collections.abc import Callable
import contextlib
import signal
import tempfile
import threading
import time
from types import TracebackType

from absl import logging
import jax

from vidjax import storage
from vidjax.config import ProfileConfig
from vidjax.observe import console

LOOK_SECONDS = 5.0  # between two looks for the file
FOLDER = "profile_traces"
_REQUEST = "profile"


class Profiler:
  """Starts and ends traces between steps; a context manager that listens for the signal.

  Args:
    config: which steps, and how many of them.
    root: workdir.
    aside: gives a context in which no step is running, and whose time is not that of a step.
  """

  def __init__(
    self,
    config: ProfileConfig,
    root: storage.Path,
    aside: Callable[[], contextlib.AbstractContextManager[None]],
  ):
    self._config, self._root, self._aside = config, root, aside
    self._first = jax.process_index() == 0
    self._looks = self._first and storage.is_local(root)
    self._looked = time.monotonic()
    self._signalled = False
    self._staging: tempfile.TemporaryDirectory[str] | None = None  # of the trace under way
    self._from, self._until = 0, 0  # its first and last step
    self._handler = None

  def before(self, step: int) -> None:
    """Starts a trace if one is wanted from `step` on; to be called before it is dispatched."""
    if self._wanted(step) and self._staging is None:
      with self._aside():
        self._start(step)

  def after(self, step: int) -> None:
    """Ends the trace whose last step was dispatched just now."""
    if self._staging is not None and step >= self._until:
      with self._aside():
        self._stop()

  def __enter__(self) -> "Profiler":
    if threading.current_thread() is threading.main_thread():
      self._handler = signal.signal(signal.SIGUSR1, self._receive)
    return self

  def __exit__(
    self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
  ) -> None:
    if self._handler is not None:
      signal.signal(signal.SIGUSR1, self._handler)
    if self._staging is not None:
      self._stop()

  def _receive(self, number: int, frame: object) -> None:
    self._signalled = True

  def _wanted(self, step: int) -> bool:
    # All are looked at in each call: what is wanted twice is wanted once.
    listed = self._first and step in self._config.at_steps
    signalled, self._signalled = self._signalled, False
    return self._file_taken() or signalled or listed

  def _file_taken(self) -> bool:
    if not self._looks or time.monotonic() - self._looked < LOOK_SECONDS:
      return False
    self._looked = time.monotonic()
    file = self._root / _REQUEST
    if not file.is_file():
      return False
    try:
      storage.remove(file)
    except OSError as exc:  # it would ask again and again
      self._looks = False
      logging.warning("%s cannot be removed and is not looked at any more: %s", file, exc)
    return True

  def _start(self, step: int) -> None:
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0  # calls of Python functions would be most of it, and slow
    staging = tempfile.TemporaryDirectory(prefix="vidjax-", ignore_cleanup_errors=True)
    try:
      jax.profiler.start_trace(staging.name, profiler_options=options)
    except Exception as exc:
      staging.cleanup()
      logging.warning("no trace of step %d: %s", step, exc)
      return
    self._staging, self._from, self._until = staging, step, step + self._config.num_steps - 1

  def _stop(self) -> None:
    assert self._staging is not None
    staging, self._staging = self._staging, None
    process = jax.process_index()
    folder = self._root / FOLDER / f"{self._from:08d}{f'_process{process}' if process else ''}"
    try:
      jax.profiler.stop_trace()
      storage.publish(staging.name, folder)
      console.line(f"trace from step {self._from} on: {folder}")
    except Exception as exc:
      logging.warning("the trace of step %d is lost: %s", self._from, exc)
    finally:
      staging.cleanup()
