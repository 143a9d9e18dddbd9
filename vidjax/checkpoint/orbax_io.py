"""The only module that knows Orbax: writes and reads one step of flat, named arrays.

Orbax gives asynchronous writing from all hosts, reading straight into target shardings, and
stepwise commit. Choosing steps, keeping, and judging what is good stays with us (`layout`).
"""

from collections.abc import Iterator
import contextlib
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from vidjax import storage
from vidjax.checkpoint import orbax_s3
from vidjax.checkpoint.layout import RECORD, STATE, Record
from vidjax.errors import CheckpointError, HangError, NoSpaceError, is_no_space
from vidjax.parallel import distributed

Writer = ocp.AsyncCheckpointer


def make_writer() -> Writer:
  """Makes the object that writes steps in the background; one for each folder of checkpoints."""
  return ocp.AsyncCheckpointer(ocp.CompositeCheckpointHandler(STATE, RECORD))


def write(writer: Writer, step: storage.Path, leaves: dict[str, jax.Array], record: Record) -> None:
  """Copies the arrays to host memory, then writes them in the background.

  What is at `step` already, half-written or damaged, is replaced.
  """
  _prepare(step)
  args = ocp.args.Composite(
    **{STATE: ocp.args.PyTreeSave(leaves), RECORD: ocp.args.JsonSave(record.to_json())}
  )
  writer.save(_absolute(step), args, force=True)


def read(step: storage.Path, wanted: dict[str, Any]) -> dict[str, Any]:
  """Reads some arrays of a step; no process waits for another, since one may fail alone.

  Args:
    step: folder of a complete step.
    wanted: `jax.ShapeDtypeStruct` by name. With a sharding the array comes as a `jax.Array` laid
      out so, each host reading only its parts; without one, as a numpy array on every host.
  """
  _prepare(step)
  restore_args = {name: _restore_args(leaf) for name, leaf in wanted.items()}
  args = ocp.args.PyTreeRestore(item=wanted, restore_args=restore_args, partial_restore=True)
  me = jax.process_index()
  alone = ocp.options.MultiprocessingOptions(primary_host=me, active_processes={me})
  handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=alone)
  with ocp.Checkpointer(handler, multiprocessing_options=alone) as reader:
    return reader.restore(_absolute(step) / STATE, args)


@contextlib.contextmanager
def in_our_words(step: storage.Path) -> Iterator[None]:
  """Turns what goes wrong with a save inside the block into our errors, which name the step.

  Raises:
    NoSpaceError: no room for it.
    HangError: another process is gone.
    CheckpointError: anything else.
  """
  try:
    yield
  except Exception as exc:
    if is_no_space(exc):
      raise NoSpaceError(f"no space left to save {step}: older steps are intact") from exc
    if distributed.is_peer_lost(exc):  # nothing is wrong with the disk
      raise HangError(f"{step} is not saved, another process is gone: {exc}") from exc
    raise CheckpointError(f"saving {step} failed, older steps are intact: {exc}") from exc


def _absolute(step: storage.Path) -> storage.Path:
  """Orbax refuses relative paths."""
  return step.absolute() if storage.is_local(step) else step


def _prepare(step: storage.Path) -> None:
  if orbax_s3.is_s3(step):
    orbax_s3.enable()


def _restore_args(leaf: jax.ShapeDtypeStruct) -> ocp.RestoreArgs:
  if leaf.sharding is None:
    return ocp.RestoreArgs(restore_type=np.ndarray, dtype=leaf.dtype)
  return ocp.ArrayRestoreArgs(
    sharding=leaf.sharding, global_shape=leaf.shape, dtype=leaf.dtype, strict=True
  )
