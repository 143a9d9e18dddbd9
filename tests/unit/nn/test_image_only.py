"""Clips and sets of single images in one batch: each row is what a program of its kind computes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models import describe, reduced
from vidjax.nn.mix import then_over_time

B, T, H, W, L = 3, 3, 4, 4, 5
IMAGES = np.array([True, False, True])
CASES = {
  "blended": dataclasses.replace(reduced("tiny"), remat=("block",)),
  "convolutions": reduced("pixeldance"),
}


def draw(seed, *shape):
  return jnp.asarray(np.random.default_rng(seed).standard_normal(shape, np.float32))


def inputs(config):
  contexts = tuple(draw([2, i], B, L, c) for i, c in enumerate(config.cross_attention_dims))
  vector = (draw(3, B, config.vector_size),) if config.vector_size else ()
  return draw(0, B, T, H, W, config.in_channels), draw(1, B), contexts, *vector


def weights(config):
  """Drawn, of a size that keeps every softmax soft, zero layers included."""
  params = {}
  for i, (name, leaf) in enumerate(describe(config).abstract.items()):
    std = 0.1 if leaf.ndim == 1 else float(np.prod(leaf.shape[:-1])) ** -0.5
    params[name] = std * draw(i, *leaf.shape) + 0.1 * (leaf.ndim == 1)
  return params


def temporal(name):
  return any(word in name for word in ("temporal", "time_mixer", "time_pos_embed"))


def program(config, image_only=None):
  """(params, cotangent, image_only) -> (output, gradient of <cotangent, output>)."""
  net, args = describe(config), inputs(config)

  def run(params, cotangent, rows):
    rows = rows if image_only is None else image_only

    def inner_product(params):
      y = net.bind(params)(*args, image_only=rows)
      return (cotangent * y).sum(), y

    gradient, y = jax.grad(inner_product, has_aux=True)(params)
    return y, gradient

  return jax.jit(run)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_row_is_what_a_program_of_its_kind_computes(case):
  config = CASES[case]
  params, mixed = weights(config), program(config)
  cotangent = draw(4, B, T, H, W, config.out_channels)
  of_images = jnp.where(IMAGES[:, None, None, None, None], cotangent, 0.0)
  y, gradient = mixed(params, cotangent, IMAGES)
  y_images, by_images = program(config, True)(params, of_images, IMAGES)
  y_clips, by_clips = program(config, False)(params, cotangent - of_images, IMAGES)
  assert np.abs(y_images - y_clips).max((1, 2, 3, 4)).min() > 0.01 * np.abs(y_clips).max()

  expected = np.where(IMAGES[:, None, None, None, None], y_images, y_clips)
  np.testing.assert_allclose(y, expected, rtol=0, atol=2e-6 * np.abs(expected).max())
  largest = max(np.abs(value).max() for value in gradient.values())
  for name, value in gradient.items():
    expected = by_images[name] + by_clips[name]
    np.testing.assert_allclose(value, expected, rtol=0, atol=2e-6 * largest, err_msg=name)
  _, gradient = mixed(params, of_images, IMAGES)
  for name, value in gradient.items():
    assert np.array(value).any() != temporal(name), name


def test_a_layer_that_overflows_on_an_image_leaves_no_trace():
  x = jnp.asarray([[1e30, 2e30], [3.0, 4.0]], jnp.float32)

  def loss(weight, x):
    y = then_over_time(lambda x: weight * x**3, x, image_only=jnp.array([True, False]))
    return (y * jnp.array([[1e-30], [1.0]])).sum(), y

  (by_weight, by_x), y = jax.grad(loss, argnums=(0, 1), has_aux=True)(jnp.float32(2.0), x)
  np.testing.assert_array_equal(y, np.float32([[1e30, 2e30], [54.0, 128.0]]))
  np.testing.assert_allclose(by_weight, 27.0 + 64.0)
  np.testing.assert_allclose(by_x, [[1e-30, 1e-30], [54.0, 96.0]])


def test_without_a_layer_nothing_is_selected():
  x = draw(0, 2, 3)
  assert then_over_time(None, x, image_only=jnp.array([True, False])) is x
