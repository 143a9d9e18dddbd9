"""The same numbers without a mesh, on one device, and on meshes of all axes."""

import dataclasses
import functools

from flax import nnx
import jax
import numpy as np
import pytest

from tests.models import describe, reduced
from vidjax.encoders import clip, t5, vae
from vidjax.models.unet import PRESETS, UNet
from vidjax.nn.params import Network, network
from vidjax.parallel import plan
from vidjax.parallel.mesh import MeshConfig, make_mesh

BATCH, FRAMES = 8, 2
MESHES = {
  "one device": (MeshConfig(), 1),
  "replica x fsdp": (MeshConfig(replica=2), 8),
  "context": (MeshConfig(context=2), 2),
  "tensor": (MeshConfig(tensor=2), 2),
  "fsdp x context x tensor": (MeshConfig(context=2, tensor=2), 8),
}


def draw(seed, *shape):
  return np.random.default_rng(seed).standard_normal(shape, np.float32)


def unet_case():
  config = dataclasses.replace(
    PRESETS["tiny"],
    block_out_channels=(32, 32),
    num_attention_heads=(1, 2),
    attention=(False, False),  # that of the middle is enough
    remat=("block",),
  )
  inputs = {
    "x": draw(0, BATCH, FRAMES, 5, 4, config.in_channels),
    "c_noise": draw(1, BATCH),
    "context": draw(2, BATCH, 3, 64),
    "vector": draw(3, BATCH, 3),
  }

  def apply(model, x, c_noise, context, vector):
    return model(x, c_noise, (context,), vector)

  return network(lambda rngs: UNet(config, rngs)), apply, inputs


def vae_case():
  config = vae.VAEConfig(block_out_channels=(32, 32), use_post_quant_conv=False)
  config = dataclasses.replace(config, temporal_decoder=True)

  def apply(model, x, keys):
    return model.decode(model.encode_sample(x, jax.vmap(jax.random.key)(keys)))

  inputs = {"x": draw(0, BATCH, FRAMES, 4, 8, 3), "keys": np.arange(BATCH, dtype=np.uint32)}
  return vae.describe(config), apply, inputs


def text_case():
  tokens = np.random.default_rng(0).integers(0, 259, (BATCH, 9)).astype(np.int32)
  return clip.describe_text(clip.TINY_TEXT), lambda model, tokens: model(tokens), {"tokens": tokens}


def embedding_case():
  config = dataclasses.replace(clip.TINY_TEXT, projection_dim=24, eos_token_id=5)
  _, _, inputs = text_case()
  return clip.describe_text(config), lambda model, tokens: model.embed(tokens), inputs


def t5_case():
  config = dataclasses.replace(t5.PRESETS["tiny"], d_ff=1024)  # large enough to be sharded
  tokens = text_case()[2]["tokens"]
  tokens[:, 6:] *= np.arange(BATCH)[:, None].astype(np.int32) % 2  # padding in every other text
  return t5.describe(config), lambda model, tokens: model(tokens), {"tokens": tokens}


def vision_case():
  return (
    clip.describe_vision(clip.TINY_VISION),
    lambda model, x: model(x),
    {"x": draw(0, BATCH, 20, 30, 3)},
  )


def factorized_case():
  config = dataclasses.replace(
    reduced("pixeldance"),
    block_out_channels=(32,),
    num_attention_heads=(1,),  # tensor does not divide it
    attention=(False,),
    layers_per_block=(1,),
    transformer_layers_per_block=(1,),
  )
  inputs = {
    "x": draw(0, BATCH, FRAMES, 3, 3, config.in_channels),  # nine positions: no axis divides them
    "c_noise": draw(1, BATCH),
    "context": draw(2, BATCH, 1, 8),
    "image_only": np.arange(BATCH) % 4 == 0,
  }

  def apply(model, x, c_noise, context, image_only):
    return model(x, c_noise, (context,), image_only=image_only)

  return describe(config), apply, inputs


CASES = {
  "unet": unet_case,
  "factorized": factorized_case,
  "vae": vae_case,
  "text": text_case,
  "text embedding": embedding_case,
  "t5": t5_case,
  "vision": vision_case,
}
# A network that has no such layers computes on more axes what it does on fewer.
PLAIN = ("one device", "replica x fsdp")
ON = {
  "unet": ("one device", "replica x fsdp", "context", "tensor", "fsdp x context x tensor"),
  "factorized": ("replica x fsdp", "fsdp x context x tensor"),
  "vae": (*PLAIN, "fsdp x context x tensor"),
}
# Of the networks that take long to compile, one mesh with all axes is enough for every day.
SLOW = {"unet": 4, "factorized": 2, "vae": 2}
TRIALS = [
  pytest.param(case, mesh, marks=[pytest.mark.slow] * (i < SLOW.get(case, 0)))
  for case in CASES
  for i, mesh in enumerate(ON.get(case, PLAIN))
]


def output_and_gradients(net: Network[nnx.Module], apply, params, inputs):
  def loss(params):
    y = apply(net.bind(params), **inputs)
    return (y * y).mean(), y

  (_, y), gradients = jax.value_and_grad(loss, has_aux=True)(params)
  return y, gradients


@functools.cache
def without_a_mesh(case):
  """The case's parameters, what it computes of them, and the function that does."""
  net, apply, inputs = CASES[case]()
  params = jax.device_get(jax.jit(net.init)(jax.random.key(0)))
  params = {  # layers that start at zero would hide what is before them
    name: value + 0.02 * draw(len(name), *value.shape) for name, value in params.items()
  }
  step = jax.jit(lambda params, inputs: output_and_gradients(net, apply, params, inputs))
  return net, params, inputs, step, jax.device_get(step(params, inputs))


@pytest.mark.parametrize(("case", "mesh"), TRIALS)
def test_outputs_and_gradients_do_not_depend_on_the_mesh(case, mesh, monkeypatch):
  monkeypatch.setattr(plan, "SMALL", 256)  # else nothing of models this small is stored sharded
  net, params, inputs, step, (expected, expected_gradients) = without_a_mesh(case)
  config, devices = MESHES[mesh]
  mesh = make_mesh(config, jax.devices()[:devices])
  shardings = plan.param_shardings(net.roles, net.abstract, mesh)
  with jax.set_mesh(mesh):
    placed = jax.device_put(inputs, jax.NamedSharding(mesh, plan.batch_spec(mesh)))
    y, gradients = step(jax.device_put(params, shardings), placed)
  np.testing.assert_allclose(y, expected, rtol=0, atol=2e-5)
  for name, gradient in gradients.items():
    assert gradient.sharding.is_equivalent_to(shardings[name], gradient.ndim), name
    scale = max(1e-3, np.abs(expected_gradients[name]).max())
    np.testing.assert_allclose(
      gradient, expected_gradients[name], rtol=0, atol=2e-4 * scale, err_msg=name
    )
