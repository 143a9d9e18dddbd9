"""What a checkpoint folder looks like on disk. The disk is the truth: nothing is remembered.

    checkpoints/
      12000/                     one step; the name is the number of updates completed
        commit_success.txt       written last: without it the step is half-written and ignored
        state/                   the arrays (Orbax, OCDBT)
        record/metadata          JSON: data position, and shape, dtype and checksum of each leaf
        damaged.txt              only if a restore found it so; ignored from then on

The state is stored flat, a leaf's name being its path in the state joined by slashes:
`params/down_blocks.0.resnets.0.spatial.conv1.kernel`, `opt_state/0/mu/...`, `step`; averages of the
weights stand by their decay, `ema/0.9999/...`.
"""

from collections.abc import Iterable
import dataclasses
import re
from typing import Any

import jax

from vidjax import storage
from vidjax.errors import CheckpointError

FOLDER = "checkpoints"
STATE = "state"
RECORD = "record"
_COMMITTED = "commit_success.txt"
_DAMAGED = "damaged.txt"
_VERSION = 2


class FormatError(CheckpointError):
  """A step that is whole, and was written by another version of this code."""


@dataclasses.dataclass(frozen=True)
class Leaf:
  """Shape, dtype and checksum of one stored array."""

  shape: tuple[int, ...]
  dtype: str
  checksum: int


@dataclasses.dataclass(frozen=True)
class Record:
  """What is known of a step without reading its arrays.

  Attributes:
    position: where the run was, as `Checkpointer.save` was told.
    leaves: by name.
    interim: saved because the run was stopped, not because it was due.
  """

  position: dict[str, Any]
  leaves: dict[str, Leaf]
  interim: bool = False

  def to_json(self) -> dict[str, Any]:
    """As stored."""
    leaves = {k: [list(v.shape), v.dtype, v.checksum] for k, v in self.leaves.items()}
    return {
      "version": _VERSION,
      "position": self.position,
      "interim": self.interim,
      "leaves": leaves,
    }


def read_record(step: storage.Path) -> Record:
  """Reads a step's record.

  Raises:
    FormatError: another version of this code wrote it.
    CheckpointError: there is none, or it cannot be read.
  """
  path = step / RECORD / "metadata"
  try:
    stored = storage.read_json(path)
    version = stored["version"]
    leaves = {k: Leaf(tuple(v[0]), v[1], v[2]) for k, v in stored["leaves"].items()}
    record = Record(stored["position"], leaves, stored["interim"])
  except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as exc:
    raise CheckpointError(f"checkpoint {step} has no readable record ({path}): {exc}") from exc
  if version != _VERSION:
    raise FormatError(
      f"checkpoint {step} has format {version}, this code reads format {_VERSION}: go on with the"
      " version that wrote it, or export its weights there and start from them (init_from)"
    )
  return record


def complete_steps(folder: storage.Path) -> list[int]:
  """Steps that were written to the end and not found damaged, ascending."""
  return [step for step in _numbered(folder) if is_complete(folder / str(step))]


def is_complete(step: storage.Path) -> bool:
  """Whether a step was written to the end and not found damaged."""
  return (step / _COMMITTED).exists() and not (step / _DAMAGED).exists()


def set_aside(step: storage.Path, why: str) -> None:
  """Marks a step as damaged, so that nothing uses it again; its files stay for a look at them.

  A mark rather than a rename, since object stores have no rename.
  """
  storage.write_text(step / _DAMAGED, why + "\n")


def remove_unfinished(folder: storage.Path) -> None:
  """Removes what a killed run left half-written; only while nothing is being written."""
  for name in _names(folder):
    is_step = re.match(r"\d+", name) is not None
    if is_step and not any((folder / name / mark).exists() for mark in (_COMMITTED, _DAMAGED)):
      storage.remove(folder / name)


def remove_old(folder: storage.Path, keep: int, pinned: frozenset[int] = frozenset()) -> None:
  """Removes complete steps but the newest `keep`, and damaged or half-written older ones.

  What is newer than the newest complete step stays: it may be just being written.
  Steps saved because a run was stopped do not count and go as soon as there is a newer one, so that
  an interrupted run ends with the same steps as an undisturbed one.
  """
  complete = complete_steps(folder)
  if not complete:
    return
  regular = [step for step in complete if not _is_interim(folder / str(step))]
  kept = {*regular[-keep:], complete[-1], *pinned}
  for name in _names(folder):
    number = re.match(r"\d+", name)
    if number and int(number[0]) < complete[-1]:
      is_leftover = name != number[0] or int(number[0]) not in complete
      if is_leftover or int(number[0]) not in kept:
        storage.remove(folder / name)


def find_step(path: storage.PathLike) -> storage.Path:
  """Resolves a training workdir, its `checkpoints` folder or one step to a complete step.

  Raises:
    CheckpointError: there is none; the message says what was found instead.
  """
  given = storage.Path(path)
  if is_complete(given):
    return given
  for folder in (given / FOLDER, given):
    if steps := complete_steps(folder):
      return folder / str(steps[-1])
  unfinished = _numbered(given / FOLDER) or _numbered(given)
  found = f"only half-written or damaged steps {unfinished}" if unfinished else "no steps"
  raise CheckpointError(f"no complete checkpoint in {path}: it has {found}")


def flatten(tree: Any) -> dict[str, Any]:
  """Leaves of a pytree by name: their path, joined by slashes."""
  pairs = jax.tree_util.tree_flatten_with_path(tree)[0]
  names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in pairs]
  assert len(set(names)) == len(names), "two leaves of the state have the same name"
  return {name: leaf for name, (_, leaf) in zip(names, pairs, strict=True)}


def unflatten(like: Any, leaves: dict[str, Any]) -> Any:
  """Puts leaves by name into the structure of `like`."""
  return jax.tree.unflatten(jax.tree.structure(like), [leaves[name] for name in flatten(like)])


def check_fit(step: storage.Path, record: Record, wanted: dict[str, Any]) -> None:
  """Compares what is stored with what the run asks for.

  Raises:
    CheckpointError: a name is missing on either side, or a shape or dtype differs.
  """
  problems = []
  names = wanted.keys() | record.leaves.keys()
  for name in sorted(names, key=lambda name: (not name.startswith("params/"), name)):
    stored, asked = record.leaves.get(name), wanted.get(name)
    if stored is None:
      problems.append(f"{name} is not in it")
    elif asked is None:
      problems.append(f"{name} is in it, but not in this run")
    elif (stored.shape, stored.dtype) != (tuple(asked.shape), str(asked.dtype)):
      here = f"{tuple(asked.shape)} {asked.dtype}"
      problems.append(f"{name} is {stored.shape} {stored.dtype} in it, but {here} in this run")
  if problems:
    raise CheckpointError(f"checkpoint {step} does not fit: {shorten(problems)}")


def shorten(items: Iterable[str], limit: int = 3) -> str:
  """Joins the first few of many items and counts the others."""
  items = list(items)
  rest = f"; and {len(items) - limit} more" if len(items) > limit else ""
  return "; ".join(items[:limit]) + rest


def _is_interim(step: storage.Path) -> bool:
  try:
    return read_record(step).interim
  except CheckpointError:  # damage that nobody has met yet: not for the one who cleans up
    return False


def _names(folder: storage.Path) -> list[str]:
  return [path.name for path in folder.iterdir()] if folder.is_dir() else []


def _numbered(folder: storage.Path) -> list[int]:
  return sorted(int(name) for name in _names(folder) if name.isdecimal())
