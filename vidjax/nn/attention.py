"""Attention over the positions of a frame, over the frames of a clip, and over context tokens.

B batch, T frames, S positions of a frame (H * W), C channels, X context channels, L context tokens,
N heads, D head width; in `Attention`, A any batch dims, L queries, M keys. Softmax is in float32.

Dims are not merged: one that is divided among devices would have to be gathered for it.
"""

import functools

from flax import nnx
import jax
import jax.numpy as jnp

from vidjax.nn.dense import Dense
from vidjax.nn.init import Keys
from vidjax.nn.kernels import flash_attention, temporal_attention
from vidjax.parallel import plan, remat


class Attention(nnx.Module):
  """Multi-head attention: `(x_ALC, context_AMX) -> y_ALC`; L may be several dims of queries.

  Args:
    channels: C, width of the queries and of the output.
    heads: N; the head width is `channels // heads`.
    context_channels: X, width of what keys and values come from; C by default.
    bias: biases on queries, keys and values; the output always has one.
    causal: queries read keys up to their own position only.
    zero_init: start with a zero output layer, so that the residual branch adds nothing at first.
    split_heads: heads may be divided among devices.
    rngs: source of the initial values.

  Raises:
    ValueError: `heads` does not divide `channels`.
  """

  def __init__(
    self,
    channels: int,
    heads: int,
    *,
    context_channels: int | None = None,
    bias: bool = False,
    causal: bool = False,
    zero_init: bool = False,
    split_heads: bool = False,
    rngs: Keys,
  ):
    if channels % heads:
      raise ValueError(f"heads={heads} does not divide the {channels} channels of the layer")
    context_channels = channels if context_channels is None else context_channels
    column, row = ("column", "row") if split_heads else ("", "")
    self.to_q = Dense(channels, channels, bias=bias, split=column, units=heads, rngs=rngs)
    self.to_k = Dense(context_channels, channels, bias=bias, split=column, units=heads, rngs=rngs)
    self.to_v = Dense(context_channels, channels, bias=bias, split=column, units=heads, rngs=rngs)
    self.to_out = Dense(channels, channels, zero_init=zero_init, split=row, units=heads, rngs=rngs)
    self.heads = heads
    self.causal = causal

  def __call__(self, x_ALC: jax.Array, context_AMX: jax.Array | None = None) -> jax.Array:
    """Attends to the context, or to `x_ALC` itself."""
    context_AMX = x_ALC if context_AMX is None else context_AMX.astype(x_ALC.dtype)
    if context_AMX.shape[-2] == 1:
      # The softmax of one logit is 1: every query reads the one value.
      y_A1C = self.to_out(self.to_v(context_AMX))
      outer, more = context_AMX.shape[:-2], x_ALC.ndim - context_AMX.ndim
      return jnp.zeros_like(x_ALC) + y_A1C.reshape(*outer, *(1,) * more, 1, y_A1C.shape[-1])
    q, k, v = (
      y.reshape(*y.shape[:-1], self.heads, -1)
      for y in (self.to_q(x_ALC), self.to_k(context_AMX), self.to_v(context_AMX))
    )
    return self.to_out(_attend(q, k, v, causal=self.causal).reshape(x_ALC.shape))


def _attend(q_ALND: jax.Array, k_AMND: jax.Array, v_AMND: jax.Array, *, causal: bool) -> jax.Array:
  """Softmax of scaled dot products, times the values: (A, L, N, D)."""
  # As many letters as there are dims: A is what queries share with keys, L what they have besides.
  shared, more = "ABC"[: k_AMND.ndim - 3], "JKL"[k_AMND.ndim - q_ALND.ndim - 1 :]
  queries, keys, logits = f"{shared}{more}ND", f"{shared}MND", f"{shared}N{more}M"
  q_ALND = q_ALND * q_ALND.shape[-1] ** -0.5
  if not causal and flash_attention.suits(q_ALND, k_AMND):
    if plan.platform() == "tpu":
      return plan.local(flash_attention.attend_on_tpu, q_ALND, k_AMND, v_AMND)
    if plan.platform() == "gpu" and q_ALND.dtype == jnp.bfloat16:
      return plan.local(flash_attention.attend_on_gpu, q_ALND, k_AMND, v_AMND)
  logits_ANLM = jnp.einsum(
    f"{queries},{keys}->{logits}", q_ALND, k_AMND, preferred_element_type=jnp.float32
  )
  if causal:
    allowed_LM = jnp.tri(*logits_ANLM.shape[-2:], dtype=bool)
    allowed_ANLM = allowed_LM.reshape((1,) * (logits_ANLM.ndim - 2) + allowed_LM.shape)
    logits_ANLM = jnp.where(allowed_ANLM, logits_ANLM, -jnp.inf)
  weights_ANLM = jax.nn.softmax(logits_ANLM).astype(v_AMND.dtype)
  y_ALND = jnp.einsum(f"{logits},{keys}->{queries}", weights_ANLM, v_AMND)
  return remat.named(y_ALND, remat.ATTENTION)


def over_time(attention: Attention, x_BTSC: jax.Array) -> jax.Array:
  """Each position attends to itself in all frames."""
  width = x_BTSC.shape[-1] // attention.heads
  if plan.platform() != "tpu" or not temporal_attention.suits(x_BTSC.shape[1], width):
    return attention(x_BTSC.swapaxes(1, 2)).swapaxes(1, 2)
  q, k, v = attention.to_q(x_BTSC), attention.to_k(x_BTSC), attention.to_v(x_BTSC)
  kernel = functools.partial(temporal_attention.attend_on_tpu, width=width)
  return attention.to_out(remat.named(plan.local(kernel, q, k, v), remat.ATTENTION))
