"""Kernels against their references, on meshes, and through the compilers of three TPUs."""

import functools
import math
import re

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidjax import compiling, flops
from vidjax.nn.attention import Attention, over_time
from vidjax.nn.init import Keys
from vidjax.nn.kernels import flash_attention, temporal_attention, work
from vidjax.parallel import plan, remat
from vidjax.parallel.mesh import MeshConfig, make_mesh
from vidjax.planning import pricing, topology

CHIPS = ("v5e:1x1", "v5p:1x1x1", "v6e:1x1")


def draw(seed, *shape, dtype="float32"):
  values = np.random.default_rng(seed).standard_normal(shape, np.float32)
  return jnp.asarray(values, jnp.dtype(dtype))


def values_and_gradients(attend, arrays):
  *inputs, dy = arrays
  y, vjp = jax.vjp(attend, *inputs)
  return [y, *vjp(dy)]


def assert_alike(found, expected, tolerance):
  for name, a, b in zip(("y", "dq", "dk", "dv"), found, expected, strict=True):
    assert a.dtype == b.dtype
    a, b = np.float32(a), np.float32(b)
    np.testing.assert_allclose(a, b, atol=tolerance * np.abs(b).max(), err_msg=name)


# A tile and a half, three tiles in one pass, three in three passes whose sums are added.
@pytest.mark.parametrize(("length", "most_keys"), [(200, 256), (384, 384), (300, 128)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_flash_attention(monkeypatch, length, most_keys, dtype):
  monkeypatch.setattr(flash_attention, "_TILES", (128,))
  monkeypatch.setattr(flash_attention, "_MOST_KEYS", most_keys)
  arrays = [draw(seed, 2, length, 3, 64, dtype=dtype) for seed in range(4)]
  arrays[0] *= 64**-0.5
  kernel = functools.partial(flash_attention.attend_on_tpu, interpret=True)
  found = values_and_gradients(kernel, arrays)
  expected = values_and_gradients(flash_attention.attend, arrays)
  assert_alike(found, expected, 1e-5 if dtype == "float32" else 0.02)


@pytest.mark.parametrize("length", [576, 720, 1536, 2304, 2880, 4096, 9216])
def test_tiles_of_flash_attention_waste_little(monkeypatch, length):
  """Positions of SVD's levels: padding costs less than a quarter of the products."""
  sizes = []
  monkeypatch.setattr(flash_attention, "_splash", lambda size, *_, **__: sizes.append(size) or _sum)
  q = jax.ShapeDtypeStruct((1, length, 1, 64), jnp.bfloat16)
  y = jax.eval_shape(flash_attention.attend_on_tpu, q, q, q)
  assert y.shape == q.shape
  assert length <= sizes[0] < 1.12 * length


def _sum(q, k, v):
  return q[..., :64] + k[..., :64] + v


# Heads that share lanes, with lanes and positions to spare; whole blocks; several blocks.
@pytest.mark.parametrize(
  ("frames", "positions", "channels", "width"),
  [(5, 37, 320, 64), (14, 48, 128, 64), (3, 200, 64, 32)],
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_temporal_attention(frames, positions, channels, width, dtype):
  arrays = [draw(seed, 2, frames, positions, channels, dtype=dtype) for seed in range(4)]
  kernel = functools.partial(temporal_attention.attend_on_tpu, width=width, interpret=True)
  reference = functools.partial(temporal_attention.attend, width=width)
  found = values_and_gradients(kernel, arrays)
  expected = values_and_gradients(reference, arrays)
  assert_alike(found, expected, 1e-5 if dtype == "float32" else 0.02)


@pytest.fixture
def interpreted(monkeypatch):
  """Layers take what is there for TPUs, and it runs here."""
  monkeypatch.setattr(plan, "_device_platform", lambda: "tpu")
  monkeypatch.setattr(flash_attention, "SHORTEST", 64)
  monkeypatch.setattr(flash_attention, "_TILES", (128,))
  for module in (flash_attention, temporal_attention):
    kernel = functools.partial(module.attend_on_tpu, interpret=True)
    monkeypatch.setattr(module, "attend_on_tpu", kernel)


MESH = MeshConfig(replica=1, fsdp=2, context=2, tensor=2)
BATCH = ("replica", "fsdp")


def attention_and_gradients(attend, mesh, spec):
  """A loss of a layer with two heads and its gradients, on a mesh or without one; its program."""
  graph, state = nnx.split(Attention(128, 2, split_heads=True, rngs=Keys(jax.random.key(0))))
  x = draw(0, 4, 2, 100, 128)

  def loss(state, x):
    if mesh is not None:
      x = jax.reshard(plan.shard_batch(x), spec)
    return (attend(nnx.merge(graph, state), x) ** 2).mean()

  both = jax.jit(jax.value_and_grad(loss, (0, 1)))
  if mesh is None:
    return jax.device_get(both(state, x)), str(both.trace(state, x).jaxpr)
  with jax.set_mesh(make_mesh(mesh, jax.devices()[:8])):
    return jax.device_get(both(state, x)), str(both.trace(state, x).jaxpr)


@pytest.mark.parametrize(
  ("attend", "spec", "kernel"),
  [
    (lambda module, x: module(x), jax.P(BATCH, "context", None, None), "splash_mha"),
    (over_time, jax.P(BATCH, None, "context", None), "temporal_attention"),
  ],
)
def test_kernels_on_a_mesh(interpreted, monkeypatch, attend, spec, kernel):
  """Clips, frames or positions, and heads are divided: each device runs the kernel on its own."""
  found, program = attention_and_gradients(attend, MESH, spec)
  assert kernel in program
  monkeypatch.undo()
  expected, program = attention_and_gradients(attend, None, spec)
  assert kernel not in program
  for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5 * max(1e-3, np.abs(b).max()))


@pytest.fixture
def cudnn(monkeypatch):
  """Layers take what is there for GPUs; JAX asks cuDNN for its version, which is not here."""
  monkeypatch.setattr(plan, "platform", lambda: "gpu")
  monkeypatch.setattr("jax._src.cudnn.fused_attention_stablehlo.check_cudnn_version", lambda: 91200)


def for_gpus(module, x, mesh, spec):
  """The layer and its gradients, lowered for GPUs: the shapes that cuDNN's calls get."""
  graph, state = nnx.split(module)

  def loss(state, x):
    x = jax.reshard(plan.shard_batch(x), spec)
    return (nnx.merge(graph, state)(x).astype(jnp.float32) ** 2).mean()

  both = jax.jit(jax.value_and_grad(loss, (0, 1)))
  with jax.set_mesh(make_mesh(mesh, jax.devices()[: 1 if mesh == MeshConfig() else 8])):
    program = both.trace(state, x).lower(lowering_platforms=("cuda",)).as_text()
  calls = r"(__cudnn\$fmha\w+)\(.*?: \(tensor<(\S+?)xbf16>"
  return dict(re.findall(calls, program))


@pytest.mark.parametrize(
  ("mesh", "spec", "shape"),
  [
    (MeshConfig(), jax.P(), "8x512x2x64"),
    (MESH, jax.P(BATCH, "context", None, None), "2x512x1x64"),
  ],
)
def test_attention_on_gpus_is_cudnn_s(cudnn, mesh, spec, shape):
  """Clips, frames and heads are divided: each device calls cuDNN for its own."""
  module = Attention(128, 2, split_heads=True, rngs=Keys(jax.random.key(0)))
  x = draw(0, 4, 2, 512, 128, dtype="bfloat16")
  found = for_gpus(module, x, mesh, spec)
  assert found == {"__cudnn$fmhaSoftmax": shape, "__cudnn$fmhaSoftmaxBackward": shape}


@pytest.mark.parametrize(
  ("positions", "dtype", "causal"),
  [(512, "float32", False), (500, "bfloat16", False), (512, "bfloat16", True)],
)
def test_attention_on_gpus_that_is_not_cudnn_s(cudnn, positions, dtype, causal):
  module = Attention(128, 2, causal=causal, rngs=Keys(jax.random.key(0)))
  x = draw(0, 1, positions, 128, dtype=dtype)
  assert not for_gpus(module, x, MeshConfig(), jax.P())


def test_attention_on_gpus_computes_the_same(cudnn, monkeypatch):
  """What is handed to cuDNN: scaled queries, (clips and frames, positions, heads, width)."""
  asked = []

  def attend(q, k, v, *, scale, implementation):
    asked.append((q.shape, scale, implementation))
    return flash_attention.attend(q * scale, k, v)

  monkeypatch.setattr(jax.nn, "dot_product_attention", attend)
  module = Attention(128, 2, rngs=Keys(jax.random.key(0)))
  x = draw(0, 2, 3, 512, 128, dtype="bfloat16")
  found = np.float32(module(x))
  assert asked == [((6, 512, 2, 64), 1.0, "cudnn")]
  monkeypatch.undo()
  expected = np.float32(module(x))
  np.testing.assert_allclose(found, expected, atol=0.02 * np.abs(expected).max())


def compiled_for(chip, function, *shapes):
  """`function` for one chip: what XLA says of memory, and the program."""
  pytest.importorskip("libtpu")
  mesh = jax.sharding.Mesh(topology.devices(topology.parse(chip))[:1], ("chip",))
  sharding = jax.NamedSharding(mesh, jax.P())
  likes = [jax.ShapeDtypeStruct(shape, jnp.bfloat16, sharding=sharding) for shape in shapes]
  with jax.set_mesh(mesh), compiling.without_cache():
    compiled = jax.jit(function).lower(*likes).compile()
  return compiled.memory_analysis(), compiled.as_text()


def both_ways(attend):
  return lambda *arrays: values_and_gradients(attend, arrays)


@pytest.mark.parametrize(
  ("chip", "positions"),  # of SVD's finest level, at both sizes
  [(CHIPS[0], 9216), *(pytest.param(chip, 2880, marks=pytest.mark.slow) for chip in CHIPS)],
)
def test_flash_attention_for_tpus(chip, positions):
  """All of it is compiled, and nothing in HBM has positions x positions numbers."""
  shape = (2, positions, 5, 64)
  attend = both_ways(flash_attention.attend_on_tpu)
  memory, program = compiled_for(chip, attend, *[shape] * 4)
  assert {"fwd", "dkv"} == set(re.findall(r"splash_mha_(\w+?)_", program))
  arrays = re.findall(r"(?:bf16|f32|pred)\[([\d,]+)\]", program)
  assert max(math.prod(map(int, dims.split(","))) for dims in arrays) < positions**2
  assert memory.peak_memory_in_bytes < 40 * 2 * math.prod(shape)


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize(
  "shape", [(1, 14, 2880, 320), (1, 25, 2304, 640), (1, 16, 45, 1280)], ids=str
)
def test_temporal_attention_for_tpus(chip, shape):
  attend = functools.partial(temporal_attention.attend_on_tpu, width=64)
  _, program = compiled_for(chip, both_ways(attend), *[shape] * 4)
  cost = pricing.price(program, topology.parse(chip))
  assert not cost.unpriced
  reference = sum(
    work.temporal_attention(shape, 64, backward=backward)[0] for backward in (False, True)
  )
  assert cost.matrix_flops == reference


@pytest.mark.parametrize(("policy", "runs"), [("attention", 1), ("block", 2)])
def test_results_of_kernels_are_stored(policy, runs):
  """Where a policy stores what attention made, the kernel does not run a second time."""
  graph, state = nnx.split(Attention(64, 1, rngs=Keys(jax.random.key(0))))

  def loss(x):
    module = nnx.merge(graph, state)
    y = remat.run(policy, lambda x: jnp.sin(module(jnp.sin(x))), x)
    return remat.run(policy, lambda x: jnp.sin(over_time(module, jnp.sin(x))), y).sum()

  _, program = compiled_for(CHIPS[0], jax.value_and_grad(loss), (1, 2, 512, 64))
  calls = [line for line in program.splitlines() if "tpu_custom_call" in line]
  for kernel in ("splash_mha_fwd", "temporal_attention_forward"):
    assert sum(kernel in line for line in calls) == runs


def test_flops_are_those_of_the_references(interpreted):
  """What a model computes does not depend on where it runs: kernels pad, and hide products."""
  graph, state = nnx.split(Attention(64, 1, rngs=Keys(jax.random.key(0))))

  def loss(state, x):
    return over_time(nnx.merge(graph, state), nnx.merge(graph, state)(x)).sum()

  x = draw(0, 1, 2, 100, 64)
  assert "pallas_call" in str(jax.make_jaxpr(loss)(state, x))
  projections = 2 * 4 * 2 * (2 * 100) * 64 * 64
  products = 2 * 2 * 64 * (2 * 100 * 100 + 100 * 2 * 2)
  assert flops.step_flops(loss, state, x).forward == projections + products
