"""Attention over the frames of a clip, each position of a frame for itself, heads side by side.

What it computes is little, and what it moves as plain products is much: the frames of a position
lie far apart, and a matrix of T x T numbers fills an eighth of a tile. This kernel reads clips as
they lie, (T, S, C), and attends in groups of sixteen positions at once: one product of all frames
of the group with each other, of which a mask keeps what belongs to the same position.

B batch, T frames, S positions of a frame, C channels of all heads, N heads, D head width, U frames
that are attended to; in the kernels, R rows: T times the positions of a group.
"""

from collections.abc import Sequence
import functools
from typing import Any

import jax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
import jax.numpy as jnp

from vidjax.nn.kernels.work import GROUP, LANES

_BLOCK = 128  # positions that are in VMEM at once
_MOST_FRAMES = 32  # (T * 16)^2 logits are in registers and VMEM


def suits(frames: int, width: int) -> bool:
  """Whether the kernel knows how to: heads of this width fill lanes, and clips are short."""
  return frames <= _MOST_FRAMES and LANES % width == 0


def attend(q_BTSC: jax.Array, k_BTSC: jax.Array, v_BTSC: jax.Array, width: int) -> jax.Array:
  """Softmax over frames of scaled `q @ k`, times the values: (B, T, S, C). The reference.

  Args:
    q_BTSC: queries.
    k_BTSC: keys.
    v_BTSC: values.
    width: D.
  """
  q, k, v = (x.reshape(*x.shape[:-1], -1, width) for x in (q_BTSC, k_BTSC, v_BTSC))
  logits_BSNTU = jnp.einsum(
    "btsnd,busnd->bsntu", q * width**-0.5, k, preferred_element_type=jnp.float32
  )
  weights_BSNTU = jax.nn.softmax(logits_BSNTU).astype(v.dtype)
  return jnp.einsum("bsntu,busnd->btsnd", weights_BSNTU, v).reshape(q_BTSC.shape)


@functools.partial(jax.custom_vjp, nondiff_argnames=("width", "interpret"))
def attend_on_tpu(
  q_BTSC: jax.Array, k_BTSC: jax.Array, v_BTSC: jax.Array, width: int, interpret: bool = False
) -> jax.Array:
  """`attend` as a kernel; its gradient is another, which reads queries, keys and values.

  Args:
    q_BTSC: queries.
    k_BTSC: keys.
    v_BTSC: values.
    width: D, see `suits`.
    interpret: run it without a TPU.
  """
  return _value(q_BTSC, k_BTSC, v_BTSC, width, interpret)


def _value(q: jax.Array, k: jax.Array, v: jax.Array, width: int, interpret: bool) -> jax.Array:
  return _call(_forward, (q, k, v), 1, width=width, interpret=interpret)[0]


def _save(q: jax.Array, k: jax.Array, v: jax.Array, width: int, interpret: bool) -> tuple:
  return _value(q, k, v, width, interpret), (q, k, v)


def _gradient(width: int, interpret: bool, saved: tuple, dy_BTSC: jax.Array) -> tuple:
  return tuple(_call(_backward, (*saved, dy_BTSC), 3, width=width, interpret=interpret))


attend_on_tpu.defvjp(_save, _gradient)


