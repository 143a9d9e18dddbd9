"""Counted FLOPs are those by hand, and those that compiled programs hold."""

import jax
import jax.numpy as jnp
import pytest

from benchmarks import flops as flops_of_stages
from tests.models import describe
from vidjax.flops import rates, step_flops
from vidjax.models.unet import PRESETS
from vidjax.nn.attention import Attention
from vidjax.nn.conv import Conv
from vidjax.nn.params import network
from vidjax.parallel import mesh as meshes
from vidjax.parallel import plan

N, H, W, C, D = 2, 6, 8, 3, 5


def of(*shape, dtype=jnp.float32):
  return jax.ShapeDtypeStruct(shape, dtype)


def test_convolutions_by_hand():
  first = network(lambda rngs: Conv(C, D, rngs=rngs))
  second = network(lambda rngs: Conv(D, C, stride=2, rngs=rngs))

  def loss(trained, x):
    return second.bind(trained["second"])(first.bind(trained["first"])(x)).sum()

  ours = {"first": first.abstract, "second": second.abstract}
  flops = step_flops(loss, ours, of(1, N, H, W, C))
  one, other = 2 * N * H * W * 9 * C * D, 2 * N * (H // 2) * (W // 2) * 9 * C * D
  assert flops.forward == one + other
  assert flops.backward == one + 2 * other  # nobody asks for the gradient of x
  assert flops.total == 2 * one + 3 * other
  assert flops.kinds == {"convolution": (flops.forward, flops.backward)}

  fixed = jax.eval_shape(lambda: {"second": ours["second"]})
  frozen = step_flops(
    lambda trained, fixed, x: loss({**trained, **fixed}, x), {"first": ours["first"]}, fixed,
    of(1, N, H, W, C),
  )  # fmt: skip
  assert frozen.backward == one + other


def test_attention_by_cudnn(monkeypatch):
  """What cuDNN computes on GPUs counts as the products that it takes the place of."""
  net = network(lambda rngs: Attention(64, 2, rngs=rngs))

  def kinds():
    def loss(params, x):  # another one each time: JAX keeps what it has traced
      return net.bind(params)(x).astype(jnp.float32).sum()

    return step_flops(loss, net.abstract, of(N, 512, 64, dtype=jnp.bfloat16)).kinds

  products = kinds()
  monkeypatch.setattr(plan, "platform", lambda: "gpu")
  monkeypatch.setattr("jax._src.cudnn.fused_attention_stablehlo.check_cudnn_version", lambda: 91200)
  assert kinds() == {"kernel": products["batched matmul"], "matmul": products["matmul"]}


def test_attention_by_hand():
  length, keys, heads, width, context = 7, 4, 2, 8, 6
  net = network(lambda rngs: Attention(width, heads, context_channels=context, rngs=rngs))
  flops = step_flops(
    lambda params, x, tokens: net.bind(params)(x, tokens).sum(),
    net.abstract, of(N, length, width), of(N, keys, context),
  )  # fmt: skip
  ends = 2 * N * length * width * width  # queries, and as much again for the output
  inputs = 2 * (2 * N * keys * context * width)  # keys and values
  scores = 2 * N * length * keys * width  # all heads; as much again for the values
  assert flops.kinds == {
    "matmul": (2 * ends + inputs, ends + 2 * ends + inputs),
    "batched matmul": (2 * scores, 4 * scores),
  }


ONE = 2 * 4 * 4 * 4  # the product of two 4 x 4 matrices


@jax.custom_vjp
def _squared(w):
  return w @ w


_squared.defvjp(lambda w: (w @ w, w), lambda w, g: (2 * (g @ w.T),))


@pytest.mark.parametrize(
  ("loss", "forward", "backward"),
  [
    (lambda w, x: x @ w, 1, 1),
    (lambda w, x: (x @ x) @ w, 2, 1),
    (lambda w, x: (x @ w) @ w, 2, 3),
    (lambda w, x: jax.lax.stop_gradient(x @ w) @ w, 2, 2),
    (lambda w, x: jnp.round(w) @ x, 1, 0),
    (lambda w, x: jax.jit(jnp.matmul)(x, w), 1, 1),
    (lambda w, x: jax.checkpoint(lambda x: (x @ w) @ w)(x), 2, 3),
    (lambda w, x: _squared(w), 1, 2),
    # In the first round the carry does not depend on w yet; in the others it does.
    (lambda w, x: jax.lax.scan(lambda c, _: (c @ w, None), x, length=5)[0], 5, 10),
    (lambda w, x: jax.lax.fori_loop(0, 3, lambda _, c: c @ x, w), 3, 3),
    (lambda w, x: jax.lax.cond(x.sum() > 0, lambda: x @ w @ w, lambda: x @ x), 2, 3),
    (lambda w, x: jax.vmap(lambda row: row @ w)(x), 1, 1),
  ],
)
def test_programs_inside_programs(loss, forward, backward):
  flops = step_flops(lambda w, x: loss(w, x).sum(), of(4, 4), of(4, 4))
  assert (flops.forward, flops.backward) == (forward * ONE, backward * ONE)


def test_a_loop_of_unknown_length_is_refused():
  def loss(w):
    return jax.lax.while_loop(lambda c: c.sum() < 0, lambda c: c @ c, w).sum()

  with pytest.raises(ValueError, match="'while', whose rounds only data tell"):
    step_flops(loss, of(4, 4))


def test_a_mesh_changes_nothing():
  mesh = meshes.make_mesh(meshes.MeshConfig(replica=2), jax.devices()[:4])
  rows = jax.P(("replica", "fsdp"))

  def loss(w, x, product):
    return product(jax.reshard(x, jax.P(*rows, None)), w).sum()

  def in_parts(x, w):
    return jax.shard_map(jnp.matmul, in_specs=(jax.P(*rows, None), jax.P()), out_specs=rows)(x, w)

  with jax.set_mesh(mesh):
    whole, parts = (
      step_flops(lambda w, x, p=product: loss(w, x, p), of(4, 4), of(8, 4))
      for product in (jnp.matmul, in_parts)
    )
  assert whole == parts
  assert whole.forward == 2 * ONE


def test_rates_are_those_of_one_device():
  assert rates(8 * 10**12, 2.0, 4, 5e12) == {"tflops_per_device": 1.0, "mfu": 0.2}
  assert rates(8 * 10**12, 2.0, 4, None) == {"tflops_per_device": 1.0, "mfu": None}


@pytest.mark.parametrize(
  ("size", "teraflops"), [((14, 40, 72), 12.10), ((16, 40, 72), 13.83), ((14, 72, 128), 44.69)]
)
def test_svd_has_the_flops_that_are_known_of_it(size, teraflops):
  """The forward pass of a clip, as counted of another implementation of the same layers."""
  net = describe(PRESETS["svd"])
  tokens = of(1, 2, 1024)  # a single one needs no attention

  def loss(params, x, c_noise, tokens, vector):
    return net.bind(params)(x, c_noise, (tokens,), vector).sum()

  flops = step_flops(loss, net.abstract, of(1, *size, 8), of(1), tokens, of(1, 3))
  assert flops.forward / 1e12 == pytest.approx(teraflops, rel=1e-3)
  assert flops.backward / flops.forward == pytest.approx(2, rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("trained", flops_of_stages.TRAINED)
@pytest.mark.parametrize("stage", ["video_lowres", "image_to_video:highres"])
def test_a_training_step_has_the_flops_of_its_compiled_program(stage, trained):
  """Encoders, condition, UNet and gradient of SVD's stages in CPU size."""
  model, program = flops_of_stages.count(stage, trained)
  assert model == pytest.approx(program, rel=0.03)
