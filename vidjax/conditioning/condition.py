"""`Condition`: everything that a system adds to the network's input enters through it.

Shapes: B batch, T frames, L tokens, H W latent height and width, C channels, V vector entries.
"""

from collections.abc import Sequence
import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp

from vidjax.diffusion import noise


@jax.tree_util.register_pytree_node_class
@dataclasses.dataclass(frozen=True)
class Condition:
  """What the denoiser is told about the clip it denoises.

  Attributes:
    contexts: token sequences (B, L, C), one cross-attention stream each.
    vector: (B, V) raw numbers that are embedded and added to the time embedding, or None.
    concat: (B, T, H, W, C) latents concatenated to the noisy ones, or None.
    image_only: the clip is a set of single images: temporal layers are off. One answer for all,
      known when the program is compiled, or (B,) booleans.
  """

  contexts: tuple[jax.Array, ...]
  vector: jax.Array | None
  concat: jax.Array | None
  image_only: bool | jax.Array

  def tree_flatten(self) -> tuple[tuple[Any, ...], bool | None]:
    """Leaves, and what programs are compiled for: the one answer of `image_only`, if it is one."""
    one = self.image_only if isinstance(self.image_only, bool) else None
    rows = self.image_only if one is None else None
    return (self.contexts, self.vector, self.concat, rows), one

  @classmethod
  def tree_unflatten(cls, one: bool | None, leaves: tuple[Any, ...]) -> "Condition":
    """The inverse of `tree_flatten`."""
    *rest, rows = leaves
    return cls(*rest, image_only=rows if one is None else one)


def drop(
  condition: Condition,
  keep_B: jax.Array,
  parts: Sequence[Literal["contexts", "concat"]] = ("contexts", "concat"),
) -> Condition:
  """The unconditional form where `keep_B` is 0: contexts and concat are zeroed, the vector stays.

  As in SVD's released configs (both image embeddings are zeroed, fps and motion are kept). `parts`
  says what is zeroed where they are guided apart (`guidance.image_and_text`).
  """

  def zeroed(x: jax.Array) -> jax.Array:
    return x * noise.per_sample(keep_B, x).astype(x.dtype)

  changed = {name: jax.tree.map(zeroed, getattr(condition, name)) for name in parts}
  return dataclasses.replace(condition, **changed)


def interleave(branches: Sequence[Condition]) -> Condition:
  """Rows of several in turn, (B k, ...): the branches of guidance evaluate as one batch.

  In turn and not one after the other, so that a batch sharded over devices stays where it is.
  Where `image_only` differs, each row says for itself.
  """
  if len(branches) == 1:
    return branches[0]

  def merge(*rows: jax.Array) -> jax.Array:
    return jnp.stack(rows, axis=1).reshape((len(rows) * rows[0].shape[0], *rows[0].shape[1:]))

  if any(branch.image_only is not branches[0].image_only for branch in branches):
    branches = [dataclasses.replace(b, image_only=_of_each(b)) for b in branches]
  return jax.tree.map(merge, *branches)


def _of_each(condition: Condition) -> jax.Array:
  """`image_only` as (B,) booleans."""
  if not isinstance(condition.image_only, bool):
    return condition.image_only
  return jnp.full_like(condition.contexts[0][:, 0, 0], condition.image_only, bool)
