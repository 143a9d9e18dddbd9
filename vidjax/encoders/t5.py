"""The encoder of T5, frozen.

Source: T5 (arXiv 1910.10683), section 2.1; the gated feed-forward of version 1.1 is that of "GLU
Variants Improve Transformer" (2002.05202). Layout of transformers' T5EncoderModel, whose config
this reads. Emu Video takes the XL encoder of version 1.1 as its second context.

B batch, L tokens as queries and M the same as keys, C channels, N heads, D head width, F hidden
channels.
"""

import dataclasses

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np

from vidjax.nn import params
from vidjax.nn.dense import Dense
from vidjax.nn.embed import Embedding
from vidjax.nn.init import Keys
from vidjax.nn.norm import RMSNorm

GATED = "gated-gelu"
FEED_FORWARDS = ("relu", GATED)  # of the original T5, and of version 1.1

# The logit of a key that is not read. Finite: a text of nothing but padding reads all evenly.
_MASKED = float(np.finfo(np.float32).min)


@dataclasses.dataclass(frozen=True)
class T5Config:
  """Shape of an encoder; names and defaults of transformers' T5Config.

  Attributes:
    vocab_size: token ids; more than the tokenizer has, in published models.
    d_model: C.
    d_kv: D; N * D need not be C.
    d_ff: F.
    num_layers: of the encoder.
    num_heads: N.
    relative_attention_num_buckets: kinds of distances between tokens, both directions together.
    relative_attention_max_distance: tokens that are farther apart are in the last bucket.
    layer_norm_epsilon: of all norms.
    feed_forward_proj: one of `FEED_FORWARDS`.
    pad_token_id: tokens that no token reads.
    dtype: of the operands of matrix products, see `T5Encoder`.
  """

  vocab_size: int = 32128
  d_model: int = 512
  d_kv: int = 64
  d_ff: int = 2048
  num_layers: int = 6
  num_heads: int = 8
  relative_attention_num_buckets: int = 32
  relative_attention_max_distance: int = 128
  layer_norm_epsilon: float = 1e-6
  feed_forward_proj: str = "relu"
  pad_token_id: int = 0
  dtype: str = "float32"

  def __post_init__(self):
    if self.feed_forward_proj not in FEED_FORWARDS:
      raise ValueError(
        f"feed_forward_proj={self.feed_forward_proj!r}: known are {', '.join(FEED_FORWARDS)}"
      )
    buckets, farthest = self.relative_attention_num_buckets, self.relative_attention_max_distance
    if buckets < 4 or buckets % 2 or farthest <= buckets // 4:
      raise ValueError(
        f"relative_attention_num_buckets={buckets}, relative_attention_max_distance={farthest}:"
        " needs an even number of at least 4 buckets, and a distance above a quarter of it"
      )


PRESETS: dict[str, T5Config] = {
  "v1_1_xl": T5Config(
    d_model=2048, d_ff=5120, num_layers=24, num_heads=32, feed_forward_proj=GATED
  ),
  "v1_1_small": T5Config(d_ff=1024, num_layers=8, num_heads=6, feed_forward_proj=GATED),
  "tiny": T5Config(
    vocab_size=259,  # bytes, and three special tokens: see `tokenizers.ByteTokenizer`
    d_model=64,
    d_kv=16,
    d_ff=128,
    num_layers=2,
    num_heads=2,
    feed_forward_proj=GATED,
  ),
}


class T5Encoder(nnx.Module):
  """Token ids (B, L) -> hidden states (B, L, C) of the last layer, normalised, float32.

  With `config.dtype` bfloat16 the operands of the matrix products are bfloat16, and so are queries,
  keys, values and hidden channels. Parameters, the sum that runs through the layers (whose values
  grow to thousands in trained models), the norms, logits with their bias, softmax and the result
  stay float32.

  Args:
    config: shape of the encoder.
    rngs: source of the initial values.
  """

  def __init__(self, config: T5Config, rngs: Keys):
    self.config = config
    self.token_embedding = Embedding(config.vocab_size, config.d_model, rngs=rngs)
    self.position_bias = Embedding(
      config.relative_attention_num_buckets, config.num_heads, rngs=rngs
    )
    self.layers = nnx.List(Layer(config, rngs) for _ in range(config.num_layers))
    self.final_norm = RMSNorm(config.d_model, eps=config.layer_norm_epsilon)

  def __call__(self, tokens_BL: jax.Array) -> jax.Array:
    """Encodes `tokens_BL` of any length; no token reads padding, wherever that is."""
    bias_NLM = self.bias(tokens_BL.shape[1])
    mask_BM = tokens_BL != self.config.pad_token_id
    x_BLC = self.token_embedding(tokens_BL)
    for layer in self.layers:
      x_BLC = layer(x_BLC, bias_NLM, mask_BM)
    return self.final_norm(x_BLC)

  def bias(self, length: int) -> jax.Array:
    """What the distances of `length` tokens add to the logits of every layer: (N, L, M)."""
    buckets_LM = distance_buckets(
      length,
      self.config.relative_attention_num_buckets,
      self.config.relative_attention_max_distance,
    )
    return self.position_bias(jnp.asarray(buckets_LM)).transpose(2, 0, 1)


