"""Saves and restores the training state, so that a run can trust what it resumes from.

* A step counts when it was written to the end; the disk is asked each time.
* Every leaf has a checksum, compared after each restore. A damaged step is set aside and the next
  older one taken. A step that is whole but does not fit the run is an error: never a fresh start.
* A state with NaN or infinity is not saved: it would push the good steps out.
* An error of the background writer surfaces at the next call.
"""

from collections.abc import Callable, Iterator
import contextlib
import threading
from typing import Any

from absl import logging
import jax

from vidjax import storage
from vidjax.checkpoint import layout, orbax_io
from vidjax.checkpoint.fingerprint import fingerprint_host, fingerprints
from vidjax.errors import CheckpointError, NonFiniteError, NoSpaceError, is_no_space
from vidjax.parallel import distributed

_SPARE = 1.1  # of the state's size has to be free before a save; compression is not counted on


class DamagedError(CheckpointError):
  """The bytes on disk are not those that were saved."""


class Checkpointer:
  """Checkpoints of one run; every process of the run makes one and calls it alike.

  Attributes:
    directory: folder of the steps, local, `gs://` or `s3://`.
    keep: how many of the newest complete steps stay.
  """

  def __init__(self, directory: storage.PathLike, keep: int):
    if keep < 1:
      raise ValueError(f"checkpoint.keep={keep}: at least one checkpoint has to stay")
    self.directory = storage.Path(directory)
    if storage.is_local(directory):
      self.directory = self.directory.absolute()
    self.keep = keep
    self.pinned: set[int] = set()
    self._writer = orbax_io.make_writer()
    self._is_first_save = True
    self._writing: int | None = None
    self._cleaner: threading.Thread | None = None

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
    """
    self._finish()
    if distributed.all_agree(layout.is_complete(self.directory / str(step))):
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
    self._writing = step
    with _in_our_words(self.directory / str(step)):
      orbax_io.write(self._writer, self.directory / str(step), leaves, record)
    return True

  def latest_step(self, *, before: int | None = None) -> int | None:
    """Newest complete step on disk, of those before a step; None if there is none."""
    steps = layout.complete_steps(self.directory)
    steps = [step for step in steps if before is None or step < before]
    latest = distributed.from_first(steps[-1] if steps else -1)
    return None if latest < 0 else latest

  def has(self, step: int) -> bool:
    """Whether a step is complete on disk."""
    return layout.is_complete(self.directory / str(step))

  def position(self, step: int) -> dict[str, Any]:
    """What `save` was given as `position` for this step."""
    return layout.read_record(self.directory / str(step)).position

  def restore(self, step: int, abstract_state: Any) -> Any:
    """Restores a step straight into the shardings asked for, on whatever mesh.

    Args:
      step: a complete step.
      abstract_state: the state with `jax.ShapeDtypeStruct` leaves, each with its sharding.

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
    record = _record_of(path)
    layout.check_fit(path, record, wanted)
    return layout.unflatten(abstract_state, read_verified(path, record, wanted))

  def restore_latest(
    self, abstract_state: Any, accept: Callable[[dict[str, Any]], None] | None = None
  ) -> tuple[int, Any, dict[str, Any]] | None:
    """Restores the newest step that is whole, setting damaged ones aside.

    Args:
      abstract_state: see `restore`.
      accept: called with the position of a step before its state is read; raises what it objects.

    Returns:
      The step, the state and the position; None where nothing was ever saved.

    Raises:
      CheckpointError: the newest whole step does not fit, or all steps are damaged.
    """
    damaged = []
    while (step := self.latest_step()) is not None:
      state, why = None, ""
      try:
        if accept is not None:
          accept(_record_of(self.directory / str(step)).position)
        state = self.restore(step, abstract_state)
      except DamagedError as exc:
        why = str(exc)
      if distributed.all_agree(state is not None):
        return step, state, self.position(step)
      damaged.append(step)
      logging.warning("set aside: %s", why or f"another host could not read step {step}")
      if jax.process_index() == 0:
        layout.set_aside(self.directory / str(step), why)
      distributed.all_agree(True)  # nobody looks for the newest step before the mark is there
    if damaged:
      raise CheckpointError(f"all checkpoints in {self.directory} are damaged: {damaged}")
    return None

  def pin(self, step: int) -> None:
    """Keeps a step, whatever comes after it."""
    self.pinned.add(step)

  def unpin(self, step: int) -> None:
    """The step may be removed when its turn comes."""
    self.pinned.discard(step)

  def roll_back(self, step: int, why: str) -> None:
    """Sets aside all steps after `step`, which becomes the newest."""
    with contextlib.suppress(CheckpointError, NoSpaceError):  # it was to be set aside in any case
      self._finish()
    if jax.process_index() == 0:
      for newer in layout.complete_steps(self.directory):
        if newer > step:
          layout.set_aside(self.directory / str(newer), why)
    distributed.all_agree(True)  # nobody looks for the newest step before the marks are there

  def check(self) -> None:
    """Raises what went wrong with the last save, if it is known yet; does not wait."""
    if self._writing is not None:
      with _in_our_words(self.directory / str(self._writing)):
        self._writer.check_for_errors()

  def wait(self) -> None:
    """Waits until the last save is complete on disk; raises what went wrong with it."""
    self._finish()
    if self._cleaner is not None:
      self._cleaner.join()

  def close(self) -> None:
    """Waits as `wait` does, and releases threads; the object is of no use afterwards."""
    try:
      self.wait()
    finally:
      self._writer.close()

  def __enter__(self) -> "Checkpointer":
    return self

  def __exit__(self, *exc_info) -> None:
    self.close()

  def _finish(self) -> None:
    """Waits for the writer, then removes old steps without letting the run wait for that."""
    if self._writing is None:
      return
    step, self._writing = self._writing, None
    with _in_our_words(self.directory / str(step)):
      self._writer.wait_until_finished()
    if jax.process_index() == 0:
      if self._cleaner is not None:
        self._cleaner.join()
      self._cleaner = threading.Thread(target=self._clean, name="remove-old-checkpoints")
      self._cleaner.start()

  def _clean(self) -> None:
    try:
      layout.remove_old(self.directory, self.keep, frozenset(self.pinned))
    except Exception:
      # A step too many does no harm, and the next save tries again.
      logging.exception("could not remove old checkpoints in %s", self.directory)

  def _check_space(self, step: int, leaves: dict[str, jax.Array]) -> None:
    free = storage.free_space(self.directory)
    need = int(_SPARE * sum(leaf.nbytes for leaf in leaves.values()))
    if free is not None and free < need:
      raise NoSpaceError(
        f"step {step} is not saved: {self.directory} has {free / 1e9:.2f} GB free,"
        f" the state needs {need / 1e9:.2f} GB; free some or lower checkpoint.keep"
      )


