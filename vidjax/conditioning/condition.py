"""`Condition`: everything that a system adds to the network's input enters through it.

Shapes: B batch, T frames, L tokens, H W latent height and width, C channels, V vector entries.
"""

from collections.abc import Sequence
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from vidjax.diffusion import noise


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Condition:
  """What the denoiser is told about the clip it denoises.

  Attributes:
    contexts: token sequences (B, L, C), one cross-attention stream each.
    vector: (B, V) raw numbers that are embedded and added to the time embedding, or None.
    concat: (B, T, H, W, C) latents concatenated to the noisy ones, or None.
    image_only: the clip is a set of single images: temporal layers are off.
  """

  contexts: tuple[jax.Array, ...]
  vector: jax.Array | None
  concat: jax.Array | None
  image_only: bool = dataclasses.field(metadata={"static": True})


def drop(condition: Condition, keep_B: jax.Array) -> Condition:
  """The unconditional form where `keep_B` is 0: contexts and concat are zeroed, the vector stays.

  As in SVD's released configs (both image embeddings are zeroed, fps and motion are kept).
  """

  def zeroed(x: Any) -> Any:
    return None if x is None else x * noise.per_sample(keep_B, x).astype(x.dtype)

  return dataclasses.replace(
    condition,
    contexts=tuple(zeroed(c) for c in condition.contexts),
    concat=zeroed(condition.concat),
  )


def interleave(branches: Sequence[Condition]) -> Condition:
  """Rows of several in turn, (B k, ...): the branches of guidance evaluate as one batch.

  In turn and not one after the other, so that a batch sharded over devices stays where it is.
  """

  def merge(*rows: jax.Array) -> jax.Array:
    return jnp.stack(rows, axis=1).reshape((len(rows) * rows[0].shape[0], *rows[0].shape[1:]))

  return jax.tree.map(merge, *branches) if len(branches) > 1 else branches[0]
