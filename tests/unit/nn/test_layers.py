"""Layers against plain formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidjax.nn.attention import Attention, over_time
from vidjax.nn.conv import Conv, TemporalConv
from vidjax.nn.embed import sinusoid
from vidjax.nn.init import Keys
from vidjax.nn.mix import AlphaBlender
from vidjax.nn.norm import GroupNorm, LayerNorm
from vidjax.nn.resample import Downsample, Upsample


@pytest.fixture
def rngs():
  return Keys(jax.random.key(0))


def draw(seed, *shape):
  return jnp.asarray(np.random.default_rng(seed).standard_normal(shape, np.float32))


def test_temporal_convolution_is_a_3d_convolution(rngs):
  x = draw(0, 2, 5, 3, 4, 8)
  layer = TemporalConv(8, 6, rngs=rngs)
  expected = jax.lax.conv_general_dilated(
    x,
    layer.kernel[...][:, None, None],
    (1, 1, 1),
    [(1, 1), (0, 0), (0, 0)],
    dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
  )
  np.testing.assert_allclose(layer(x), expected, atol=1e-5)


def test_convolution_sees_one_frame_only(rngs):
  x = draw(0, 1, 3, 4, 4, 2)
  layer = Conv(2, 2, rngs=rngs)
  changed = np.array(layer(x) - layer(x.at[:, 1].add(1.0)))
  assert np.abs(changed[:, 1]).min() > 0
  assert not changed[:, [0, 2]].any()


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
  ("size", "padding"),
  [
    *(((1, 1), None), ((2, 3), None), ((5, 2), None), ((3, 3), None)),
    *(((2, 3), [(0, 1), (0, 1)]), ((5, 2), [(0, 1), (0, 1)])),
  ],
)
def test_convolution_of_frames_of_any_size(rngs, size, stride, padding):
  x, layer = draw(0, 2, 3, *size, 4), Conv(4, 6, stride=stride, padding=padding, rngs=rngs)

  def expected_of(kernel, x):
    y = jax.lax.conv_general_dilated(
      x.reshape(6, *size, 4),
      kernel,
      (stride, stride),
      padding or [(1, 1), (1, 1)],
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return y.reshape(2, 3, *y.shape[1:])

  def found_of(kernel, x):
    return layer._convolve(x, kernel)

  (found, pull), (expected, pull_expected) = (
    jax.vjp(of, layer.kernel[...], x) for of in (found_of, expected_of)
  )
  assert found.shape == expected.shape
  grad = draw(1, *expected.shape)
  for one, other in zip((found, *pull(grad)), (expected, *pull_expected(grad)), strict=True):
    np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("over_time_too", [False, True])
def test_group_norm(over_time_too):
  x = np.array(draw(0, 2, 3, 4, 5, 64)) + np.arange(3, dtype=np.float32)[:, None, None, None]
  y = np.array(GroupNorm(64, eps=1e-5, over_time=over_time_too)(jnp.asarray(x)))
  groups = x.reshape(2, 3, 4, 5, 32, 2)
  axes = (1, 2, 3, 5) if over_time_too else (2, 3, 5)
  expected = (groups - groups.mean(axes, keepdims=True)) / np.sqrt(
    groups.var(axes, keepdims=True) + 1e-5
  )
  np.testing.assert_allclose(y, expected.reshape(x.shape), atol=1e-5)


def test_group_norm_keeps_the_variance_of_channels_with_a_large_mean():
  x = draw(0, 1, 1, 16, 16, 32)
  norm = GroupNorm(32, eps=1e-5)
  np.testing.assert_allclose(norm(x + 1000.0), norm(x), atol=1e-3)


def test_norms_compute_in_float32_and_return_the_dtype_of_the_input():
  x = (draw(0, 1, 2, 8, 8, 32) + 3.0).astype(jnp.bfloat16)
  for norm in (GroupNorm(32, eps=1e-5), LayerNorm(32)):
    y = norm(x)
    assert y.dtype == jnp.bfloat16
    expected = norm(x.astype(jnp.float32))
    np.testing.assert_allclose(y.astype(jnp.float32), expected, atol=0.02)


def test_group_norm_names_the_channels_that_do_not_divide():
  with pytest.raises(ValueError, match="channels=48"):
    GroupNorm(48, eps=1e-5)


def test_one_context_token_gives_what_the_softmax_gives(rngs):
  attention = Attention(32, 2, context_channels=8, rngs=rngs)
  x, context = draw(0, 2, 5, 32), draw(1, 2, 1, 8)
  twice = jnp.concatenate([context, context], axis=1)  # equal tokens: weights of one half each
  np.testing.assert_allclose(attention(x, context), attention(x, twice), atol=1e-6)


def test_attention_mixes_what_it_should(rngs):
  attention = Attention(16, 2, rngs=rngs)
  cross = Attention(16, 2, context_channels=8, rngs=rngs)
  x, context = draw(0, 2, 3, 4, 16), draw(1, 2, 5, 8)

  def affected(f):
    """Which (clip, frame, position) depend on clip 0, frame 1, position 2."""
    return np.abs(np.array(f(x) - f(x.at[0, 1, 2].add(1.0)))).max(-1) > 1e-6

  expected = np.zeros((2, 3, 4), bool)
  expected[0, 1] = True
  np.testing.assert_array_equal(affected(lambda x: attention(x)), expected)
  expected = np.zeros((2, 3, 4), bool)
  expected[0, :, 2] = True
  np.testing.assert_array_equal(affected(lambda x: over_time(attention, x)), expected)
  expected = np.zeros((2, 3, 4), bool)
  expected[0, 1, 2] = True
  np.testing.assert_array_equal(affected(lambda x: cross(x, context)), expected)


def test_causal_attention_reads_no_later_token(rngs):
  attention = Attention(16, 2, causal=True, rngs=rngs)
  x = draw(0, 1, 5, 16)
  change = np.abs(np.array(attention(x) - attention(x.at[:, 3].add(1.0)))).max(-1)[0]
  assert not change[:3].any()
  assert (change[3:] > 0).all()


def test_sinusoid_has_cosines_first():
  emb = sinusoid(jnp.array([0.0, 2.0]), 6)
  frequencies = 10_000.0 ** (-np.arange(3) / 3)
  np.testing.assert_allclose(emb[0], [1, 1, 1, 0, 0, 0], atol=1e-6)
  expected = np.concatenate([np.cos(2 * frequencies), np.sin(2 * frequencies)])
  np.testing.assert_allclose(emb[1], expected, atol=1e-6)


def test_blend_of_equal_branches_is_exact():
  x = draw(0, 1, 2, 3, 4, 5)
  np.testing.assert_array_equal(AlphaBlender(0.5)(x, x), x)
  np.testing.assert_allclose(AlphaBlender(0.5)(x, 0 * x) / x, 0.6225, atol=1e-4)


def test_resampling_sizes(rngs):
  x = draw(0, 1, 2, 5, 6, 4)
  half = Downsample(4, rngs=rngs)(x)
  assert half.shape == (1, 2, 3, 3, 4)
  assert Upsample(4, rngs=rngs)(half).shape == (1, 2, 6, 6, 4)
  assert Upsample(4, rngs=rngs)(half, (5, 6)).shape == x.shape
