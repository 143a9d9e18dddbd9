"""What the backward pass finds stored, and what it computes again: policies by name.

A block's forward pass is run a second time in the backward pass for all that was not stored. Layers
name what is worth storing (`named`), a policy says which of the names are stored, and where:

  none       everything is stored, nothing runs twice
  matmuls    results of convolutions, linear layers and attention: norms, activations and softmax
             run twice, and the product before a gate, which is as wide as all others of its block
             together: it is computed as soon as read
  attention  what attention has read from the values: its last product, and the TPUs' kernels that
             compute attention in one piece, need not run twice
  block      nothing but the inputs of blocks: all of a block runs twice
  offload    as block, with the inputs in the host's memory meanwhile: they cross to it and back

From "none" to "block" memory falls and computation rises. Source: Chen et al., "Training Deep Nets
with Sublinear Memory Cost" (arXiv 1604.06174), for "block"; the others are policies of
`jax.checkpoint`.
"""

from collections.abc import Callable, Sequence
import difflib
from typing import Any

import jax
from jax.ad_checkpoint import checkpoint_name

# Names of values, given by the layer that computes them.
CONV = "conv"
DENSE = "dense"
GATED = "gated"  # before the gate of a feed-forward
ATTENTION = "attention"
_INPUT = "block_input"

_policies = jax.checkpoint_policies
POLICIES: dict[str, Callable[..., Any] | None] = {
  "none": None,
  "matmuls": _policies.save_only_these_names(CONV, DENSE, ATTENTION),
  "attention": _policies.save_only_these_names(ATTENTION),
  "block": _policies.nothing_saveable,
  "offload": _policies.save_and_offload_only_these_names(
    names_which_can_be_saved=[],
    names_which_can_be_offloaded=[_INPUT],
    offload_src="device",
    offload_dst="pinned_host",
  ),
}


def named(x: jax.Array, name: str) -> jax.Array:
  """`x` itself, under the name by which a policy may store it."""
  return checkpoint_name(x, name)


def run(policy: str, block: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
  """`block(x)`, with what `policy` says stored for the backward pass.

  Args:
    policy: a key of `POLICIES`.
    block: may close over parameters and other arrays, which stay where they are.
    x: the activations that enter the block, which "offload" moves.
  """
  if policy == "none":
    return block(x)
  return jax.checkpoint(lambda x: block(named(x, _INPUT)), policy=POLICIES[policy])(x)


def of_level(policies: Sequence[str], level: int) -> str:
  """The policy of a level: one entry for each of them, finest first, or one for all."""
  return policies[0] if len(policies) == 1 else policies[level]


def check(policies: Sequence[str], levels: int) -> None:
  """Checks `model.remat` of a model with so many levels.

  Raises:
    ValueError: a name that is no policy, or a number of names that is neither 1 nor `levels`.
  """
  if len(policies) not in (1, levels):
    raise ValueError(
      f"model.remat={tuple(policies)} needs one entry for each of the {levels} levels of"
      " model.block_out_channels, or one for all"
    )
  for level, policy in enumerate(policies):
    if policy not in POLICIES:
      near = difflib.get_close_matches(policy, POLICIES, n=1, cutoff=0.5)
      hint = f"did you mean {near[0]!r}?" if near else f"use one of {', '.join(POLICIES)}"
      where = f"level {level}" if len(policies) > 1 else "all levels"
      raise ValueError(f"model.remat={policy!r} ({where}) is no policy: {hint}")
