"""Attention of many positions to each other that keeps no (L, L) array in HBM.

On TPUs this is JAX's own splash attention, fitted to frames: their positions rarely divide into its
tiles, and their heads are narrower than its lanes. On GPUs it is cuDNN's.

A any leading dims, L positions, P positions with padding, N heads, D head width.
"""

from typing import Any

import jax
from jax.experimental.pallas.ops.tpu import splash_attention as splash
import jax.numpy as jnp

from vidjax.parallel import remat

LANES = 128  # of a vector register
SHORTEST = 512  # of shorter sequences plain products are as fast: their logits are small
_TILES = (768, 640, 512)  # queries, and keys, whose logits are in VMEM at once
_MOST_KEYS = 3072  # that one pass of the backward kernel takes; more make partial sums in HBM
_MOST_ROWS = 512  # queries that it takes at once
_NEVER = -1e30  # logit of a key that is padding


def suits(q_ALND: jax.Array, k_ALND: jax.Array) -> bool:
  """Whether it is self-attention over so many positions that a kernel pays."""
  length, _, width = q_ALND.shape[-3:]
  return q_ALND.shape == k_ALND.shape and length >= SHORTEST and width <= LANES


def attend(q_ALND: jax.Array, k_ALND: jax.Array, v_ALND: jax.Array) -> jax.Array:
  """Softmax of `q @ k`, times the values: (A, L, N, D). The reference.

  Args:
    q_ALND: queries, already scaled.
    k_ALND: keys.
    v_ALND: values.
  """
  logits_ANLM = jnp.einsum(
    "...lnd,...mnd->...nlm", q_ALND, k_ALND, preferred_element_type=jnp.float32
  )
  weights_ANLM = jax.nn.softmax(logits_ANLM).astype(v_ALND.dtype)
  return jnp.einsum("...nlm,...mnd->...lnd", weights_ANLM, v_ALND)


def attend_on_tpu(
  q_ALND: jax.Array, k_ALND: jax.Array, v_ALND: jax.Array, *, interpret: bool = False
) -> jax.Array:
  """`attend` by splash attention; what its gradient reads is named `remat.ATTENTION`.

  Args:
    q_ALND: queries, already scaled.
    k_ALND: keys.
    v_ALND: values.
    interpret: run it without a TPU.
  """
  shape = *_, length, heads, width = q_ALND.shape
  q_ANPD, k_ANPD, v_ANPD = (
    x_ALND.reshape(-1, length, heads, width).swapaxes(1, 2) for x_ALND in (q_ALND, k_ALND, v_ALND)
  )
  tile = min(_TILES, key=lambda tile: (-length % tile, -tile))
  padding = -length % tile
  if padding:
    # A further channel, 1 in queries, tells keys that are none: registers have room for it.
    mark_P = jnp.where(jnp.arange(length + padding) < length, 0.0, _NEVER)
    q_ANPD = _marked(q_ANPD, padding, jnp.ones_like(mark_P))
    k_ANPD = _marked(k_ANPD, padding, mark_P)
    v_ANPD = jnp.pad(v_ANPD, ((0, 0), (0, 0), (0, padding), (0, 0)))
  kernel = _splash(length + padding, tile, heads, interpret=interpret)
  y_ANPD = jax.vmap(kernel)(q_ANPD, k_ANPD, v_ANPD)
  return y_ANPD[:, :, :length].swapaxes(1, 2).reshape(shape)


def attend_on_gpu(q_ALND: jax.Array, k_ALND: jax.Array, v_ALND: jax.Array) -> jax.Array:
  """`attend` by cuDNN, in bfloat16.

  Its gradient reads sums of the softmax, too, which have no name: where not everything is stored,
  it runs again for them.

  Args:
    q_ALND: queries, already scaled.
    k_ALND: keys.
    v_ALND: values.
  """
  q, k, v = (x.reshape(-1, *x.shape[-3:]) for x in (q_ALND, k_ALND, v_ALND))
  y = jax.nn.dot_product_attention(q, k, v, scale=1.0, implementation="cudnn")
  return remat.named(y.reshape(q_ALND.shape), remat.ATTENTION)


def _marked(x_ANLD: jax.Array, padding: int, mark_P: jax.Array) -> jax.Array:
  """Zeros after the positions, and after the channels up to whole registers, first a mark."""
  width = x_ANLD.shape[-1]
  wider = (width // LANES + 1) * LANES
  x_ANPD = jnp.pad(x_ANLD, ((0, 0), (0, 0), (0, padding), (0, wider - width)))
  mark_PD = jnp.where(jnp.arange(wider) == width, mark_P[:, None], 0.0)
  return x_ANPD + mark_PD[None, None].astype(x_ANPD.dtype)


def _splash(length: int, tile: int, heads: int, *, interpret: bool) -> Any:
  tiles = length // tile
  keys = tile * max(n for n in range(1, tiles + 1) if tiles % n == 0 and n * tile <= _MOST_KEYS)
  sizes = splash.BlockSizes(
    block_q=tile,
    block_kv=keys,
    block_kv_compute=tile,
    block_q_dkv=max(rows for rows in range(LANES, _MOST_ROWS + 1, LANES) if tile % rows == 0),
    block_kv_dkv=keys,
    block_kv_dkv_compute=tile,
    use_fused_bwd_kernel=True,
  )
  mask = splash.MultiHeadMask([splash.FullMask((length, length))] * heads)
  return splash.make_splash_mha_single_device(
    mask, block_sizes=sizes, residual_checkpoint_name=remat.ATTENTION, interpret=interpret
  )
