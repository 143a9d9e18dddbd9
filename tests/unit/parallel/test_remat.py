"""What is stored for the backward pass changes memory and computation, and no number."""

import collections
import dataclasses
import functools
import math

import jax
from jax import extend
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tpu_programs
from vidjax.models.levels import DownBlock
from vidjax.models.unet import PRESETS, UNet
from vidjax.nn.params import network
from vidjax.parallel import mesh as meshes
from vidjax.parallel import plan, remat

# A residual block and a transformer, both with their temporal parts: four attentions, one of them
# to the frames, one to the positions, two to the tokens of the context.
LEVEL = dataclasses.replace(
  PRESETS["tiny"],
  block_out_channels=(32,),
  num_attention_heads=(2,),
  attention=(True,),
  layers_per_block=(1,),
  transformer_layers_per_block=(1,),
  cross_attention_dims=(8,),
)
ATTENTIONS = 4
GATES = 3  # feed-forwards, each with two products in front of its gate
B = 2


def draw(seed, *shape):
  return jnp.asarray(np.random.default_rng(seed).standard_normal(shape, np.float32))


def weights(net):
  return {
    name: 0.1 * draw(len(name), *leaf.shape) + float(name.endswith("scale"))
    for name, leaf in net.abstract.items()
  }


@functools.cache
def level(policy, temporal="resblock"):
  """The loss of one level and what it takes."""
  config = dataclasses.replace(LEVEL, remat=(policy,), temporal=temporal)
  net = network(lambda rngs: DownBlock(config, 0, [32], downsample=False, rngs=rngs))

  def loss(params, x_BTHWC, emb_BE, context_BLX):
    y, _ = net.bind(params)(x_BTHWC, emb_BE, (context_BLX,), image_only=False)
    return (y * y).mean()

  inputs = draw(0, B, 3, 4, 4, 32), draw(1, B, 128), draw(2, B, 5, 8)
  return loss, weights(net), inputs


def assert_close(gradients, expected):
  largest = max(float(jnp.abs(value).max()) for value in jax.tree.leaves(expected))
  assert largest > 1e-3
  for one, other in zip(jax.tree.leaves(gradients), jax.tree.leaves(expected), strict=True):
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-6 * largest)


@functools.cache
def gradients_of_level(policy):
  loss, params, inputs = level(policy, temporal="none")  # half as long to compile
  return jax.jit(jax.grad(loss, argnums=(0, 1)))(params, *inputs)


@pytest.mark.slow
@pytest.mark.parametrize("policy", [name for name in remat.POLICIES if name != "none"])
def test_gradients_are_those_without(policy):
  assert_close(gradients_of_level(policy), gradients_of_level("none"))


def products(jaxpr):
  """How many matrix products and convolutions a program holds."""
  found = collections.Counter()
  for equation in jaxpr.eqns:
    found[equation.primitive.name] += 1
    for inner in extend.core.jaxprs_in_params(equation.params):
      found += products(inner)
  return found


def test_what_runs_twice_is_what_the_policy_leaves():
  def count(policy, names=("dot_general", "conv_general_dilated")):
    loss, params, inputs = level(policy)
    whole = products(jax.make_jaxpr(jax.grad(loss))(params, *inputs).jaxpr)
    return np.array([whole[name] for name in names])

  loss, params, inputs = level("none")
  forward = products(jax.make_jaxpr(loss)(params, *inputs).jaxpr)
  twice = {policy: tuple(count(policy) - count("none")) for policy in remat.POLICIES}
  # The softmax needs the queries' products with the keys again, and a gate those before it; the
  # last layers of both blocks are not needed again by anything.
  assert twice["none"] == (0, 0)
  assert twice["matmuls"] == (ATTENTIONS + 2 * GATES, 0)
  assert twice["attention"][0] == twice["block"][0] - ATTENTIONS
  assert twice["block"] == twice["offload"]
  assert twice["block"][1] == forward["conv_general_dilated"] == 2
  assert 0.8 * forward["dot_general"] < twice["block"][0] < forward["dot_general"]


def stored(policy):
  """Bytes that wait for the backward pass beside arguments: on the device, on the host."""
  loss, params, inputs = level(policy)
  flat, tree = jax.tree.flatten((params, *inputs))

  def backward(*flat):
    return jax.vjp(lambda *flat: loss(*jax.tree.unflatten(tree, flat)), *flat)[1]

  jaxpr = jax.make_jaxpr(backward)(*flat).jaxpr
  sizes = collections.Counter()
  for v in {v for v in jaxpr.outvars if isinstance(v, extend.core.Var)} - set(jaxpr.invars):
    sizes[v.aval.memory_space] += math.prod(v.aval.shape) * v.aval.dtype.itemsize
  return sizes[jax.memory.Space.Device], sizes[jax.memory.Space.Host]


