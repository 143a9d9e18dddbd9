"""The UNet: sizes, names, what it starts as, what it accepts."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidjax.models.unet import PRESETS, UNet, UNetConfig
from vidjax.nn.params import network

SMALL = dataclasses.replace(
  PRESETS["tiny"], num_attention_heads=(2, 4), attention=(False, False), vector_embed_dim=8
)


@functools.cache
def describe(config):
  return network(lambda rngs: UNet(config, rngs))


def draw(seed, *shape):
  return jnp.asarray(np.random.default_rng(seed).standard_normal(shape, np.float32))


def inputs(config, frames=3):
  return (
    draw(0, 2, frames, 4, 4, config.in_channels),
    draw(1, 2),
    (draw(2, 2, 5, 64),),
    draw(3, 2, 3) if config.vector_size else None,
  )


def weights(net, perturb=0.0):
  params = jax.jit(net.init)(jax.random.key(0))
  return {name: value + perturb * draw(len(name), *value.shape) for name, value in params.items()}


@pytest.mark.parametrize(
  ("preset", "count", "tensors"),
  [
    # SVD, App. D: 1521M parameters, of them 656M temporal; the MLP of the vector is not in that.
    ("svd", 1_524_623_082, 1428),
    ("svd_t2v", 1_524_611_562, 1428),
    ("svd_interpolation", 1_524_625_962, 1428),
    ("sd21", 865_910_724, 686),
  ],
)
def test_number_of_parameters_is_that_of_the_original(preset, count, tensors):
  abstract = describe(PRESETS[preset]).abstract
  assert sum(math.prod(leaf.shape) for leaf in abstract.values()) == count
  assert len(abstract) == tensors


def test_spatial_parameters_have_the_same_names_and_shapes_with_and_without_time():
  video, image = describe(PRESETS["svd_t2v"]).abstract, describe(PRESETS["sd21"]).abstract
  assert {name: video[name].shape for name in image} == {n: v.shape for n, v in image.items()}
  added = {name for name in video if name not in image}
  assert all(
    "temporal" in name or "time_mixer" in name or "time_pos" in name or "add_embedding" in name
    for name in added
  )


def test_temporal_layers_start_as_the_identity():
  net = describe(SMALL)
  params = weights(net)
  params["conv_out.kernel"] = draw(9, *params["conv_out.kernel"].shape)
  run = jax.jit(
    lambda params, *args, image_only: net.bind(params)(*args, image_only=image_only),
    static_argnames="image_only",
  )
  video = run(params, *inputs(SMALL), image_only=False)
  image = run(params, *inputs(SMALL), image_only=True)
  assert jnp.std(image) > 0.01
  np.testing.assert_allclose(video, image, rtol=0, atol=1e-6)


def test_prediction_starts_at_zero_and_reads_everything_after():
  net = describe(SMALL)
  args = inputs(SMALL)
  run = jax.jit(lambda params, *args: net.bind(params)(*args))
  assert not np.array(run(weights(net), *args)).any()
  params = weights(net, perturb=0.05)
  y = run(params, *args)
  for i in range(4):
    changed = [
      jax.tree.map(lambda a: a + 0.5, arg) if i == k else arg for k, arg in enumerate(args)
    ]
    assert jnp.abs(run(params, *changed) - y).max() > 1e-4, f"input {i} has no effect"


def test_every_parameter_gets_a_gradient():
  net = describe(SMALL)
  params = weights(net, perturb=0.05)
  gradients = jax.jit(jax.grad(lambda params: (net.bind(params)(*inputs(SMALL)) ** 2).mean()))(
    params
  )
  assert not [name for name, value in gradients.items() if not np.array(value).any()]


def test_bfloat16_computes_nearly_the_same_and_keeps_float32_at_the_ends():
  net, half = describe(SMALL), describe(dataclasses.replace(SMALL, dtype="bfloat16"))
  params = weights(net, perturb=0.05)
  assert all(leaf.dtype == jnp.float32 for leaf in half.abstract.values())
  y = jax.jit(lambda params, *args: net.bind(params)(*args))(params, *inputs(SMALL))
  z = jax.jit(lambda params, *args: half.bind(params)(*args))(params, *inputs(SMALL))
  assert z.dtype == jnp.float32
  assert 0 < jnp.abs(y - z).max() < 0.1 * jnp.abs(y).max()


@pytest.mark.parametrize(
  ("edit", "message"),
  [
    ({"x": draw(0, 1, 2, 4, 4, 4)}, "model.in_channels"),
    ({"contexts": ()}, "cross_attention_dims"),
    ({"vector": None}, "0 numbers, model.vector_size is 3"),
  ],
)
def test_a_wrong_input_is_named(edit, message):
  x, c_noise, contexts, vector = inputs(SMALL)
  args = {"x": x, "contexts": contexts, "vector": vector} | edit
  net = describe(SMALL)

  def call(params):
    return net.bind(params)(args["x"], c_noise, args["contexts"], args["vector"])

  with pytest.raises(ValueError, match=message):
    jax.eval_shape(call, net.abstract)


@pytest.mark.parametrize(
  ("field", "value"),
  [("temporal", "conv3d"), ("dtype", "float16"), ("num_attention_heads", (5, 10))],
)
def test_a_wrong_config_is_named(field, value):
  with pytest.raises(ValueError, match=f"model.{field}"):
    UNetConfig(**{field: value})
