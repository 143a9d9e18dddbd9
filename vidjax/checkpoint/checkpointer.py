"""Saves and restores the training state, so that a run can trust what it resumes from.

* A step counts when it was written to the end; the disk is asked each time.
* Every leaf has a checksum, compared after each restore, and for a sample of them right after the
  save. A damaged step is set aside and the next older one taken. A step that is whole but does not
  fit the run is an error: never a fresh start. So is, after a while, a store that does not answer.
* A state with NaN or infinity is not saved: it would push the good steps out.
* An error of the background writer surfaces at the next step, on all processes.
* Steps are removed only when a newer one was read back, and never by a run that has lost its
  workdir to another.
"""

from collections.abc import Callable
import contextlib
import threading
import time
from typing import Any

from absl import logging
import jax

from vidjax import errors, storage
from vidjax.checkpoint import layout, orbax_io, verify
from vidjax.checkpoint.fingerprint import fingerprints
from vidjax.checkpoint.local import LocalCopies
from vidjax.checkpoint.verify import DamagedError, UnreachableError
from vidjax.errors import CheckpointError, HangError, NonFiniteError, NoSpaceError, UserError
from vidjax.parallel import distributed

FAILED = 1000  # above all signals: what `failing` gives, plus the exit code
_SPARE = 1.1  # of the state's size has to be free before a save; compression is not counted on
_POLL_SECONDS = 0.1
_PATIENCE = (2.0, 8.0, 30.0, 120.0)  # seconds until a store that did not answer is asked again
_DONE, _RUNNING, _FAILED = range(3)  # how a background save stands, the worst last
_ON_ANOTHER = "a save failed on another process, which says why"