def _call(
  compute: Any, arrays: Sequence[jax.Array], results: int, *, width: int, interpret: bool
) -> Sequence[jax.Array]:
  """Runs `compute` on blocks of positions and lanes, all frames in each."""
  batch, frames, positions, channels = arrays[0].shape
  block = min(_BLOCK, -(-positions // GROUP) * GROUP)
  grid = batch, pl.cdiv(positions, block), pl.cdiv(channels, LANES)
  spec = pl.BlockSpec((None, frames, block, LANES), lambda b, s, c: (b, 0, s, c))
  direction = compute.__name__.strip("_")
  return pl.pallas_call(
    functools.partial(
      _kernel,
      compute=compute,
      inputs=len(arrays),
      positions=positions,
      channels=channels,
      width=width,
    ),
    grid=grid,
    in_specs=[spec] * len(arrays),
    out_specs=[spec] * results,
    out_shape=[jax.ShapeDtypeStruct(arrays[0].shape, arrays[0].dtype)] * results,
    compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel",) * len(grid)),
    name=f"temporal_attention_{direction}_{width}",
    interpret=interpret,
  )(*arrays)


def _kernel(*refs, compute: Any, inputs: int, positions: int, channels: int, width: int):
  """Takes a block of each array through `compute`, group by group: (R, C) in, (R, C) out."""
  frames, block, lanes = refs[0].shape
  left = positions - pl.program_id(1) * block, channels - pl.program_id(2) * lanes
  is_whole = positions % block == 0, channels % lanes == 0

  def group(index, _):
    start = pl.multiple_of(index * GROUP, GROUP)
    read = functools.partial(_read, start=start, left=left, is_whole=is_whole)
    values = compute(*map(read, refs[:inputs]), width=width)
    for ref, value_RC in zip(refs[inputs:], values, strict=True):
      value_TPC = value_RC.astype(ref.dtype).reshape(frames, GROUP, lanes)
      ref[:, pl.ds(start, GROUP), :] = value_TPC

  jax.lax.fori_loop(0, block // GROUP, group, None)


def _forward(
  q_RC: jax.Array, k_RC: jax.Array, v_RC: jax.Array, *, width: int
) -> Sequence[jax.Array]:
  y_RC = jnp.zeros(q_RC.shape, jnp.float32)
  for here_RC in _heads(q_RC.shape, width):
    weights_RR = _weights(jnp.where(here_RC, q_RC, 0), k_RC, width)
    y_RC = jnp.where(here_RC, _product(weights_RR.astype(v_RC.dtype), v_RC), y_RC)
  return (y_RC,)


def _backward(
  q_RC: jax.Array, k_RC: jax.Array, v_RC: jax.Array, dy_RC: jax.Array, *, width: int
) -> Sequence[jax.Array]:
  dq_RC, dk_RC, dv_RC = (jnp.zeros(q_RC.shape, jnp.float32) for _ in range(3))
  for here_RC in _heads(q_RC.shape, width):
    own_q_RC, own_dy_RC = jnp.where(here_RC, q_RC, 0), jnp.where(here_RC, dy_RC, 0)
    weights_RR = _weights(own_q_RC, k_RC, width)
    dv_RC += _product(weights_RR.astype(v_RC.dtype), own_dy_RC, transposed=True)
    dweights_RR = jax.lax.dot_general(
      own_dy_RC, v_RC, (((1,), (1,)), ((), ())), preferred_element_type=jnp.float32
    )
    mean_R1 = jnp.sum(weights_RR * dweights_RR, -1, keepdims=True)
    dlogits_RR = (weights_RR * (dweights_RR - mean_R1) * width**-0.5).astype(k_RC.dtype)
    dq_RC = jnp.where(here_RC, _product(dlogits_RR, k_RC), dq_RC)
    dk_RC += _product(dlogits_RR, own_q_RC, transposed=True)
  return dq_RC, dk_RC, dv_RC


def _read(ref, *, start: Any, left: tuple[Any, Any], is_whole: tuple[bool, bool]) -> jax.Array:
  """All frames of a group of positions, (R, C); zeros where a block reaches beyond the array.

  Args:
    ref: a block, (T, positions, C).
    start: first position of the group.
    left: positions and channels from the block's start to the array's end.
    is_whole: whether positions and channels fill all blocks.
  """
  x_TPC = ref[:, pl.ds(start, GROUP), :]
  for dim, first in ((1, start), (2, 0)):
    if not is_whole[dim - 1]:
      index = first + jax.lax.broadcasted_iota(jnp.int32, x_TPC.shape, dim)
      x_TPC = jnp.where(index < left[dim - 1], x_TPC, 0)
  return x_TPC.reshape(-1, x_TPC.shape[-1])


def _heads(shape: tuple[int, ...], width: int) -> list[jax.Array]:
  """For each head in the lanes, where it is."""
  head_RC = jax.lax.broadcasted_iota(jnp.int32, shape, 1) // width
  return [head_RC == head for head in range(shape[1] // width)]


def _weights(q_RC: jax.Array, k_RC: jax.Array, width: int) -> jax.Array:
  """Softmax of a head's logits over the rows of the same position: (R, R) in float32."""
  logits_RR = jax.lax.dot_general(
    q_RC, k_RC, (((1,), (1,)), ((), ())), preferred_element_type=jnp.float32
  )
  position_RR = functools.partial(jax.lax.broadcasted_iota, jnp.int32, logits_RR.shape)
  same_RR = position_RR(0) % GROUP == position_RR(1) % GROUP
  logits_RR = jnp.where(same_RR, logits_RR * width**-0.5, -jnp.inf)
  weights_RR = jnp.exp(logits_RR - jnp.max(logits_RR, -1, keepdims=True))
  return weights_RR / jnp.sum(weights_RR, -1, keepdims=True)


def _product(a_RR: jax.Array, b_RC: jax.Array, *, transposed: bool = False) -> jax.Array:
  dims = (((0,), (0,)), ((), ())) if transposed else (((1,), (0,)), ((), ()))
  return jax.lax.dot_general(a_RR, b_RC, dims, preferred_element_type=jnp.float32)