def test_what_is_stored_is_what_the_policy_names():
  sizes = {policy: stored(policy) for policy in remat.POLICIES}
  x = B * 3 * 4 * 4 * 32 * 4  # bytes of the activations
  assert sizes["block"] == (2 * x, 0)  # between both blocks, and the result
  assert sizes["offload"] == (x, 2 * x)  # the input is on the host as well
  assert sizes["attention"] == ((2 + ATTENTIONS) * x, 0)
  assert 3 * sizes["attention"][0] < sizes["matmuls"][0] < sizes["none"][0] / 3


def test_offloading_keeps_the_layout_on_the_mesh():
  loss, params, inputs = level("offload", temporal="none")
  mesh = meshes.make_mesh(meshes.MeshConfig(replica=1), jax.devices()[:B])
  with jax.set_mesh(mesh):
    whole, rows = (jax.NamedSharding(mesh, s) for s in (jax.P(), plan.batch_spec(mesh)))
    placed = jax.device_put(params, whole), *jax.device_put(inputs, rows)
    gradients = jax.jit(jax.grad(loss, argnums=(0, 1)))(*placed)
  assert gradients[1].sharding.is_equivalent_to(rows, 5)
  assert gradients[1].sharding.memory_kind == "device"
  assert_close(jax.device_get(gradients), gradients_of_level("none"))


def test_each_level_has_its_policy_and_the_middle_the_last():
  config = dataclasses.replace(PRESETS["tiny"], remat=("offload", "matmuls"))
  net = network(lambda rngs: UNet(config, rngs))
  unet = net.bind(net.abstract)
  assert [block.remat for block in unet.down_blocks] == ["offload", "matmuls"]
  assert [block.remat for block in unet.up_blocks] == ["matmuls", "offload"]
  assert unet.mid_block.remat == "matmuls"


@pytest.mark.slow
@pytest.mark.parametrize("policy", [("offload", "attention"), ("matmuls", "block")])
def test_gradients_of_the_whole_model_are_those_without(policy):
  def gradients(remat):
    config = dataclasses.replace(PRESETS["tiny"], remat=remat)
    net = network(lambda rngs: UNet(config, rngs))
    inputs = (
      draw(0, B, 3, 4, 4, config.in_channels),
      draw(1, B),
      (draw(2, B, 5, 64),),
      draw(3, B, 3),
    )
    return jax.jit(jax.grad(lambda params: (net.bind(params)(*inputs) ** 2).mean()))(weights(net))

  assert_close(gradients(policy), gradients(("none",)))


@pytest.mark.parametrize(
  ("policies", "message"),
  [
    (("none", "atention"), r"model.remat='atention' \(level 1\).*did you mean 'attention'"),
    (("everything",), r"model.remat='everything' \(all levels\).*use one of none, matmuls"),
    (("none",) * 3, "one entry for each of the 2 levels"),
    ((), "one entry for each of the 2 levels"),
  ],
)
def test_a_wrong_policy_is_named(policies, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(PRESETS["tiny"], remat=policies)


@pytest.mark.slow
def test_a_tpu_program_holds_block_inputs_in_the_hosts_memory():
  """Residual blocks, compiled for TPU v5e: the peak on the device falls, the host's rises."""
  layers, width = 3, 128
  shape = (8, 1, 64, 64, width)

  def compiled(policy):
    config = dataclasses.replace(
      LEVEL,
      block_out_channels=(width,),
      attention=(False,),
      layers_per_block=(layers,),
      temporal="none",
      remat=(policy,),
    )
    net = network(lambda rngs: DownBlock(config, 0, [width] * layers, downsample=False, rngs=rngs))

    def loss(params, x_BTHWC, emb_BE):
      y, _ = net.bind(params)(x_BTHWC, emb_BE, (), image_only=False)
      return jnp.mean(jnp.square(y.astype(jnp.float32)))

    inputs = (jax.ShapeDtypeStruct(s, jnp.bfloat16) for s in (shape, (shape[0], 4 * width)))
    return tpu_programs.compiled(jax.grad(loss), net.abstract, *inputs)

  programs = {policy: compiled(policy) for policy in ("none", "offload")}
  memory = {policy: program.memory_analysis() for policy, program in programs.items()}
  peaks = {policy: of.peak_memory_in_bytes for policy, of in memory.items()}
  x = 2 * math.prod(shape)  # bytes of a block's input
  assert memory["none"].host_temp_size_in_bytes == 0
  assert memory["offload"].host_temp_size_in_bytes == layers * x
  assert "S(5)" in programs["offload"].as_text()  # the memory space of pinned host memory
  assert peaks["offload"] <= peaks["none"] - 2 * x
