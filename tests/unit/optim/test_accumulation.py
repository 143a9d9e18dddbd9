"""A batch in parts gives what it gives at once."""

import dataclasses

import jax
import numpy as np
import pytest
from two_layers import CONFIG, TASK, batch, config, run

from vidjax import divisibility
from vidjax.data.config import DataConfig, ImagesConfig
from vidjax.optim import accumulation
from vidjax.parallel import mesh as meshes
from vidjax.parallel import plan

ROWS = 32


def in_parts(parts: int, devices: int, images: int = 0, steps: int = 20):
  """A run on batches of 32 rows, of which some are pictures."""
  of = dataclasses.replace(
    config(name="sgd", learning_rate=1e-2),  # adamw tells signs of what is nearly zero
    batch_size=ROWS,
    accumulation_steps=parts,
    data=DataConfig(path="none", images=ImagesConfig(rows=images)),
  )
  batches = []
  for step in range(steps):
    whole = batch(step, ROWS)
    if images:
      pictures = {name: value[-images:] * (1, 2)[name == "x_BC"] for name, value in whole.items()}
      whole = {name: value[:-images] for name, value in whole.items()} | {"images": pictures}
    batches.append(whole)
  return run(of, batches, devices)


@pytest.mark.parametrize("images", [0, 16])
@pytest.mark.parametrize(("parts", "devices"), [(2, 1), (4, 1), (2, 8)])
def test_parts_are_the_whole(parts, devices, images):
  whole, split = in_parts(1, 1, images), in_parts(parts, devices, images)
  for name in whole.weights:
    scale = np.abs(whole.weights[name]).max()
    np.testing.assert_allclose(whole.weights[name], split.weights[name], atol=1e-5 * scale)
  for a, b in zip(whole.history, split.history, strict=True):
    assert a.keys() == b.keys()
    assert ("loss_images" in a) == bool(images)
    for name in a:
      np.testing.assert_allclose(a[name], b[name], rtol=1e-5, err_msg=name)
    assert np.isfinite(a["loss_per_bin"][0])
    assert np.isnan(a["loss_per_bin"][1])  # no row is in it


def test_no_row_leaves_its_device():
  mesh = meshes.make_mesh(meshes.MeshConfig(), jax.devices())
  x_B2 = np.arange(64).reshape(32, 2)
  with jax.set_mesh(mesh):
    rows = jax.NamedSharding(mesh, plan.batch_spec(mesh))
    split = jax.jit(lambda x: accumulation.split(x, 4))
    placed = jax.device_put(x_B2, rows)
    text = split.lower(placed).compile().as_text()
    parts_SB2 = np.asarray(split(placed))
  for collective in ("all-to-all", "all-gather", "collective-permute", "all-reduce"):
    assert collective not in text
  for part in range(4):
    np.testing.assert_array_equal(parts_SB2[part], x_B2[part::4])


def test_one_part_is_no_loop():
  def text(parts: int) -> str:
    one = jax.eval_shape(lambda: jax.tree.map(jax.numpy.asarray, batch(0)))
    live = TASK.network.abstract

    def gradient(live, batch):
      def loss_fn(params, batch):
        keys_B = jax.random.split(jax.random.key(0), len(batch["x_BC"]))
        return TASK.loss(params, {}, batch, keys_B)

      return accumulation.value_and_grad(loss_fn, live, batch, parts, dict)

    return str(jax.make_jaxpr(gradient)(live, one))

  assert "scan" not in text(1)
  assert "scan" in text(2)
  assert len(text(4)) < 1.05 * len(text(2))


@pytest.mark.parametrize(
  ("rows", "images", "parts", "message"),
  [
    (12, 0, 1, r"batch_size=12 .* mesh.replica x mesh.fsdp = 8: use a multiple of 8"),
    (24, 0, 2, r"batch_size=24 .* x accumulation_steps = 16: use a multiple of 16"),
    (32, 8, 2, r"data.images.rows=8 .* = 16"),
  ],
)
def test_rows_that_do_not_divide_are_named(rows, images, parts, message):
  of = dataclasses.replace(
    CONFIG,
    batch_size=rows,
    accumulation_steps=parts,
    data=DataConfig(path="none", images=ImagesConfig(rows=images)),
  )
  with pytest.raises(ValueError, match=message):
    divisibility.check(of, {"replica": 1, "fsdp": 8, "context": 1, "tensor": 1})
