"""Reads only the weights of a checkpoint: for sampling, export and the start of the next stage."""

from collections.abc import Mapping
from typing import Any, Literal

import jax
import numpy as np

from vidjax import storage
from vidjax.checkpoint import layout
from vidjax.checkpoint.checkpointer import read_verified
from vidjax.errors import CheckpointError
from vidjax.lazy import Index, LazyArray

Which = Literal["ema", "raw"]


def restore_params(
  path: storage.PathLike,
  which: Which = "ema",
  shardings: Mapping[str, jax.sharding.Sharding] | None = None,
) -> dict[str, Any]:
  """Reads the weights of a step, without its optimizer state.

  Args:
    path: a training workdir or its folder of checkpoints (newest complete step), or one step.
    which: `ema` for the averaged weights, and the trained ones where there is no average (weights
      that were frozen); `raw` for the weights as trained.
    shardings: layout for each name, in which the arrays come as `jax.Array`; names not in it, and
      all without it, come as numpy arrays in host memory.

  Returns:
    Array by flat parameter name, in the dtype in which it was saved.

  Raises:
    CheckpointError: no complete step, no averaged weights in it, or it is damaged.
    ValueError: `which` is neither `ema` nor `raw`.
  """
  step, record, sources = _find(path, which)
  wanted = {}
  for name, source in sources.items():
    leaf = record.leaves[source]
    sharding = (shardings or {}).get(name)
    wanted[source] = jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
  leaves = read_verified(step, record, wanted)
  return {name: leaves[source] for name, source in sources.items()}


def open_params(path: storage.PathLike, which: Which = "ema") -> dict[str, LazyArray]:
  """Finds the weights of a step; each is read, and its checksum compared, when it is used.

  An array is read as a whole, whatever part of it is asked for: its checksum is of the whole.

  Args:
    path: see `restore_params`, also for errors.
    which: as there.
  """
  step, record, sources = _find(path, which)

  def lazy(source: str) -> LazyArray:
    leaf = record.leaves[source]
    wanted = {source: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)}

    def fetch(index: Index) -> np.ndarray:
      return read_verified(step, record, wanted)[source][index]

    return LazyArray(leaf.shape, np.dtype(leaf.dtype), fetch)

  return {name: lazy(source) for name, source in sources.items()}


def _find(path: storage.PathLike, which: Which) -> tuple[storage.Path, layout.Record, dict]:
  """The step, its record, and the leaf that holds each weight."""
  if which not in ("ema", "raw"):
    raise ValueError(f"params={which!r}: choose 'ema' or 'raw'")
  step = layout.find_step(path)
  record = layout.read_record(step)
  sources = {name: f"params/{name}" for name in _below(record, "params")}
  if not sources:
    raise CheckpointError(f"checkpoint {step} has no params")
  if which == "ema":
    averaged = _below(record, "ema")
    if not averaged:
      raise CheckpointError(f"checkpoint {step} has no averaged weights: choose params 'raw'")
    sources |= {name: f"ema/{name}" for name in averaged}
  return step, record, sources


def _below(record: layout.Record, top: str) -> list[str]:
  """Names of the leaves under one branch of the state."""
  return [name.removeprefix(f"{top}/") for name in record.leaves if name.startswith(f"{top}/")]
