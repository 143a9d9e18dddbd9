"""What a checkpoint folder looks like on disk. The disk is the truth: nothing is remembered.

    checkpoints/
      12000/                     one step; the name is the number of updates completed
        commit_success.txt       written last: without it the step is half-written and ignored
        state/                   the arrays (Orbax, OCDBT)
        record/metadata          JSON: data position, shape, dtype and checksum of each leaf, and a
                                 digest of all that
        damaged.txt              only if it was found so, by a restore or after the save; ignored
                                 from then on
        left_out.txt             only if the run went back to an older one; ignored from then on
        pinned.txt               only while it must not be removed

The state is stored flat, a leaf's name being its path in the state joined by slashes:
`params/down_blocks.0.resnets.0.spatial.conv1.kernel`, `opt_state/0/mu/...`, `step`; averages of the
weights stand by their decay, `ema/0.9999/...`.
"""

from collections.abc import Callable, Container, Iterable
import dataclasses
import hashlib
import json
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
_LEFT_OUT = "left_out.txt"
_PINNED = "pinned.txt"
_MARKS = (_COMMITTED, _DAMAGED, _LEFT_OUT)  # of a step that was written to the end
_VERSION = 3
# A step, or what Orbax calls it while it is written; all other names are somebody else's.
_STEP = re.compile(r"(0|[1-9][0-9]*)(\.orbax-checkpoint-tmp.*)?")


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
    content = {
      "version": _VERSION,
      "position": self.position,
      "interim": self.interim,
      "leaves": leaves,
    }
    return content | {"digest": _digest(content)}


def read_record(step: storage.Path) -> Record:
  """Reads a step's record.

  Raises:
    FormatError: another version of this code wrote it.
    CheckpointError: there is none, it cannot be read, or is not what was written.
  """
  path = step / RECORD / "metadata"
  try:
    stored = storage.read_json(path)
    digest, version = stored.pop("digest", None), stored["version"]
    if digest is None and version in (1, 2):  # as they had none, it cannot be told from damage
      raise _other_format(step, version)
    if digest != _digest(stored):
      raise ValueError("its digest differs")
    if version != _VERSION:
      raise _other_format(step, version)
    leaves = {k: Leaf(tuple(v[0]), v[1], v[2]) for k, v in stored["leaves"].items()}
    return Record(stored["position"], leaves, stored["interim"])
  except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as exc:
    raise CheckpointError(f"checkpoint {step} has no readable record ({path}): {exc}") from exc


def complete_steps(folder: storage.Path) -> list[int]:
  """Steps that were written to the end and not found damaged, ascending."""
  return [step for step in _numbered(folder) if is_complete(folder / str(step))]


def is_complete(step: storage.Path) -> bool:
  """Whether a step was written to the end, not found damaged, and the run not gone back from it."""
  if not (step / _COMMITTED).exists():
    return False
  return not any((step / mark).exists() for mark in (_DAMAGED, _LEFT_OUT))


def state_of(names: Container[str]) -> tuple[str, str]:
  """What the marks among a step's files say, without a look at the disk.

  Args:
    names: of the files in the step's folder.

  Returns:
    "complete", "damaged", "left out" or "unfinished"; and the file that says why, if one does.
  """
  if _DAMAGED in names:
    return "damaged", _DAMAGED
  if _LEFT_OUT in names:
    return "left out", _LEFT_OUT
  return ("complete" if _COMMITTED in names else "unfinished"), ""


def has_pin(names: Container[str]) -> bool:
  """Whether the step with these files is one that `remove_old` leaves alone."""
  return _PINNED in names


def set_aside(step: storage.Path, why: str) -> None:
  """Marks a step as damaged, so that nothing uses it again; its files stay for a look at them.

  A mark rather than a rename, since object stores have no rename.
  """
  storage.write_text(step / _DAMAGED, why + "\n")


def leave_out(step: storage.Path, why: str) -> None:
  """Marks a good step as one that the run does not go on from; to `lost_steps` it is no loss."""
  storage.write_text(step / _LEFT_OUT, why + "\n")


def pin(step: storage.Path) -> None:
  """Marks a step as one that `remove_old` leaves alone."""
  storage.write_text(step / _PINNED, "")


def unpin(step: storage.Path) -> None:
  """Takes the mark off again."""
  storage.remove(step / _PINNED)


def lost_steps(folder: storage.Path) -> tuple[list[int], list[int]]:
  """Steps that were whole once, and those that are only half-written, each ascending.

  The first are those that were set aside and, on a file system, those without any mark: there, a
  step gets its name when it has all of them.
  """
  numbered = [(n, folder / str(n)) for n in _numbered(folder)]
  set_aside = [n for n, step in numbered if (step / _DAMAGED).exists()]
  unmarked = [n for n, step in numbered if not any((step / mark).exists() for mark in _MARKS)]
  if storage.is_local(folder):
    return sorted([*set_aside, *unmarked]), []
  return set_aside, unmarked


def remove_unfinished(folder: storage.Path) -> None:
  """Removes what a killed run left half-written; only while nothing is being written."""
  for name in _names(folder):
    if _STEP.fullmatch(name) and not any((folder / name / m).exists() for m in _MARKS):
      storage.remove(folder / name)


def remove_old(
  folder: storage.Path,
  keep: int,
  milestone_every: int = 0,
  is_pinned: Callable[[int], bool] = lambda _: False,
) -> None:
  """Removes complete steps but the newest `keep`, and damaged or half-written older ones.

  What is newer than the newest complete step stays: it may be just being written.
  Steps saved because a run was stopped do not count and go as soon as there is a newer one, so that
  an interrupted run ends with the same steps as an undisturbed one.

  Args:
    folder: of the steps.
    keep: how many of the newest stay.
    milestone_every: multiples of it stay for ever; 0: none.
    is_pinned: whether a step stays, beside those that are marked so; asked at the last moment.
  """
  complete = complete_steps(folder)
  if not complete:
    return
  regular = [step for step in complete if not _is_interim(folder / str(step))]
  kept = {*regular[-keep:], complete[-1]}
  if milestone_every:
    kept |= {step for step in complete if step % milestone_every == 0}
  for name in _names(folder):
    match = _STEP.fullmatch(name)
    number = int(match[1]) if match else complete[-1]
    if number >= complete[-1]:
      continue
    is_whole = name == str(number) and number in complete
    if is_whole and (number in kept or is_pinned(number) or (folder / name / _PINNED).exists()):
      continue
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


def _other_format(step: storage.Path, version: int) -> FormatError:
  return FormatError(
    f"checkpoint {step} has format {version}, this code reads format {_VERSION}: go on with the"
    " version that wrote it, or export its weights there and start from them (init_from)"
  )


def _digest(content: dict[str, Any]) -> str:
  """SHA-256 of a record as it comes back from JSON."""
  plain = json.loads(json.dumps(content))
  return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _names(folder: storage.Path) -> list[str]:
  return [path.name for path in folder.iterdir()] if folder.is_dir() else []


def _numbered(folder: storage.Path) -> list[int]:
  matches = [_STEP.fullmatch(name) for name in _names(folder)]
  return sorted(int(match[1]) for match in matches if match and not match[2])