class Checkpointer:
  """Checkpoints of one run; every process of the run makes one and calls it alike.

  Attributes:
    directory: folder of the steps, local, `gs://` or `s3://`.
    keep: how many of the newest complete steps stay.
    milestone_every: steps that are multiples of it stay for ever; 0: none.
    fence: says why this run may write no more, "" while it may; process 0 asks before each save.
    local: copies in this machine's memory, if there are any.
    damaged_saves: how many steps process 0 did not find on disk as they were saved.
  """

  def __init__(self, directory: storage.PathLike, keep: int, milestone_every: int = 0):
    if keep < 1:
      raise ValueError(f"checkpoint.keep={keep}: at least one checkpoint has to stay")
    self.directory = storage.Path(directory)
    if storage.is_local(directory):
      self.directory = self.directory.absolute()
    self.keep, self.milestone_every = keep, milestone_every
    self.fence: Callable[[], str] = lambda: ""
    self.local: LocalCopies | None = None
    self.damaged_saves = 0
    self._writer = orbax_io.make_writer()
    self._is_first_save = True
    self._writing: int | None = None  # until it is known how that ended
    self._saved = -1  # the last step that was written to the end
    self._error: CheckpointError | HangError | NoSpaceError | None = None
    self._is_written = threading.Event()  # or is known not to be
    self._follower: threading.Thread | None = None  # what comes after the newest write
    self._pinned: set[int] = set()

  def save(self, step: int, state: Any, position: dict[str, Any], *, interim: bool = False) -> bool:
    """Saves in the background; returns as soon as `state` may be donated or changed.

    Args:
      step: number of updates completed.
      state: pytree of `jax.Array`.
      position: where the run is, as JSON values: data position, samples, config fingerprint.
      interim: the run is being stopped between two steps that are due; this one does not count for
        `keep` and goes when the next is there.

    Returns:
      False if this step is complete on disk already.

    Raises:
      NonFiniteError: the state has NaN or infinity.
      NoSpaceError: the disk has no room for it, or had none for the save before.
      CheckpointError: the save before failed in the background.
      UserError: another run has taken over.
    """
    self._finish()
    self._check_fence()
    if distributed.agreed(layout.is_complete(self.directory / str(step))):
      return False
    if self._is_first_save and jax.process_index() == 0:
      layout.remove_unfinished(self.directory)  # it would take the room that this save needs
    self._is_first_save = False
    leaves = layout.flatten(state)
    checksums, broken = fingerprints(leaves)
    if broken:
      raise NonFiniteError(
        f"step {step} is not saved, it has NaN or infinity in {layout.shorten(broken)}"
      )
    self._check_space(step, leaves)
    record = layout.Record(
      position,
      {k: layout.Leaf(v.shape, str(v.dtype), checksums[k]) for k, v in leaves.items()},
      interim,
    )
    with orbax_io.in_our_words(self.directory / str(step)):
      orbax_io.write(self._writer, self.directory / str(step), leaves, record)
    self._writing, self._is_written = step, threading.Event()
    arguments = (step, self._is_written, self._follower)
    self._follower = threading.Thread(target=self._follow, args=arguments, name="follow-save")
    self._follower.start()
    return True

  def latest_step(self, *, before: int | None = None) -> int | None:
    """Newest complete step on disk, of those before a step; None if there is none."""
    steps = layout.complete_steps(self.directory)
    steps = [step for step in steps if before is None or step < before]
    latest = distributed.from_first(steps[-1] if steps else -1)
    return None if latest < 0 else latest

  def position(self, step: int) -> dict[str, Any]:
    """What `save` was given as `position` for this step."""
    return layout.read_record(self.directory / str(step)).position

  def restore(
    self, step: int, abstract_state: Any, accept: Callable[[dict[str, Any]], None] | None = None
  ) -> Any:
    """Restores a step straight into the shardings asked for, on whatever mesh.

    Args:
      step: a complete step.
      abstract_state: the state with `jax.ShapeDtypeStruct` leaves, each with its sharding.
      accept: is shown the position before anything is read, and may raise.

    Raises:
      CheckpointError: there is no such step, or it does not fit: the message names the leaf and
        both shapes.
      DamagedError: what was read is not what was saved.
    """
    path = self.directory / str(step)
    if not layout.is_complete(path):
      have = layout.complete_steps(self.directory)
      raise CheckpointError(f"no complete checkpoint {path}: complete steps are {have}")
    wanted = layout.flatten(abstract_state)
    record = self._record(path)
    if accept is not None:
      accept(record.position)
    layout.check_fit(path, record, wanted)
    return layout.unflatten(abstract_state, verify.read_verified(path, record, wanted))

  def restore_latest(
    self, abstract_state: Any, accept: Callable[[dict[str, Any]], None] | None = None
  ) -> tuple[int, Any, dict[str, Any]] | None:
    """Restores the newest step that is whole, setting damaged ones aside.

    A copy in this machine's memory is used where it is newer and good on all processes.

    Args:
      abstract_state: see `restore`.
      accept: see `restore`.

    Returns:
      The step, the state and the position; None where nothing was ever saved.

    Raises:
      CheckpointError: the newest whole step does not fit, or all steps are damaged.
      UnreachableError: the store did not answer for some minutes; no step is touched.
    """
    patience = iter(_PATIENCE)
    while True:
      step = self.latest_step()
      if self.local is not None:
        copy = self.local.restore(abstract_state, newer_than=step or 0, accept=accept)
        if copy is not None:
          return copy
      if step is None:
        break
      state, error = None, None
      try:
        state = self.restore(step, abstract_state, accept)
      except (DamagedError, UnreachableError) as exc:
        error = exc
      if distributed.agreed(state is not None):
        return step, state, self.position(step)
      why = str(error or f"another host could not read step {step}")
      if not distributed.agreed(not isinstance(error, UnreachableError)):
        pause = next(patience, None)
        if pause is None:
          raise UnreachableError(f"{why}; nothing is set aside: run the same command again")
        logging.warning("tried again in %g s: %s", pause, why)
        time.sleep(pause)
        continue
      logging.warning("set aside: %s", why)
      if jax.process_index() == 0:
        layout.set_aside(self.directory / str(step), why)
      distributed.agreed(True)  # nobody looks for the newest step before the mark is there
    damaged, unfinished = layout.lost_steps(self.directory)
    if damaged:
      raise CheckpointError(
        f"all checkpoints in {self.directory} are damaged: {damaged}; to start afresh all the same,"
        " move that folder away"
      )
    if unfinished:
      logging.warning("%s: steps %s are half-written, none is used", self.directory, unfinished)
    return None

  def roll_back(self, step: int, why: str) -> None:
    """Makes `step` the newest: leaves out all after it, local copies too; 0 leaves none."""
    with contextlib.suppress(
      CheckpointError, HangError, NoSpaceError
    ):  # it was to be left out in any case
      self._finish()
    if self._follower is not None:
      self._follower.join()
    if jax.process_index() == 0:
      for newer in layout.complete_steps(self.directory):
        if newer > step:
          layout.leave_out(self.directory / str(newer), why)
    if self.local is not None:
      self.local.forget()
    self._saved = -1
    distributed.agreed(True)  # nobody looks for the newest step before the marks are there

  def pin(self, step: int) -> None:
    """Keeps a step, also one that is just being written, until `unpin`; later attempts keep it."""
    self._pinned.add(step)
    path = self.directory / str(step)
    if jax.process_index() == 0 and layout.is_complete(path):
      layout.pin(path)

  def unpin(self, step: int) -> None:
    """Lets a step go when it is old."""
    self._pinned.discard(step)
    if jax.process_index() == 0:
      layout.unpin(self.directory / str(step))

  def has(self, step: int) -> bool:
    """Whether a step is complete on disk."""
    return layout.is_complete(self.directory / str(step))

  def failing(self) -> int:
    """`FAILED` plus an exit code if the last save is known to have failed, else 0; no wait.

    For a number that all processes agree on (`distributed.Largest`), and then `give_up`.
    """
    return 0 if self._error is None else FAILED + self._error.exit_code

  def give_up(self, number: int) -> None:
    """Raises the error of the last save, on every process; `number` is one of `failing`."""
    self._raise_error()
    raise errors.of_code(number - FAILED)(_ON_ANOTHER)

  def wait(self) -> None:
    """Waits until the last save is complete on disk and a sample of it was read back.

    Raises:
      DamagedError: it was not what was saved.
      NoSpaceError, CheckpointError, UserError: as `save` does.
    """
    self._finish()
    if self._follower is not None:
      self._follower.join()
    path = self.directory / str(self._saved)
    if not distributed.agreed(self._saved < 0 or layout.is_complete(path)):
      raise DamagedError(f"checkpoint {path} is not what was saved: run the same command again")
    if self.local is not None:
      self.local.remove_until(self._saved)

  def close(self) -> None:
    """Waits as `wait` does, and releases threads; the object is of no use afterwards."""
    try:
      self.wait()
    finally:
      self._writer.close()

  def __enter__(self) -> "Checkpointer":
    return self

  def __exit__(self, kind: type[BaseException] | None, *_) -> None:
    if kind is None:
      self.close()
    elif jax.process_count() == 1:  # of several, the writer may wait for those that failed
      with contextlib.suppress(Exception):
        self._writer.close()
        if self._follower is not None:  # Python would end beneath its reading
          self._follower.join()

  def _record(self, path: storage.Path) -> layout.Record:
    """Record of a step, which all processes can read or none does."""
    record, error = None, None
    try:
      record = verify.read_record(path)
    except (DamagedError, UnreachableError) as exc:
      error = exc
    if not distributed.agreed(record is not None) or record is None:
      raise error or DamagedError(f"the record of {path} cannot be read by another process")
    return record

  def _finish(self) -> None:
    """Waits until the last step is written, not for what follows.

    All processes raise where one has failed: what the others wait for would never come.
    """
    if self._writing is None:
      return
    worst = _RUNNING
    while worst == _RUNNING:
      mine = _DONE if self._is_written.wait(_POLL_SECONDS) else _RUNNING
      worst = distributed.largest(mine if self._error is None else _FAILED)
    if worst == _FAILED:
      self._raise_error()
      raise CheckpointError(_ON_ANOTHER)
    self._saved, self._writing = self._writing, None
    self._check_fence()

  def _follow(
    self, step: int, is_written: threading.Event, before: threading.Thread | None
  ) -> None:
    """Waits for the writer; on process 0, reads the step back and removes old ones."""
    try:
      with orbax_io.in_our_words(self.directory / str(step)):
        self._writer.wait_until_finished()
    except (CheckpointError, HangError, NoSpaceError) as exc:
      self._error = exc
      return
    finally:
      is_written.set()
    if before is not None:
      before.join()
    if jax.process_index() == 0:
      self._clean(step)

  def _raise_error(self) -> None:
    """Raises what is known to have gone wrong with the last save; it is said once."""
    error, self._error, self._writing = self._error, None, None
    if error is not None:
      raise error

  def _check_fence(self) -> None:
    why = self.fence() if jax.process_index() == 0 else ""
    if not distributed.agreed(not why):
      raise UserError(why or "another run has taken over the workdir: process 0 says which")

  def _clean(self, step: int) -> None:
    """Reads back a sample of what was saved; removes old steps if it is good. On process 0."""
    try:
      if not self._is_verified(step):
        return
      if why := self.fence():
        logging.warning("no old checkpoints are removed: %s", why)
        return
      for pinned in self._pinned & set(layout.complete_steps(self.directory)):
        layout.pin(self.directory / str(pinned))
      layout.remove_old(
        self.directory, self.keep, self.milestone_every, lambda old: old in self._pinned
      )
    except Exception:
      # A step too many does no harm, and the next save tries again.
      logging.exception("could not verify %d or remove old checkpoints: %s", step, self.directory)

  def _is_verified(self, step: int) -> bool:
    path = self.directory / str(step)
    try:
      try:
        verify.check_sample(path, seed=step)
      except (DamagedError, UnreachableError):  # a store may fail once
        verify.check_sample(path, seed=step)
    except UnreachableError as exc:
      logging.warning("not read back, older steps are kept: %s", exc)
      return False
    except DamagedError as exc:
      self.damaged_saves += 1
      logging.warning("set aside right after the save, older steps are kept: %s", exc)
      layout.set_aside(path, str(exc))
      return False
    return True

  def _check_space(self, step: int, leaves: dict[str, jax.Array]) -> None:
    free = storage.free_space(self.directory)
    need = int(_SPARE * sum(leaf.nbytes for leaf in leaves.values()))
    if not distributed.agreed(free is None or free >= need):
      raise NoSpaceError(
        f"step {step} is not saved: {self.directory} has {(free or 0) / 1e9:.2f} GB free,"
        f" the state needs {need / 1e9:.2f} GB; free some or lower checkpoint.keep"
      )
