"""Warm starts between models: what the new one computes before its first step."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models import describe, image_model, reduced
from vidjax.checkpoint import warm_start

B, T, H, W = 2, 3, 4, 4


def draw(seed, *shape):
  return jnp.asarray(np.random.default_rng(seed).standard_normal(shape, np.float32))


@functools.cache
def fresh(config):
  return jax.jit(describe(config).init)(jax.random.key(0))


def start(config, source):
  wanted = describe(config).abstract
  return warm_start(wanted, source, lambda names: {name: fresh(config)[name] for name in names})


@pytest.mark.parametrize("preset", ["svd", "pixeldance", "gen1"])
def test_an_image_model_becomes_a_video_model_that_computes_the_same(preset):
  """Four channels become more, temporal layers and the condition vector come in: nothing changes.

  SVD's norms have another epsilon than those of the image model, hence its tolerance.
  """
  config = reduced(preset)
  image_config = dataclasses.replace(image_model(config), in_channels=4)
  net, image_net = describe(config), describe(image_config)
  source = {
    name: 0.5 * draw([7, i], *leaf.shape) / np.sqrt(max(1, leaf.size // leaf.shape[-1])) + 0.1
    for i, (name, leaf) in enumerate(image_net.abstract.items())
  }
  params, report = start(config, source)
  assert report.widened == ("conv_in.kernel",)
  assert set(report.copied) == source.keys() - set(report.widened)
  assert not report.dropped

  vector = draw(3, B, 3) if config.vector_size else None
  x, rest = draw(0, B, T, H, W, config.in_channels), (draw(1, B), (draw(2, B, 5, 8),))

  @jax.jit
  def run(params, source, x):
    return net.bind(params)(x, *rest, vector), image_net.bind(source)(x[..., :4], *rest)

  video, image = run(params, source, x)
  bound = 1e-3 if preset == "svd" else 1e-5
  assert np.abs(video - image).max() < bound * np.abs(image).max()
  other, _ = run(params, source, x.at[..., 4:].add(1.0))
  np.testing.assert_array_equal(other, video)
