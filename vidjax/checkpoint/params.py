"""Reads only the weights of a checkpoint: for sampling, export and the start of the next stage."""

from collections.abc import Mapping
import math
from typing import Any

import jax
import numpy as np

from vidjax import storage
from vidjax.checkpoint import layout
from vidjax.checkpoint.verify import read_verified
from vidjax.errors import CheckpointError
from vidjax.lazy import Index, LazyArray


def restore_params(
  path: storage.PathLike,
  which: str = "ema",
  shardings: Mapping[str, jax.sharding.Sharding] | None = None,
) -> dict[str, Any]:
  """Reads the weights of a step, without its optimizer state.

  Args:
    path: a training workdir or its folder of checkpoints (newest complete step), or one step.
    which: `ema` for the first average that the run was told to hold, `ema:DECAY` for another, and
      the trained weights where there is no average (they were frozen); `raw` for them as trained.
    shardings: layout for each name, in which the arrays come as `jax.Array`; names not in it, and
      all without it, come as numpy arrays in host memory.

  Returns:
    Array by flat parameter name, in the dtype in which it was saved.

  Raises:
    CheckpointError: no complete step, no averaged weights in it, or it is damaged.
    ValueError: `which` is none of these, or no average has that decay.
  """
  step, record, sources = _find(path, which)
  wanted = {}
  for name, source in sources.items():
    leaf = record.leaves[source]
    sharding = (shardings or {}).get(name)
    wanted[source] = jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
  leaves = read_verified(step, record, wanted)
  return {name: leaves[source] for name, source in sources.items()}


def open_params(path: storage.PathLike, which: str = "ema") -> dict[str, LazyArray]:
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


def check_which(which: str) -> None:
  """Whether `which` can name weights at all.

  Raises:
    ValueError: it is none of `ema`, `ema:DECAY` and `raw`.
  """
  kind, colon, decay = which.partition(":")
  if which not in ("ema", "raw") and not (kind == "ema" and colon and _is_number(decay)):
    raise ValueError(f"params={which!r}: choose 'ema', 'ema:DECAY' (as 'ema:0.9999') or 'raw'")


def _find(path: storage.PathLike, which: str) -> tuple[storage.Path, layout.Record, dict]:
  """The step, its record, and the leaf that holds each weight."""
  check_which(which)
  step = layout.find_step(path)
  record = layout.read_record(step)
  sources = {name: f"params/{name}" for name in _below(record, "params")}
  if not sources:
    raise CheckpointError(f"checkpoint {step} has no params")
  if which != "raw":
    averaged = f"ema/{_decay(step, record, which)}"
    sources |= {name: f"{averaged}/{name}" for name in _below(record, averaged)}
  return step, record, sources


def _decay(step: storage.Path, record: layout.Record, which: str) -> str:
  """The average that `which` names, as it is called in the checkpoint (`vidjax.optim.ema.key`).

  Leaves are in the order of their names, so which average comes first is asked of the config that
  was saved with them.
  """
  decays = list(dict.fromkeys(name.split("/")[0] for name in _below(record, "ema")))
  if not decays:
    raise CheckpointError(f"checkpoint {step} has no averaged weights: choose params 'raw'")
  if which == "ema":
    optimizer = record.position.get("config", {}).get("optimizer", {})
    listed = [repr(float(decay)) for decay in optimizer.get("ema_decays", ())]
    return next((decay for decay in listed if decay in decays), decays[-1])
  wanted = repr(float(which.partition(":")[2]))
  if wanted not in decays:
    raise ValueError(
      f"params={which!r}: checkpoint {step} has averages of decay {', '.join(decays)}"
    )
  return wanted


def _is_number(text: str) -> bool:
  try:
    return math.isfinite(float(text))
  except ValueError:
    return False


def _below(record: layout.Record, top: str) -> list[str]:
  """Names of the leaves under one branch of the state."""
  return [name.removeprefix(f"{top}/") for name in record.leaves if name.startswith(f"{top}/")]
