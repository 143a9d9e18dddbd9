"""Starts a stage from the weights of another: image -> low-res video -> high-res image-to-video.

Stages differ by layers and by input channels. A layer that the source lacks gets fresh
values; new temporal layers are built so that these make them the identity, and the network starts
out computing what it did. New input channels (the conditioning image, concatenated after the
latents, or another number in the condition's vector) get zero weights, and so change nothing at
first either (as in Emu Video, arXiv:2311.10709, section 3.3).
"""

from collections.abc import Callable, Mapping
import dataclasses

import jax
import numpy as np

from vidjax import lazy
from vidjax.checkpoint.layout import shorten
from vidjax.errors import CheckpointError

# (..., C_in, C_out), may grow in C_in: more latents, more numbers in the condition's vector.
_WIDENED = ("conv_in.kernel", "add_embedding.linear_1.kernel")


_WHAT = ("copied", "fresh", "widened", "dropped")
COLUMNS = ("block", *_WHAT)  # of `WarmStart.table`


@dataclasses.dataclass(frozen=True)
class WarmStart:
  """What became of each parameter, by name.

  Attributes:
    copied: taken from the source.
    fresh: not in the source, drawn as for a model from scratch.
    widened: copied into the first input channels, zero in the new ones.
    dropped: only in the source, not used.
  """

  copied: tuple[str, ...]
  fresh: tuple[str, ...]
  widened: tuple[str, ...]
  dropped: tuple[str, ...]

  def __str__(self) -> str:
    parts = [f"{len(self.copied)} parameters copied"]
    for what in ("fresh", "widened", "dropped"):
      if names := getattr(self, what):
        parts.append(f"{len(names)} {what} ({shorten(names)})")
    return ", ".join(parts)

  def to_json(self) -> dict[str, str]:
    """What became of each parameter, by its name: "copied", "fresh", "widened" or "dropped"."""
    found = {name: what for what in _WHAT for name in getattr(self, what)}
    return dict(sorted(found.items()))

  def table(self, sizes: Mapping[str, int]) -> list[tuple[str, ...]]:
    """Rows of `COLUMNS`: how many values of each block became what.

    Args:
      sizes: numbers of values in each parameter, those that were dropped included.
    """
    totals: dict[str, dict[str, int]] = {}
    for name, what in self.to_json().items():
      *path, leaf = name.split(".")
      block = ".".join(path[:2]) or leaf
      of_block = totals.setdefault(block, dict.fromkeys(_WHAT, 0))
      of_block[what] += sizes[name]
    return [
      (block, *(f"{of[what]:,}" if of[what] else "-" for what in _WHAT))
      for block, of in totals.items()
    ]


def warm_start(
  wanted: Mapping[str, jax.ShapeDtypeStruct],
  source: lazy.Weights,
  draw: Callable[[frozenset[str]], Mapping[str, jax.Array]],
  *,
  allow_dropped: bool = False,
) -> tuple[dict[str, jax.Array], WarmStart]:
  """Makes a model's parameters from those of another, by name; draws only what is missing.

  Args:
    wanted: shape, dtype and sharding (None for the default device) of each parameter.
    source: parameters to start from, cast where the dtype differs. Of those that are still in files
      each device gets its part straight from there.
    draw: gives fresh values of some names, in their shardings.
    allow_dropped: whether parameters that only the source has may be left out.

  Returns:
    The parameters, and what became of each.

  Raises:
    CheckpointError: a shape differs, no name is shared, or the source has parameters that this
      model lacks and `allow_dropped` is off. Nothing has been drawn or copied then.
  """
  copied, widened, misfits = [], [], []
  for name in sorted(wanted.keys() & source.keys()):
    here, there = wanted[name].shape, source[name].shape
    if here == there:
      copied.append(name)
    elif name.endswith(_WIDENED) and _adds_input_channels(there, here):
      widened.append(name)
    else:
      misfits.append(f"{name} is {there} in the source, {here} in this model")
  if misfits:
    raise CheckpointError(f"cannot start from these weights: {shorten(misfits)}")
  dropped = sorted(source.keys() - wanted.keys())
  if not copied and not widened:
    raise CheckpointError(
      f"cannot start from these weights: no name in common ({shorten(sorted(source), 2)} against"
      f" {shorten(sorted(wanted), 2)})"
    )
  if dropped and not allow_dropped:
    raise CheckpointError(f"the source has parameters that this model lacks: {shorten(dropped)}")

  fresh = sorted(wanted.keys() - source.keys())
  params = dict(draw(frozenset(fresh))) if fresh else {}
  size = lazy.nbytes({name: source[name] for name in copied})
  for name in lazy.watched(copied, "loading weights", size):
    params[name] = lazy.place(source[name], wanted[name])
  for name in widened:
    value, here = np.asarray(source[name]), wanted[name]
    new = here.shape[-2] - value.shape[-2]
    padding = [(0, 0)] * (value.ndim - 2) + [(0, new), (0, 0)]
    params[name] = lazy.place(np.pad(value, padding), here)
  report = WarmStart(tuple(copied), tuple(fresh), tuple(widened), tuple(dropped))
  return {name: params[name] for name in wanted}, report


def _adds_input_channels(old: tuple[int, ...], new: tuple[int, ...]) -> bool:
  """Whether a kernel's shape (..., C_in, C_out) differs by more input channels only."""
  return (
    len(old) == len(new) >= 2 and old[:-2] == new[:-2] and old[-1] == new[-1] and old[-2] < new[-2]
  )