def read_verified(
  step: storage.Path, record: layout.Record, wanted: dict[str, Any]
) -> dict[str, Any]:
  """Reads leaves of a step and compares their checksums (see `orbax_io.read`).

  Raises:
    DamagedError: they cannot be read, or are not what was saved.
  """
  try:
    leaves = orbax_io.read(step, wanted)
  except Exception as exc:
    if is_no_space(exc) or isinstance(exc, MemoryError):
      raise
    why = str(exc).split(" [")[0]  # the rest is a page of storage specification
    raise DamagedError(f"checkpoint {step} cannot be read: {why}") from exc
  on_device = {k: v for k, v in leaves.items() if isinstance(v, jax.Array)}
  checksums, _ = fingerprints(on_device)
  checksums |= {k: fingerprint_host(v) for k, v in leaves.items() if k not in on_device}
  wrong = [name for name, value in checksums.items() if value != record.leaves[name].checksum]
  if wrong:
    raise DamagedError(f"checkpoint {step} is damaged: checksum differs in {layout.shorten(wrong)}")
  return leaves


def _record_of(step: storage.Path) -> layout.Record:
  """Record of a complete step, which cannot be missing unless the step is damaged."""
  try:
    return layout.read_record(step)
  except layout.FormatError:  # nothing is wrong with it
    raise
  except CheckpointError as exc:
    raise DamagedError(str(exc)) from exc


@contextlib.contextmanager
def _in_our_words(step: storage.Path) -> Iterator[None]:
  """Says what went wrong with a save."""
  try:
    yield
  except Exception as exc:
    if is_no_space(exc):
      raise NoSpaceError(f"no space left to save {step}: older steps are intact") from exc
    raise CheckpointError(f"saving {step} failed, older steps are intact: {exc}") from exc
