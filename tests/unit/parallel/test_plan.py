"""What goes between devices: which collectives a layer has, of what, in which dtype.

B batch, T frames, S positions, C channels.
"""

import functools
import re

from flax import nnx
import jax
import jax.numpy as jnp
import pytest

from vidjax.nn.attention import Attention
from vidjax.nn.conv import Conv, TemporalConv
from vidjax.nn.dense import FeedForward
from vidjax.nn.init import Keys
from vidjax.nn.mix import then_over_time
from vidjax.nn.params import network
from vidjax.parallel import plan
from vidjax.parallel.mesh import MeshConfig, make_mesh

B, T, S, C = 4, 4, 6, 64
KINDS = "all-gather|all-reduce|all-to-all|reduce-scatter|collective-permute"


def collectives(build, run, config, devices, monkeypatch, *, backward=False, dtype=jnp.float32):
  """Kinds of the collectives of `run(layer, x_BTSC)` in the compiled program, and what went in."""
  monkeypatch.setattr(plan, "SMALL", 256)  # else nothing of layers this small is stored sharded
  net = network(build)
  mesh = make_mesh(config, jax.devices()[:devices])
  shardings = plan.param_shardings(net.roles, net.abstract, mesh)
  params = {
    name: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=shardings[name])
    for name, a in net.abstract.items()
  }
  rows = plan.batch_spec(mesh)[0] if plan.batch_divisor(mesh) > 1 else None
  frames = "context" if config.context > 1 else None
  layout = jax.NamedSharding(mesh, jax.P(rows, frames, None, None))
  x_BTSC = jax.ShapeDtypeStruct((B, T, S, C), dtype, sharding=layout)

  def forward(params, x_BTSC):
    return run(net.bind(params), x_BTSC)

  def gradients(params, x_BTSC):
    _, pull = jax.vjp(forward, params, x_BTSC)
    return pull(x_BTSC)

  with jax.set_mesh(mesh):
    lowered = jax.jit(gradients if backward else forward).lower(params, x_BTSC)
  found = re.findall(rf" ({KINDS})(?:-start)?\(", lowered.compile().as_text())
  return sorted(found), lowered.as_text()


def over_frames(layer: nnx.Module, x_BTSC: jax.Array) -> jax.Array:
  return layer(x_BTSC[..., None, :])[..., 0, :]


def over_time(layer: nnx.Module, x_BTSC: jax.Array) -> jax.Array:
  return then_over_time(functools.partial(over_frames, layer), x_BTSC, image_only=False)


def spatial(rngs: Keys) -> Conv:
  return Conv(C, C, bias=False, rngs=rngs)


def temporal(rngs: Keys) -> TemporalConv:
  return TemporalConv(C, C, rngs=rngs)


def test_temporal_layers_cost_two_exchanges(monkeypatch):
  found, _ = collectives(temporal, over_time, MeshConfig(context=2), 2, monkeypatch)
  assert found == ["all-to-all", "all-to-all"]


def test_clips_are_gathered_where_positions_do_not_divide(monkeypatch):
  found, _ = collectives(temporal, over_time, MeshConfig(context=4), 4, monkeypatch)
  assert found == ["all-gather"]


def test_spatial_layers_exchange_nothing_over_context(monkeypatch):
  found, _ = collectives(spatial, over_frames, MeshConfig(context=2), 2, monkeypatch)
  assert found == []


def test_a_temporal_layer_refuses_a_share_of_the_frames(monkeypatch):
  with pytest.raises(AssertionError, match="clips must be whole"):
    collectives(temporal, over_frames, MeshConfig(context=2), 2, monkeypatch)


def test_kernels_are_gathered_and_gradients_scattered_over_fsdp(monkeypatch):
  found, text = collectives(
    spatial, over_frames, MeshConfig(context=2), 8, monkeypatch, backward=True, dtype=jnp.bfloat16
  )
  assert found == ["all-gather", "all-reduce", "reduce-scatter"]
  # What is summed over `context` is the share that a device keeps.
  moved = r'"stablehlo\.(all_gather|reduce_scatter|all_reduce)".*?\) -> tensor<(\S+)>'
  assert sorted(re.findall(moved, text, re.DOTALL)) == [
    ("all_gather", "3x3x64x64xbf16"),
    ("all_reduce", "3x3x64x16xbf16"),
    ("reduce_scatter", "3x3x64x16xbf16"),
  ]


def feed_forward(rngs: Keys) -> FeedForward:
  return FeedForward(C, rngs=rngs)


def four_heads(rngs: Keys) -> Attention:
  return Attention(C, 4, split_heads=True, rngs=rngs)


def one_head(rngs: Keys) -> Attention:
  return Attention(C, 1, split_heads=True, rngs=rngs)


@pytest.mark.parametrize(
  ("build", "expected"),
  [
    # One sum over `tensor` after the second matrix; an exchange puts halves of a gate side by side.
    (feed_forward, ["all-reduce", "all-to-all"]),
    (four_heads, ["all-reduce"]),
    # A head is never cut: kernels are gathered, and every device computes the layer.
    (one_head, ["all-gather"] * 4),
  ],
)
def test_channels_are_summed_once(build, expected, monkeypatch):
  mesh = MeshConfig(fsdp=1, tensor=2)
  found, _ = collectives(build, lambda layer, x: layer(x), mesh, 2, monkeypatch)
  assert found == expected
