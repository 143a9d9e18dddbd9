"""Training on cached latents is training on pixels, and what cannot be is refused."""

import dataclasses

import jax
import numpy as np
import pytest

from vidjax import autoencoding, cache_latents, denoising, latent_sets
from vidjax import state as states
from vidjax import step as steps
from vidjax.data import loader
from vidjax.data.config import ImagesConfig, SetConfig
from vidjax.encoders import frozen, tokenizers
from vidjax.optim import freezing
from vidjax.optim import optimizer as optimizers
from vidjax.parallel import mesh as meshes

STAGES = {
  "text_to_video": ("configs/svd/video_lowres.py:tiny", 4),
  "image": ("configs/svd/image.py:tiny", 1),
}


def on(config, path):
  """`config` with the latents in `path` as its data."""
  return dataclasses.replace(
    config, data=dataclasses.replace(config.data, kind="latents", path=str(path))
  )


def batch_of(config):
  """The first batch of a run."""
  tokenizer = tokenizers.load(config.encoders.text)
  batches = loader.make_loader(
    config.data, global_batch=8, start_sample=0, seed=3, tokenizer=tokenizer
  )
  with batches:
    return next(batches)


def one_step(config):
  """Loss, gradient norm and weights after a step on the first batch, with fresh weights."""
  mesh = meshes.make_mesh(meshes.MeshConfig(), jax.devices()[:1])
  host = {k: v for k, v in batch_of(config).items() if isinstance(v, np.ndarray)}
  # optax raises a Python float to the power of an int32 count: its own promotion, not ours.
  with jax.set_mesh(mesh), jax.numpy_dtype_promotion("standard"):
    task = denoising.make_task(config)
    trained = freezing.trained_names(config.optimizer, task.network.abstract)
    optimizer = optimizers.make_optimizer(config.optimizer)
    rng = np.random.default_rng(0)
    params = {  # not the fresh ones: their last layer is zero, and the loss would not see the input
      name: 0.05 * rng.standard_normal(leaf.shape, np.float32)
      for name, leaf in task.network.abstract.items()
    }
    state = states.create(jax.device_put(params), optimizer, trained, config.optimizer.ema_decays)
    step = jax.jit(steps.make_train_step(task, config, optimizer, trained))
    state, metrics = step(state, task.frozen.weights, jax.device_put(host))
  return float(metrics["loss"]), float(metrics["grad_norm"]), host


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_a_step_is_that_on_pixels(stage, clips, cached, view):
  config, num_frames = STAGES[stage]
  pixels = view(clips, config=config, num_frames=num_frames)
  pixels = dataclasses.replace(pixels, batch_size=8)
  latent_sets.check(on(pixels, cached))
  loss, norm, batch = one_step(pixels)
  cached_loss, cached_norm, cached_batch = one_step(on(pixels, cached))
  assert cached_batch["latents_BTHWC"].shape == (8, num_frames, 4, 6, 16)
  assert cached_batch["latents_BTHWC"].dtype == np.float16
  for name in batch.keys() - {"video_BTHWC"}:
    np.testing.assert_array_equal(batch[name], cached_batch[name], err_msg=name)
  np.testing.assert_allclose(cached_loss, loss, rtol=1e-2)
  np.testing.assert_allclose(cached_norm, norm, rtol=2e-2)


def test_what_is_drawn_is_what_pixels_give(clips, cached, view):
  pixels = view(clips)
  video, moments = batch_of(pixels)["video_BTHWC"], batch_of(on(pixels, cached))["latents_BTHWC"]
  of = frozen.load(pixels.encoders, "text")
  keys_B = jax.vmap(jax.random.key)(np.arange(8))

  def encoded(weights, video, keys_B):
    return of.bind(weights).encode_video(video.astype(np.float32) / 127.5 - 1.0, keys_B)

  x0 = jax.jit(encoded)(of.weights, video, keys_B)
  drawn = jax.jit(of.draw)(moments, keys_B)
  spread = float(np.std(x0))
  assert drawn.dtype == np.float32
  np.testing.assert_allclose(drawn, x0, atol=5e-3 * spread)
  other = jax.jit(of.draw)(moments, keys_B[::-1])
  assert np.abs(other - x0).max() > 0.5 * spread  # another key is another draw


