"""The diffusion task under processes other than SVD's, on one device and on eight."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidjax import config as configs
from vidjax import denoising
from vidjax.diffusion import noise
from vidjax.diffusion.process import DiffusionConfig
from vidjax.diffusion.schedules import Betas
from vidjax.parallel import mesh as meshes
from vidjax.parallel import plan

B = 8
PROCESSES = {
  "svd": DiffusionConfig(),
  "log-uniform, edm": DiffusionConfig(
    prediction="edm", levels="log_uniform", sigma_data=0.5, weighting="edm", sigma_max=80.0
  ),
  "stable diffusion": DiffusionConfig(prediction="eps", levels="discrete", offset_noise=0.1),
  "zero snr, min snr": DiffusionConfig(
    levels="discrete",
    betas=Betas(steps=4, zero_terminal_snr=True),  # every batch holds pure noise
    weighting="min_snr",
    resolution_shift=2.0,
  ),
}


def task(diffusion: DiffusionConfig):
  values = {
    "total_samples": 8,
    "data": {"path": "SHARDS", "num_frames": 1, "height": 16, "width": 16},
    "model": {
      "preset": "tiny",
      "dtype": "float32",
      "overrides": {"in_channels": 8, "temporal": "none", "vector_size": 0},
    },
    "encoders": {"vae": "random:tiny", "text": "random:tiny"},
    "conditioning": {"mode": "text_to_image"},
  }
  config = configs.from_dict(configs.TrainConfig, values)
  return denoising.make_task(dataclasses.replace(config, diffusion=diffusion))


def loss_and_gradient(of, devices: int):
  rng = np.random.default_rng(0)
  batch = {
    "video_BTHWC": rng.integers(0, 256, (B, 1, 16, 16, 3)).astype(np.uint8),
    "tokens_BL": rng.integers(0, 259, (B, 64)).astype(np.int32),
    "motion_score_B": np.ones(B, np.float32),
    "sample_index_B": np.arange(B, dtype=np.uint32),
  }
  params = {
    name: 0.05 * rng.standard_normal(leaf.shape, np.float32)
    for name, leaf in of.network.abstract.items()
  }

  def run(params, frozen, batch):
    batch = jax.tree.map(plan.shard_batch, batch)
    keys_B = noise.sample_keys(0, batch["sample_index_B"])
    loss = lambda params: of.loss(params, frozen, batch, keys_B)  # noqa: E731
    return jax.value_and_grad(loss, has_aux=True)(params)

  mesh = meshes.make_mesh(meshes.MeshConfig(), jax.devices()[:devices])
  with jax.set_mesh(mesh):
    whole, rows = (jax.NamedSharding(mesh, s) for s in (jax.P(), plan.batch_spec(mesh)))
    placed = jax.device_put(params, whole), jax.device_put(of.frozen.weights, whole)
    (loss, metrics), gradient = jax.jit(run)(*placed, jax.device_put(batch, rows))
  return float(loss), jax.device_get(metrics), jax.device_get(gradient)


@pytest.mark.parametrize(
  "name", [pytest.param(n, marks=() if n == "svd" else pytest.mark.slow) for n in PROCESSES]
)
def test_loss_and_gradient_do_not_depend_on_the_devices(name):
  of = task(PROCESSES[name])
  one, eight = loss_and_gradient(of, 1), loss_and_gradient(of, 8)
  assert np.isfinite(one[0])
  assert one[0] > 0.01
  np.testing.assert_allclose(one[0], eight[0], rtol=1e-4)
  bins = np.asarray(of.report(jax.device_put(one[1]))["loss_per_sigma_bin"])
  assert np.isfinite(bins[~np.isnan(bins)]).all()
  largest = max(float(jnp.abs(g).max()) for g in one[2].values())
  for key, gradient in one[2].items():
    assert np.isfinite(gradient).all(), key
    np.testing.assert_allclose(gradient, eight[2][key], atol=1e-4 * largest, err_msg=key)
