"""Programs compiled for TPUs that are not here: FLOPs against a direct count, all else against a
second implementation of the same rules, where one is beside the checkout.
"""

import importlib.util
import re

import jax
from jax.sharding import Mesh, NamedSharding
import numpy as np
import pytest

from vidjax.planning import pricing, topology

pytestmark = [
  pytest.mark.slow,
  pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="compiling for TPUs needs libtpu"
  ),
]

LAYERS, WIDTH, ROWS = 3, 256, 4096


def abstract(mesh, shape, dtype, *spec):
  sharding = NamedSharding(mesh, jax.P(*spec))
  return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)


def compiled(function, arguments):
  """HLO text of a function and its gradients with respect to all arguments."""

  def both(*values):
    out, pull = jax.vjp(function, *values)
    return pull(out)

  return jax.jit(both).lower(*arguments).compile().as_text()


def convolution(mesh):
  def block(kernel, x_BHWC):
    out = jax.lax.conv_general_dilated(
      x_BHWC, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    groups = out.astype(jax.numpy.float32).reshape(8, 16, 16, 32, 4)
    mean = groups.mean((1, 2, 4), keepdims=True)
    variance = groups.var((1, 2, 4), keepdims=True)
    normal = (groups - mean) * jax.lax.rsqrt(variance + 1e-5)
    return jax.nn.silu(normal.reshape(out.shape).astype(out.dtype))

  kernel = abstract(mesh, (3, 3, 128, 128), "bfloat16")
  return compiled(block, (kernel, abstract(mesh, (8, 16, 16, 128), "bfloat16")))


def sharded(mesh):
  """Parameters stored in shares, gathered where they are used."""

  def mlp(up, down, x):
    whole = [
      jax.lax.with_sharding_constraint(w.astype("bfloat16"), NamedSharding(mesh, jax.P()))
      for w in (up, down)
    ]
    return jax.nn.gelu(x @ whole[0]) @ whole[1]

  up = abstract(mesh, (WIDTH, 4 * WIDTH), "float32", "d", None)
  down = abstract(mesh, (4 * WIDTH, WIDTH), "float32", "d", None)
  return compiled(mlp, (up, down, abstract(mesh, (16 * ROWS, WIDTH), "bfloat16", "d", None)))


def scanned(mesh):
  def stack(weights, x):
    return jax.lax.scan(lambda x, w: (jax.nn.silu(x @ w), None), x, weights)[0]

  weights = abstract(mesh, (LAYERS, WIDTH, WIDTH), "bfloat16")
  return compiled(stack, (weights, abstract(mesh, (ROWS, WIDTH), "bfloat16")))


PRODUCT = 2 * ROWS * WIDTH * WIDTH
PROGRAMS = {
  "convolution": ("v5e:1x1", convolution, 3 * 2 * 8 * 16 * 16 * 128 * 128 * 9),
  "sharded": ("v5e:4x4", sharded, 3 * 2 * 4 * PRODUCT),
  "scanned": ("v6e:1x1", scanned, 3 * LAYERS * PRODUCT),
}


@pytest.fixture(scope="module", params=PROGRAMS)
def program(request):
  """(topology, HLO text, FLOPs of one device)."""
  name, make, flops = PROGRAMS[request.param]
  slice_ = topology.parse(name)
  mesh = Mesh(np.array(topology.devices(slice_)), ("d",))
  return slice_, make(mesh), flops


def test_flops_are_those_of_the_mathematics(program):
  slice_, text, flops = program
  cost = pricing.price(text, slice_)
  assert cost.matrix_flops == pytest.approx(flops, rel=0.01)
  assert not cost.unpriced
  assert 0 < cost.low_seconds < cost.high_seconds
  assert cost.seconds == pytest.approx(sum(cost.by_kind.values()))


def test_agrees_with_the_other_implementation(program, repo_root):
  path = repo_root.parent / "shared" / "tools" / "tpu_cost.py"
  if not path.exists():
    pytest.skip("the second implementation is not beside this checkout")
  spec = importlib.util.spec_from_file_location("tpu_cost", path)
  assert spec is not None
  assert spec.loader is not None
  other = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(other)
  slice_, text, _ = program
  # It believes only trip counts that are written, and this compiler writes none.
  told = f'body=\\1, backend_config={{"known_trip_count":{{"n":"{LAYERS}"}}}}'
  text = re.sub(r"body=(%[\w.\-]+)", told, text)
  cost, theirs = pricing.price(text, slice_), other.analyse_text(text, slice_.name)
  assert cost.seconds == pytest.approx(theirs["est_seconds"], rel=0.1)
  assert cost.low_seconds == pytest.approx(theirs["lo_seconds"], rel=0.1)
  assert cost.high_seconds == pytest.approx(theirs["hi_seconds"], rel=0.1)
  assert cost.matrix_flops == pytest.approx(theirs["flops"], rel=0.1)
  assert cost.bytes_accessed == pytest.approx(theirs["bytes"], rel=0.1)
  ours = {kind: each.bytes for kind, each in cost.collectives.items()}
  assert ours == pytest.approx(theirs["collectives_bytes_by_kind"], rel=0.1)