def test_latents_are_shown_as_what_the_autoencoder_keeps(clips, cached, view):
  pixels = view(clips)
  video, moments = (
    batch_of(pixels)["video_BTHWC"][:2],
    batch_of(on(pixels, cached))["latents_BTHWC"],
  )
  of = frozen.load(pixels.encoders, "text")

  def through(weights, image_NHWC):
    bound = of.bind(weights)
    latent = bound.encode_image(image_NHWC.astype(np.float32) / 127.5 - 1.0)
    return bound.decode(latent[:, None] * bound.scaling_factor)[:, 0]

  kept = jax.jit(through)(of.weights, video.reshape(8, *video.shape[2:])) * 0.5 + 0.5
  shown = latent_sets.pictures(pixels, moments[:2])
  assert (shown.shape, shown.dtype) == (video.shape, np.float32)
  np.testing.assert_allclose(shown.reshape(kept.shape), np.clip(kept, 0, 1), atol=5e-3)
  np.testing.assert_allclose(latent_sets.pictures(pixels, video) * 255.0, video, atol=1e-3)


def test_the_autoencoder_is_not_on_the_devices(cached, clips, view):
  assert denoising.make_task(view(clips)).frozen.encoders.keys() == {"vae", "text"}
  assert denoising.make_task(on(view(clips), cached)).frozen.encoders.keys() == {"text"}


def change(config, **parts):
  """`config` with fields of its parts changed."""
  for part, fields in parts.items():
    value = fields
    if isinstance(fields, dict):
      value = dataclasses.replace(getattr(config, part), **fields)
    config = dataclasses.replace(config, **{part: value})
  return config


@pytest.mark.parametrize(
  ("parts", "message"),
  [
    ({"conditioning": {"mode": "image_to_video"}}, "conditioning.mode='image_to_video' shows the"),
    ({"conditioning": {"mode": "interpolation"}}, "have none; use them with text_to_image or text"),
    ({"task": "autoencoder"}, "task='autoencoder' learns from pixels"),
    ({"data": {"height": 64}}, r"latents.json: .* view of config.data: height is 32, not 64"),
    ({"data": {"flip": True}}, "flip=True mirrors pixels"),
    ({"data": {"buckets": ((32, 48), (48, 32))}}, "data.buckets: cached latents are of one view"),
    ({"encoders": {"vae": ""}}, "encoders.vae is empty"),
    (
      {"data": {"images": ImagesConfig(rows=1, sets=(SetConfig(path="PHOTOS", kind="images"),))}},
      "some data sets of config.data are of kind 'latents' and others hold pixels",
    ),
    ({"data": {"images": ImagesConfig(every_steps=8, height=64)}}, "height is 32, not 64"),
  ],
)
def test_what_cannot_be_trained_is_refused(cached, clips, view, parts, message):
  config = change(on(view(clips), cached), batch_size=8, **parts)
  with pytest.raises(ValueError, match=message):
    latent_sets.check(config)


def test_latents_of_another_autoencoder_are_refused(cached, clips, view, monkeypatch):
  vae = frozen.load_vae("random:tiny")
  name = next(n for n in vae.params if n.startswith("encoder."))
  values = dict(vae.params) | {name: np.asarray(vae.params[name]) + 1e-3}
  monkeypatch.setattr(frozen, "load_vae", lambda _: dataclasses.replace(vae, params=values))
  with pytest.raises(ValueError, match=r"do not fit the encoders .*: vae_sha256 is '\w+', not '"):
    latent_sets.check(on(view(clips), cached))
  shape = dataclasses.replace(vae.config, scaling_factor=0.5, layers_per_block=2)
  monkeypatch.setattr(frozen, "load_vae", lambda _: dataclasses.replace(vae, config=shape))
  with pytest.raises(
    ValueError, match=r": scaling_factor is 0.18215, not 0.5; vae.layers_per_block is 1, not 2"
  ):
    latent_sets.check(on(view(clips), cached))


def test_pixels_are_not_checked(clips, view):
  config = change(view(clips), conditioning={"mode": "image_to_video"})
  latent_sets.check(config)
  assert not latent_sets.cached(config.data)
  assert autoencoding.make_task(config).frozen.encoders == {}
  assert cache_latents.__doc__ is not None