class Layer(nnx.Module):
  """Pre-norm transformer layer: float32 (B, L, C) -> (B, L, C)."""

  def __init__(self, config: T5Config, rngs: Keys):
    self.norm1 = RMSNorm(config.d_model, eps=config.layer_norm_epsilon)
    self.attn = SelfAttention(config, rngs)
    self.norm2 = RMSNorm(config.d_model, eps=config.layer_norm_epsilon)
    self.ff = FeedForward(config, rngs)
    self.dtype = config.dtype

  def __call__(self, x_BLC: jax.Array, bias_NLM: jax.Array, mask_BM: jax.Array) -> jax.Array:
    """Runs the layer; `mask_BM` says which tokens are read."""
    y_BLC = self.attn(self.norm1(x_BLC).astype(self.dtype), bias_NLM, mask_BM)
    x_BLC += y_BLC.astype(x_BLC.dtype)
    return x_BLC + self.ff(self.norm2(x_BLC).astype(self.dtype)).astype(x_BLC.dtype)


class SelfAttention(nnx.Module):
  """Softmax of dot products, which are not scaled, plus a bias: (B, L, C) -> (B, L, C)."""

  def __init__(self, config: T5Config, rngs: Keys):
    width = config.num_heads * config.d_kv
    self.to_q = Dense(config.d_model, width, bias=False, rngs=rngs)
    self.to_k = Dense(config.d_model, width, bias=False, rngs=rngs)
    self.to_v = Dense(config.d_model, width, bias=False, rngs=rngs)
    self.to_out = Dense(width, config.d_model, bias=False, rngs=rngs)
    self.heads = config.num_heads

  def __call__(self, x_BLC: jax.Array, bias_NLM: jax.Array, mask_BM: jax.Array) -> jax.Array:
    """Attends to the tokens that `mask_BM` names."""
    batch, length, _ = x_BLC.shape
    q_BLND, k_BMND, v_BMND = (
      to(x_BLC).reshape(batch, length, self.heads, -1) for to in (self.to_q, self.to_k, self.to_v)
    )
    logits_BNLM = jnp.einsum("BLND,BMND->BNLM", q_BLND, k_BMND, preferred_element_type=jnp.float32)
    logits_BNLM = jnp.where(mask_BM[:, None, None], logits_BNLM + bias_NLM[None], _MASKED)
    weights_BNLM = jax.nn.softmax(logits_BNLM).astype(x_BLC.dtype)
    y_BLND = jnp.einsum("BNLM,BMND->BLND", weights_BNLM, v_BMND)
    return self.to_out(y_BLND.reshape(batch, length, -1))


class FeedForward(nnx.Module):
  """`out(relu(proj(x)))`, or `out(gelu(gate(x)) * proj(x))` with the tanh form of GELU."""

  def __init__(self, config: T5Config, rngs: Keys):
    gated = config.feed_forward_proj == GATED
    self.gate = Dense(config.d_model, config.d_ff, bias=False, rngs=rngs) if gated else None
    self.proj = Dense(config.d_model, config.d_ff, bias=False, rngs=rngs)
    self.out = Dense(config.d_ff, config.d_model, bias=False, rngs=rngs)

  def __call__(self, x_BLC: jax.Array) -> jax.Array:
    """Maps the last dim."""
    h_BLF = self.proj(x_BLC)
    if self.gate is None:
      return self.out(jax.nn.relu(h_BLF))
    return self.out(jax.nn.gelu(self.gate(x_BLC), approximate=True) * h_BLF)


def describe(config: T5Config) -> params.Network[T5Encoder]:
  """The encoder of `config` without values."""
  return params.network(lambda rngs: T5Encoder(config, rngs))


def distance_buckets(length: int, buckets: int, max_distance: int) -> np.ndarray:
  """The bucket of each pair of tokens by how far the key is from the query: int32 (L, M).

  A half of the buckets is for keys behind the query. In each half, short distances have a bucket
  of their own, and from a half of it on they widen with the logarithm up to `max_distance`.
  """
  distance_LM = np.arange(length)[None] - np.arange(length)[:, None]
  half = buckets // 2
  exact = half // 2
  # In float32, as models were trained: rounding decides at distances that are powers of two.
  far_LM = np.maximum(abs(distance_LM), exact).astype(np.float32) / np.float32(exact)
  log_LM = np.log(far_LM) / np.float32(np.log(max_distance / exact)) * np.float32(half - exact)
  far_LM = np.minimum(exact + log_LM.astype(np.int32), half - 1)
  near_LM = abs(distance_LM)
  return (np.where(near_LM < exact, near_LM, far_LM) + half * (distance_LM > 0)).astype(np.int32)
