"""Norms of blocks, and clipping by their total."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from two_layers import batch, config, run

from vidjax.optim import norms, packing

SHAPES = {
  "conv_in.kernel": (3, 3, 4, 8),
  "conv_in.bias": (8,),
  "down_blocks.0.resnets.0.conv.kernel": (3, 3, 96, 96),  # by itself
  "down_blocks.0.resnets.0.conv.bias": (96,),
  "down_blocks.1.attention.kernel": (32, 16),
  "down_blocks.10.attention.kernel": (16, 16),
  "mid_block.attentions.0.kernel": (256, 256),  # by itself
  "mid_block.resnets.1.scale": (),
}
BLOCKS = ("conv_in", "down_blocks.0", "down_blocks.1", "down_blocks.10", "mid_block")


def draw():
  rng = np.random.default_rng(0)
  return {name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}


def test_norm_of_each_block():
  params = draw()
  found = norms.per_block(packing.pack(jax.device_put(params)), params)
  assert tuple(found) == ("", *BLOCKS)
  for name, value in found.items():
    parts = [p for key, p in params.items() if norms.block(key).startswith(name)]
    if name == "down_blocks.1":
      parts = [params["down_blocks.1.attention.kernel"]]
    exact = np.sqrt(sum(np.sum(np.square(p.astype(np.float64))) for p in parts))
    np.testing.assert_allclose(value, exact, rtol=1e-5)
  named = norms.metrics("grad_norm", found)
  assert list(named) == ["grad_norm", *(f"grad_norm/{name}" for name in BLOCKS)]


def test_every_tensor_is_read_once():
  params = jax.device_put(draw())
  text = str(jax.make_jaxpr(lambda p: norms.per_block(p, params))(packing.pack(params)))
  assert text.count("reduce_sum") == 2 + 3 + 3  # large ones, matrices by block, vectors by block


def test_totals_of_a_step_are_those_of_its_blocks():
  done = run(config(), [batch(0)])
  for name in ("grad_norm", "param_norm", "update_norm"):
    blocks = [value for key, value in done.history[0].items() if key.startswith(f"{name}/")]
    assert len(blocks) == 3
    np.testing.assert_allclose(done.history[0][name], np.linalg.norm(blocks), rtol=1e-6)
  weights = [done.weights[name].ravel() for name in "abc"]
  expected = np.linalg.norm(np.concatenate(weights))
  np.testing.assert_allclose(done.history[0]["param_norm"], expected, rtol=1e-5)
  moved = {f"update_norm/{n}": np.linalg.norm(done.weights[n] - done.first[n]) for n in "abc"}
  for name, value in moved.items():
    np.testing.assert_allclose(done.history[0][name], value, rtol=1e-2)


@pytest.mark.parametrize("limit", [0.5, 1e3])
def test_clipping_is_by_the_global_norm(limit):
  grads = packing.pack(jax.device_put(draw()))
  norm = norms.per_block(grads, draw())[""]
  clipped = norms.clip(grads, norm, limit)
  expected, _ = optax.clip_by_global_norm(limit).update(grads, optax.EmptyState())
  for name in grads:
    np.testing.assert_allclose(clipped[name], expected[name], rtol=1e-5)
  if limit < 1.0:
    np.testing.assert_allclose(norms.per_block(clipped, draw())[""], limit, rtol=1e-5)


def test_zero_is_no_clipping():
  grads = {"w": jnp.full(4, 1e6)}
  assert norms.clip(grads, jnp.float32(2e6), 0.0) is grads
  sgd = {"name": "sgd", "learning_rate": 1e-4, "weight_decay": 0.0}
  free, clipped = (run(config(clip_norm=c, **sgd), [batch(0)]).history[0] for c in (0.0, 1.0))
  np.testing.assert_allclose(free["update_norm"], 1e-4 * free["grad_norm"], rtol=1e-4)
  np.testing.assert_allclose(clipped["update_norm"], 1e-4, rtol=1e-4)
  assert free["grad_norm"] == clipped["grad_norm"] > 1.0
