"""T5's encoder: sizes, padding, distances, dtypes, and what its config refuses."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidjax.encoders import t5

TINY = t5.PRESETS["tiny"]
NET = t5.describe(TINY)


@pytest.fixture(scope="module")
def params():
  return jax.jit(NET.init)(jax.random.key(0))


@jax.jit
def run(params, tokens):
  return NET.bind(params)(tokens)


def tokens(seed, *shape):
  return np.random.default_rng(seed).integers(1, TINY.vocab_size, shape).astype(np.int32)


@pytest.mark.parametrize(
  ("preset", "count"), [("v1_1_xl", 1_223_527_424), ("v1_1_small", 35_332_800)]
)
def test_sizes_of_what_is_published(preset, count):
  abstract = t5.describe(t5.PRESETS[preset]).abstract
  assert sum(leaf.size for leaf in abstract.values()) == count


def test_padding_is_not_read_wherever_it_is(params):
  text = tokens(0, 2, 7)
  nothing = np.zeros((2, 3), np.int32)
  alone = run(params, text)
  after = run(params, np.concatenate([text, nothing], 1))[:, :7]
  before = run(params, np.concatenate([nothing, text], 1))[:, 3:]
  assert alone.dtype == np.float32
  assert alone.shape == (2, 7, TINY.d_model)
  np.testing.assert_allclose(after, alone, atol=2e-6)
  np.testing.assert_allclose(before, alone, atol=2e-6)


def test_nothing_but_padding_is_finite(params):
  assert np.isfinite(run(params, np.zeros((1, 5), np.int32))).all()


def test_every_token_reads_every_other(params):
  text = tokens(1, 1, 6)
  changed = text.copy()
  changed[0, 5] = 1 + text[0, 5] % 5
  difference = np.abs(run(params, text) - run(params, changed)).max(-1)
  assert (difference > 1e-4).all()


def test_the_order_of_tokens_counts(params):
  text = tokens(2, 1, 6)
  turned = np.array(run(params, text[:, ::-1]))[:, ::-1]
  assert np.abs(turned - run(params, text)).max() > 1e-3


def test_buckets_of_distances():
  """Half for keys behind the query; one each for short distances, then wider and wider."""
  buckets = t5.distance_buckets(200, 32, 128)
  assert buckets[0, :12].tolist() == [0, 17, 18, 19, 20, 21, 22, 23, 24, 24, 24, 24]
  np.testing.assert_array_equal(buckets[:12, 0], [0, 1, 2, 3, 4, 5, 6, 7, 8, 8, 8, 8])
  assert (buckets[0, 16], buckets[0, 32], buckets[0, 64]) == (26, 28, 30)  # log2 in steps of 2
  assert set(buckets[0, 128:]) == {31}
  assert set(buckets[128:, 0]) == {15}


def test_bfloat16_keeps_the_sum_of_the_layers(params):
  """A residual stream far above what a norm of bfloat16 could hold apart comes out as float32."""
  net = t5.describe(dataclasses.replace(TINY, dtype="bfloat16"))
  big = {**params, "token_embedding.embedding": 1e4 * params["token_embedding.embedding"]}
  text = tokens(3, 2, 6)
  ours = jax.jit(lambda p, t: net.bind(p)(t))(big, text)
  assert ours.dtype == np.float32
  exact = run(big, text)
  np.testing.assert_allclose(ours, exact, rtol=0, atol=2e-3 * float(jnp.abs(exact).max()))


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"feed_forward_proj": "gated-silu"}, "feed_forward_proj='gated-silu': known are relu, gated"),
    ({"relative_attention_num_buckets": 7}, "num_buckets=7"),
    ({"relative_attention_max_distance": 8}, "max_distance=8"),
  ],
)
def test_a_config_of_another_encoder_is_refused(change, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(TINY, **change)
