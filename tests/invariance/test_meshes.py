"""Training is the same on every mesh: the losses of twenty steps of the tiny SVD model."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from vidjax import config as configs
from vidjax import denoising, divisibility
from vidjax import state as states
from vidjax import step as steps
from vidjax.optim import optimizer as optimizers
from vidjax.parallel import mesh as meshes
from vidjax.parallel import plan
from vidjax.parallel.mesh import MeshConfig

STEPS, ROWS, FRAMES = 20, 8, 4
MESHES = {
  "fsdp 8": MeshConfig(),
  "replica 2, fsdp 4": MeshConfig(replica=2),
  "fsdp 4, context 2": MeshConfig(context=2),
  "fsdp 4, tensor 2": MeshConfig(tensor=2),
  "replica 2, fsdp 2, context 2": MeshConfig(replica=2, context=2),
  "fsdp 2, context 2, tensor 2": MeshConfig(context=2, tensor=2),
  "context 4, tensor 2": MeshConfig(context=4, tensor=2),
}


def configured() -> configs.TrainConfig:
  """Video from text, of latents 2 x 3: context=4 divides the positions of no level, 2 of both.

  Latents are cached and the coarser level has no transformer: eight programs are compiled here. The
  autoencoder is on meshes in `tests/unit/nn/test_sharding.py`.
  """
  overrides = ["encoders.vae=random:tiny", "data.path=none", "model.dtype=float32"]
  config = configs.load("configs/svd/video_lowres.py:tiny", overrides)
  data = dataclasses.replace(config.data, kind="latents", num_frames=FRAMES, height=16, width=24)
  optimizer = dataclasses.replace(config.optimizer, learning_rate=1e-3, warmup_samples=0)
  model = dataclasses.replace(config.model, overrides={"attention": (False, False)})
  return dataclasses.replace(config, batch_size=ROWS, data=data, optimizer=optimizer, model=model)


def batch(step: int) -> dict[str, np.ndarray]:
  rng = np.random.default_rng(step)
  mean = 5 * rng.standard_normal((ROWS, FRAMES, 2, 3, 8), np.float32)
  return {
    "latents_BTHWC": np.concatenate([mean, np.full_like(mean, -10)], axis=-1),
    "tokens_BL": rng.integers(0, 250, (ROWS, 8), np.int32),
    "fps_B": np.full(ROWS, 4, np.float32),
    "motion_score_B": rng.uniform(0, 10, ROWS).astype(np.float32),
    "sample_index_B": np.arange(ROWS * step, ROWS * (step + 1), dtype=np.uint32),
  }


def losses(mesh_config: MeshConfig, devices: int) -> np.ndarray:
  config = configured()
  mesh = meshes.make_mesh(mesh_config, jax.devices()[:devices])
  divisibility.check(config, mesh.shape)
  # optax raises a Python float to the power of an int32 count: its own promotion, not ours.
  with jax.set_mesh(mesh), jax.numpy_dtype_promotion("standard"):
    task = denoising.make_task(config)
    trained = optimizers.trained_names(config.optimizer, task.network.abstract)
    optimizer = optimizers.make_optimizer(config.optimizer)

    def create() -> states.TrainState:
      return states.create(task.network.init(jax.random.key(0)), optimizer, trained)

    shardings = plan.param_shardings(task.network.roles, task.network.abstract, mesh)
    abstract = steps.abstract_state(create, shardings, mesh)
    placed = jax.tree.map(lambda a: a.sharding, abstract)
    state = jax.jit(create, out_shardings=placed)()
    frozen = jax.device_put(task.frozen, jax.NamedSharding(mesh, jax.P()))
    step = jax.jit(
      steps.make_train_step(task, config, optimizer, trained),
      donate_argnums=0,
      out_shardings=(placed, None),
    )
    found = []
    for number in range(STEPS):
      rows = jax.NamedSharding(mesh, plan.batch_spec(mesh))
      state, metrics = step(state, frozen, jax.device_put(batch(number), rows))
      found.append(float(metrics["loss"]))
  return np.asarray(found)


@functools.cache
def on_one_device() -> np.ndarray:
  return losses(MeshConfig(), 1)


@pytest.mark.slow
@pytest.mark.parametrize("mesh", MESHES)
def test_losses_do_not_depend_on_the_mesh(mesh, monkeypatch):
  monkeypatch.setattr(plan, "SMALL", 2**12)  # else most weights of a tiny model are replicated
  expected = on_one_device()
  assert expected[-1] < 0.9 * expected[0]  # it learns: the curve is not that of fresh weights
  np.testing.assert_allclose(losses(MESHES[mesh], 8), expected, rtol=1e-5)
