"""Reads leaves of a step and compares them with what was saved.

Every leaf at a restore, a sample of them right after a save: by then the arrays of that step are
gone from the devices, but the steps before it are still there.
"""

from typing import Any

import jax
import numpy as np

from vidjax import storage
from vidjax.checkpoint import layout, orbax_io
from vidjax.checkpoint.fingerprint import fingerprint_host, fingerprints
from vidjax.errors import CheckpointError, is_no_space, is_unreachable
from vidjax.parallel import distributed

SAMPLE_BYTES = 256 << 20  # of a step that are read back after a save, one leaf at least


class DamagedError(CheckpointError):
  """The bytes on disk are not those that were saved."""


class UnreachableError(CheckpointError):
  """The bytes could not be read just now; nothing is known of them."""


def read_verified(
  step: storage.Path, record: layout.Record, wanted: dict[str, Any]
) -> dict[str, Any]:
  """Reads leaves of a step and compares their checksums (see `orbax_io.read`).

  Where some are wanted with a sharding, all processes call this, and all succeed or none does.

  Raises:
    DamagedError: they cannot be read, or are not what was saved.
    UnreachableError: the store did not answer.
  """
  leaves, error = {}, None
  try:
    leaves = orbax_io.read(step, wanted)
    # Of a leaf that it does not find by its name, the reader gives back what it was asked for.
    odd = [name for name, leaf in wanted.items() if not _is_like(leaves.get(name), leaf)]
    if odd:
      raise ValueError(f"not as saved: {layout.shorten(odd)}")
  except Exception as exc:
    if is_no_space(exc) or isinstance(exc, (MemoryError, jax.errors.JaxRuntimeError)):
      raise
    why = str(exc).split(" [")[0]  # the rest is a page of storage specification
    kind = UnreachableError if is_unreachable(exc) else DamagedError
    error = kind(f"checkpoint {step} cannot be read: {why}")
    error.__cause__ = exc
  placed = any(leaf.sharding is not None for leaf in wanted.values())
  if placed and not distributed.agreed(error is None) and error is None:
    error = DamagedError(f"checkpoint {step} cannot be read by another process")
  if error is not None:
    raise error
  on_device = {k: v for k, v in leaves.items() if isinstance(v, jax.Array)}
  checksums, _ = fingerprints(on_device) if on_device else ({}, [])
  checksums |= {k: fingerprint_host(v) for k, v in leaves.items() if k not in on_device}
  wrong = [name for name, value in checksums.items() if value != record.leaves[name].checksum]
  if wrong:
    raise DamagedError(f"checkpoint {step} is damaged: checksum differs in {layout.shorten(wrong)}")
  return leaves


def read_record(step: storage.Path) -> layout.Record:
  """Record of a complete step, which cannot be missing unless the step is damaged.

  Raises:
    DamagedError: it is missing or not what was saved.
    UnreachableError: the store did not answer.
    FormatError: another version of this code wrote it, and nothing is wrong with it.
  """
  try:
    return layout.read_record(step)
  except layout.FormatError:
    raise
  except Exception as exc:
    if is_unreachable(exc):
      raise UnreachableError(f"the record of checkpoint {step} cannot be read: {exc}") from exc
    if isinstance(exc, CheckpointError):
      raise DamagedError(str(exc)) from exc
    raise


def check_sample(step: storage.Path, seed: int, most: int = SAMPLE_BYTES) -> None:
  """Reads some leaves back on this process alone, others in each step.

  Args:
    step: folder of a complete step.
    seed: chooses the leaves; small ones as often as large ones.
    most: bytes to read, unless the first leaf alone is larger.

  Raises:
    DamagedError, UnreachableError: as `read_verified` and `read_record` do.
  """
  record = read_record(step)
  for name in sample(record, seed, most):  # one by one, for the sake of the host's memory
    leaf = record.leaves[name]
    read_verified(step, record, {name: jax.ShapeDtypeStruct(leaf.shape, np.dtype(leaf.dtype))})


def sample(record: layout.Record, seed: int, most: int) -> list[str]:
  """Names of leaves in random order, of at most `most` bytes together, one leaf at least."""
  chosen, size = [], 0
  for name in np.random.default_rng(seed).permutation(sorted(record.leaves)):
    leaf = record.leaves[str(name)]
    nbytes = int(np.prod(leaf.shape)) * np.dtype(leaf.dtype).itemsize
    if not chosen or size + nbytes <= most:
      chosen.append(str(name))
      size += nbytes
  return chosen


def _is_like(value: Any, wanted: jax.ShapeDtypeStruct) -> bool:
  kind = np.ndarray if wanted.sharding is None else jax.Array
  return isinstance(value, kind) and (value.shape, value.dtype) == (wanted.shape, wanted.dtype)
