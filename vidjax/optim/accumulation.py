"""Gradients of a batch that goes through the network in parts, one after the other.

The memory of activations is that of a part; the result is that of the whole batch, up to the order
of sums, since randomness belongs to samples and all parts have as many rows.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from vidjax.nn.params import Params

# (weights, batch) -> (mean loss over the rows, pytree of other means over the rows)
LossFn = Callable[[Params, Any], tuple[jax.Array, Any]]


def value_and_grad(
  loss_fn: LossFn, live: Params, batch: Any, parts: int, pack: Callable[[Params], Params]
) -> tuple[jax.Array, Any, Params]:
  """Loss, other means and gradient of a batch, computed in `parts` of as many rows each.

  Args:
    loss_fn: means over rows of whatever batch it is given.
    live: float32 weights that it is differentiated by.
    batch: pytree of arrays (B, ...), B a multiple of `parts` times the devices that share B.
    parts: 1 for the batch at once.
    pack: applied to the gradient of each part; linear.

  Returns:
    Mean loss, means, and packed gradient of the mean loss, float32.
  """

  def of(part: Any) -> tuple[tuple[jax.Array, Any], Params]:
    means, grads = jax.value_and_grad(loss_fn, has_aux=True)(live, part)
    return means, pack(grads)

  if parts == 1:
    (loss, means), grads = of(batch)
    return loss, means, grads

  def add(total: Params, part: Any) -> tuple[Params, Any]:
    means, grads = of(part)
    return jax.tree.map(jnp.add, total, grads), means

  zeros = jax.tree.map(jnp.zeros_like, pack(live))  # has the gradient's shapes and layouts
  split_batch = jax.tree.map(lambda x: split(x, parts), batch)
  total, means_of_parts = jax.lax.scan(add, zeros, split_batch)
  loss, means = jax.tree.map(lambda x: jnp.mean(x, axis=0), means_of_parts)
  return loss, means, jax.tree.map(lambda g: g / parts, total)


def split(x: jax.Array, parts: int) -> jax.Array:
  """(B, ...) -> (parts, B / parts, ...): row r is in part r % parts.

  Each device shares its own rows out, so that none moves: of B = parts x devices x r rows, device d
  holds those from d r parts on, and gives every part r of them.
  """
  shape = (x.shape[0] // parts, parts, *x.shape[1:])
  if jax.sharding.get_abstract_mesh().empty:
    return jnp.moveaxis(x.reshape(shape), 1, 0)
  rows, *rest = (*jax.typeof(x).sharding.spec, *(None,) * x.ndim)[: x.ndim]
  return jnp.moveaxis(jnp.reshape(x, shape, out_sharding=P(rows, None, *rest)), 1, 0)
