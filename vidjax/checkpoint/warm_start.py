"""Starts a stage from the weights of another: image -> low-res video -> high-res image-to-video.

Stages differ by layers and by input channels. A layer that the source lacks keeps its fresh
values; new temporal layers are built so that these make them the identity, and the network starts
out computing what it did. New input channels (the conditioning image, concatenated after the
latents) get zero weights, and so change nothing at first either (as in Emu Video,
arXiv:2311.10709, section 3.3).
"""

from collections.abc import Mapping
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from vidjax.checkpoint.layout import shorten
from vidjax.errors import CheckpointError

_WIDENED = ("conv_in.kernel",)  # (..., C_in, C_out): may grow in C_in


@dataclasses.dataclass(frozen=True)
class WarmStart:
  """What became of each parameter, by name.

  Attributes:
    copied: taken from the source.
    fresh: not in the source, kept as initialized.
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


def warm_start(
  init_params: Mapping[str, jax.Array],
  source: Mapping[str, jax.Array | np.ndarray],
  *,
  allow_dropped: bool = False,
) -> tuple[dict[str, jax.Array], WarmStart]:
  """Fills freshly initialized parameters with those of another model, by name.

  Args:
    init_params: fresh parameters; dtypes and shardings of the result are theirs.
    source: parameters to start from (host or device arrays), cast where the dtype differs.
    allow_dropped: whether parameters that only the source has may be left out.

  Returns:
    The parameters, and what became of each.

  Raises:
    CheckpointError: a shape differs, no name is shared, or the source has parameters that this
      model lacks and `allow_dropped` is off.
  """
  params, copied, widened, misfits = dict(init_params), [], [], []
  for name in sorted(init_params.keys() & source.keys()):
    here, there = init_params[name], source[name]
    if here.shape == there.shape:
      params[name] = _as(there, here)
      copied.append(name)
    elif name.endswith(_WIDENED) and _adds_input_channels(there.shape, here.shape):
      new = here.shape[-2] - there.shape[-2]
      padding = [(0, 0)] * (here.ndim - 2) + [(0, new), (0, 0)]
      params[name] = _as(jnp.pad(jnp.asarray(there), padding), here)
      widened.append(name)
    else:
      misfits.append(f"{name} is {there.shape} in the source, {here.shape} in this model")
  if misfits:
    raise CheckpointError(f"cannot start from these weights: {shorten(misfits)}")
  dropped = sorted(source.keys() - init_params.keys())
  if not copied and not widened:
    raise CheckpointError(
      f"cannot start from these weights: no name in common ({shorten(sorted(source), 2)} against"
      f" {shorten(sorted(init_params), 2)})"
    )
  if dropped and not allow_dropped:
    raise CheckpointError(f"the source has parameters that this model lacks: {shorten(dropped)}")
  fresh = sorted(init_params.keys() - source.keys())
  return params, WarmStart(tuple(copied), tuple(fresh), tuple(widened), tuple(dropped))


def _adds_input_channels(old: tuple[int, ...], new: tuple[int, ...]) -> bool:
  """Whether a kernel's shape (..., C_in, C_out) differs by more input channels only."""
  return (
    len(old) == len(new) >= 2 and old[:-2] == new[:-2] and old[-1] == new[-1] and old[-2] < new[-2]
  )


def _as(value: jax.Array | np.ndarray, like: jax.Array) -> jax.Array:
  """Gives `value` the dtype and, where it is laid out already, the sharding of `like`."""
  value = value.astype(like.dtype)
  return jax.device_put(value, like.sharding) if isinstance(like, jax.Array) else jnp.asarray(value)
