"""Training of interpolation and multi-view: what the network is told, and what learns from it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidjax import config as configs
from vidjax import denoising, requests
from vidjax.checkpoint import warm_start
from vidjax.conditioning import condition as conditions
from vidjax.conditioning.modes import MODES
from vidjax.diffusion import noise
from vidjax.encoders import frozen
from vidjax.models.unet import UNetConfig
from vidjax.parallel import mesh as meshes
from vidjax.parallel import plan

B, T, H, W = 8, 5, 16, 24
FACTOR, CHANNELS = 8, 8  # of the tiny autoencoder
OVERRIDES = {
  "image_to_video": {},
  "interpolation": {"in_channels": 2 * CHANNELS + 1},
  "multi_view": {"vector_size": 4},
}


def config_of(mode, **overrides):
  values = {
    "total_samples": 8,
    "data": {"path": "SHARDS", "num_frames": T, "height": H, "width": W},
    "model": {
      "preset": "tiny",
      "dtype": "float32",
      "overrides": {"block_out_channels": (32, 32), **OVERRIDES[mode], **overrides},
    },
    "encoders": {"vae": "random:tiny", "image": "random:tiny"},
    "conditioning": {"mode": mode},
  }
  return configs.from_dict(configs.TrainConfig, values)


def draw(seed, *shape):
  return np.random.default_rng(seed).standard_normal(shape, np.float32)


def batch_of(mode):
  rng = np.random.default_rng(0)
  batch = {
    "video_BTHWC": rng.integers(0, 256, (B, T, H, W, 3)).astype(np.uint8),
    "motion_score_B": rng.uniform(0, 9, B).astype(np.float32),
    "fps_B": rng.uniform(4, 30, B).astype(np.float32),
    "sample_index_B": np.arange(B, dtype=np.uint32),
  }
  if mode == "multi_view":
    batch["elevation_B"] = rng.uniform(-5, 30, B).astype(np.float32)
  return batch


def pixels(batch):
  return batch["video_BTHWC"].astype(np.float32) / 127.5 - 1.0


def weights(network, scale=0.05):
  return {
    name: scale * draw([3, i], *leaf.shape)
    for i, (name, leaf) in enumerate(sorted(network.abstract.items()))
  }


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["interpolation", "multi_view"])
def test_loss_and_gradient_do_not_depend_on_the_devices(mode):
  task = denoising.make_task(config_of(mode))
  params, batch = weights(task.network), batch_of(mode)

  def run(params, encoders, batch):
    batch = jax.tree.map(plan.shard_batch, batch)
    keys_B = noise.sample_keys(0, batch["sample_index_B"])
    return jax.value_and_grad(lambda p: task.loss(p, encoders, batch, keys_B)[0])(params)

  results = []
  for count in (1, 8):
    mesh = meshes.make_mesh(meshes.MeshConfig(), jax.devices()[:count])
    with jax.set_mesh(mesh):
      whole, rows = (jax.NamedSharding(mesh, s) for s in (jax.P(), plan.batch_spec(mesh)))
      placed = jax.device_put((params, task.frozen.weights), whole)
      results.append(jax.device_get(jax.jit(run)(*placed, jax.device_put(batch, rows))))
  (loss, gradients), (again, others) = results
  assert loss > 0.01
  np.testing.assert_allclose(loss, again, rtol=1e-4)
  largest = max(np.abs(g).max() for g in gradients.values())
  for name, gradient in gradients.items():
    if mode == "interpolation" or ".cross." not in name:  # which token, where there is one only
      assert gradient.any(), f"{name} learns nothing"
    np.testing.assert_allclose(gradient, others[name], atol=1e-4 * largest, err_msg=name)


def test_training_gives_interpolation_the_first_and_the_last_frame():
  """Against numpy: latents of the encoder, noise of the sample's own key, the log-normal sigma."""
  config = dataclasses.replace(
    config_of("interpolation"),
    conditioning=configs.ConditioningConfig(
      mode="interpolation", dropout=0.0, noise_aug_mean=-1.0, noise_aug_std=0.7
    ),
  )
  encoders = frozen.load(config.encoders, "image")
  batch = batch_of("interpolation")
  keys_B = noise.sample_keys(0, jnp.asarray(batch["sample_index_B"]))
  bound = encoders.bind(jax.device_put(encoders.weights))
  condition = denoising.make_condition(config, bound, batch, jnp.asarray(pixels(batch)), keys_B)
  sigma_B = np.array(condition.vector[:, 2])
  assert np.std(np.log(sigma_B)) > 0.2
  assert abs(np.log(sigma_B).mean() + 1.0) < 4 * 0.7 / np.sqrt(B)
  np.testing.assert_allclose(condition.vector[:, 0], batch["fps_B"] - 1, rtol=1e-6)
  expected = np.zeros((B, T, H // FACTOR, W // FACTOR, CHANNELS), np.float32)
  noises = (np.array(condition.concat[..., :-1]) - expected) * 0
  for frame in (0, T - 1):
    clean = np.array(bound.encode_image(jnp.asarray(pixels(batch)[:, frame])))
    noises[:, frame] = (np.array(condition.concat[:, frame, ..., :-1]) - clean) / sigma_B.reshape(
      -1, 1, 1, 1
    )
    assert abs(noises[:, frame].std() - 1.0) < 0.15
    embedded = bound.embed_image(jnp.asarray(pixels(batch)[:, frame]))
    np.testing.assert_allclose(
      condition.contexts[0][:, min(frame, 1)], embedded, rtol=1e-4, atol=1e-5
    )
  correlation = np.corrcoef(noises[:, 0].ravel(), noises[:, -1].ravel())[0, 1]
  assert abs(correlation) < 0.2, "both frames have the same noise"
  assert not np.array(condition.concat[:, 1:-1]).any()
  np.testing.assert_array_equal(
    condition.concat[..., -1].mean(axis=(0, 2, 3)), [1.0, 0.0, 0.0, 0.0, 1.0]
  )


def test_multi_view_reads_the_elevation_of_the_batch():
  config = config_of("multi_view")
  encoders = frozen.load(config.encoders, "image")
  bound, batch = encoders.bind(jax.device_put(encoders.weights)), batch_of("multi_view")
  keys_B = noise.sample_keys(0, jnp.asarray(batch["sample_index_B"]))
  video = jnp.asarray(pixels(batch))
  condition = denoising.make_condition(config, bound, batch, video, keys_B)
  np.testing.assert_array_equal(condition.vector[:, 3], batch["elevation_B"])
  plain = denoising.make_condition(config_of("image_to_video"), bound, batch, video, keys_B)
  np.testing.assert_array_equal(condition.vector[:, :3], plain.vector)
  np.testing.assert_array_equal(condition.concat, plain.concat)
  del batch["elevation_B"]
  with pytest.raises(ValueError, match=r"reads the elevation of each clip.*data\.scores"):
    denoising.make_condition(config, bound, batch, video, keys_B)


# --- The learned stand-in for frames that are not given ------------------------------------------


def interpolation_unet():
  network = denoising.make_unet(config_of("interpolation"))
  latents = (H // FACTOR, W // FACTOR, CHANNELS)
  assert network.abstract["mask_embedding.embedding"].shape == latents
  return network, latents


def apply(network, params, concat_BTHWC, seed=9):
  """The network on fixed draws of all inputs but the condition's channels."""
  rows = concat_BTHWC.shape[0]
  x_BTHWC = draw(seed, *concat_BTHWC.shape[:-1], CHANNELS)
  x_BTHWC = jnp.concatenate([x_BTHWC, concat_BTHWC], axis=-1)
  rest = draw([seed, 1], rows), (draw([seed, 2], rows, 2, 64),), draw([seed, 3], rows, 3)
  return jax.jit(lambda params, *args: network.bind(params)(*args))(params, x_BTHWC, *rest)


def test_the_stand_in_takes_the_place_of_what_is_not_given():
  """As if its values had been in the input, and without a look at what the input has there."""
  network, latents = interpolation_unet()
  params = weights(network)
  filled, junk = draw(0, 1, T, *latents), draw(1, 1, T, *latents)
  filled[:, 1:-1] = params["mask_embedding.embedding"]
  junk[:, [0, -1]] = filled[:, [0, -1]]
  mask = np.zeros((1, T, *latents[:2], 1), np.float32)
  mask[:, [0, -1]] = 1.0
  without = {name: value for name, value in params.items() if "mask_embedding" not in name}
  plain = denoising.make_unet(config_of("interpolation", mask_embedding=()))
  expected = apply(plain, without, np.concatenate([filled, mask], axis=-1))
  ours = apply(network, params, np.concatenate([junk, mask], axis=-1))
  assert np.array(expected).std() > 1e-3
  np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_the_stand_in_learns_where_frames_are_not_given_and_only_there():
  network, latents = interpolation_unet()
  params = weights(network)

  def gradient(mask_T):
    mask = np.broadcast_to(np.reshape(mask_T, (1, T, 1, 1, 1)), (1, T, *latents[:2], 1))
    concat = np.concatenate([draw(0, 1, T, *latents), np.array(mask, np.float32)], axis=-1)

    def loss(params, concat):
      return (apply(network, params, concat) ** 2).mean()

    of_params, of_concat = jax.jit(jax.grad(loss, argnums=(0, 1)))(params, concat)
    return np.array(of_params["mask_embedding.embedding"]), np.array(of_concat[0, ..., :-1])

  learned, given = gradient([1, 0, 0, 0, 1])
  assert (np.abs(learned) > 0).all()
  assert (np.abs(given[[0, -1]]) > 0).all()
  assert not given[1:-1].any()
  nothing, all_given = gradient([1, 1, 1, 1, 1])
  assert not nothing.any()
  assert (np.abs(all_given) > 0).all()


def test_a_dropped_condition_is_the_stand_in_on_every_frame():
  network, latents = interpolation_unet()
  params = weights(network)
  config = config_of("interpolation")
  encoders = frozen.load(config.encoders, "image")
  batch = batch_of("interpolation")
  keys_B = noise.sample_keys(0, jnp.asarray(batch["sample_index_B"]))
  bound = encoders.bind(jax.device_put(encoders.weights))
  inputs = denoising.condition_inputs(config, bound, batch, jnp.asarray(pixels(batch)), keys_B)
  condition = MODES["interpolation"].condition(bound, inputs, T)
  dropped = conditions.drop(condition, jnp.zeros(B))
  none_given = jnp.concatenate(
    [jnp.asarray(draw(5, B, T, *latents)), jnp.zeros((B, T, *latents[:2], 1))], axis=-1
  )
  np.testing.assert_array_equal(
    apply(network, params, dropped.concat), apply(network, params, none_given)
  )
  assert (
    np.abs(apply(network, params, condition.concat) - apply(network, params, none_given)).max()
    > 1e-3
  )


@pytest.mark.parametrize("source_channels", [CHANNELS, 2 * CHANNELS], ids=["text", "image"])
def test_a_model_of_text_or_image_to_video_starts_one_of_interpolation(source_channels):
  network, latents = interpolation_unet()
  source = denoising.make_unet(config_of("image_to_video", in_channels=source_channels))
  values = weights(source)
  fresh = jax.jit(network.init)(jax.random.key(0))
  params, report = warm_start(network.abstract, values, lambda names: {n: fresh[n] for n in names})
  assert report.fresh == ("mask_embedding.embedding",)
  assert report.widened == ("conv_in.kernel",)
  kernel = np.array(params["conv_in.kernel"])
  np.testing.assert_array_equal(kernel[..., :source_channels, :], values["conv_in.kernel"])
  assert not kernel[..., source_channels:, :].any()
  stand_in = np.array(params["mask_embedding.embedding"])
  assert 0 < stand_in.std() < 0.03

  # It computes what the source does, of the channels that the source has.
  concat = np.concatenate([draw(0, 1, T, *latents), np.ones((1, T, *latents[:2], 1))], axis=-1)
  concat = concat.astype(np.float32)
  ours = apply(network, params, concat)
  theirs = apply(source, values, concat[..., : source_channels - CHANNELS])
  assert np.array(theirs).std() > 1e-3
  np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)


def test_a_model_of_image_to_video_starts_one_of_orbits():
  """The elevation has no effect at first, and the other numbers keep theirs."""
  wide = {"block_out_channels": (64, 64)}  # norms of one channel each would not see the vector
  network = denoising.make_unet(config_of("multi_view", **wide))
  source = denoising.make_unet(config_of("image_to_video", **wide))
  values = weights(source, scale=0.2)
  params, report = warm_start(network.abstract, values, lambda names: {})
  assert report.widened == ("add_embedding.linear_1.kernel",)
  assert not report.fresh
  x_BTHWC, vector_B4 = jnp.asarray(draw(0, 2, 3, 2, 3, 2 * CHANNELS)), 9 * draw(1, 2, 4)
  rest = jnp.asarray(draw(2, 2)), (jnp.asarray(draw(3, 2, 1, 64)),)

  @jax.jit
  def run(params, values, vector_B4):
    theirs = source.bind(values)(x_BTHWC, *rest, vector_B4[:, :3])
    return network.bind(params)(x_BTHWC, *rest, vector_B4), theirs

  ours, theirs = run(params, values, vector_B4)
  assert np.array(theirs).std() > 1e-3
  np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)
  other, _ = run(params, values, vector_B4 + np.float32([1, 0, 0, 0]))
  assert np.abs(other - ours).max() > 1e-4
  untouched, _ = run(params, values, vector_B4 + np.float32([0, 0, 0, 1]))
  np.testing.assert_array_equal(untouched, ours)


def test_what_real_clips_give_a_request():
  video_NTHWC = np.random.default_rng(0).uniform(0, 1, (2, 5, 4, 4, 3)).astype(np.float32)
  scores = [{"elevation": 5.0}, {"elevation": -3.0}]
  given = {mode: requests.given(mode, video_NTHWC, scores) for mode in MODES}
  assert given["text_to_video"] == given["text_to_image"] == {}
  assert given["multi_view"]["elevation"] == [5.0, -3.0]
  np.testing.assert_array_equal(given["multi_view"]["images_NHWC"], video_NTHWC[:, 0])
  assert given["interpolation"].keys() == {"images_NHWC", "last_images_NHWC"}
  np.testing.assert_array_equal(given["interpolation"]["last_images_NHWC"], video_NTHWC[:, -1])


def test_the_stand_in_has_the_size_of_the_datas_latents_unless_the_config_says_otherwise():
  assert denoising.unet_config(config_of("interpolation")).mask_embedding == (2, 3)
  config = config_of("interpolation", mask_embedding=[4, 4])
  assert denoising.unet_config(config).mask_embedding == (4, 4)
  assert denoising.unet_config(config_of("image_to_video")).mask_embedding == ()
  network, _ = interpolation_unet()
  with pytest.raises(ValueError, match=r"latents are 2x4, model.mask_embedding is of 2x3"):
    apply(network, weights(network), np.zeros((1, T, 2, 4, CHANNELS + 1), np.float32))


@pytest.mark.parametrize(
  "fields", [{"in_channels": 8}, {"in_channels": 9, "mask_embedding": (3,)}], ids=str
)
def test_a_stand_in_that_fits_no_input_is_refused(fields):
  with pytest.raises(ValueError, match=r"in_channels = 2 x model.out_channels \+ 1 = 9"):
    UNetConfig(**{"mask_embedding": (2, 3), **fields})


def test_interpolation_needs_something_between():
  config = config_of("interpolation")
  with pytest.raises(ValueError, match=r"data.num_frames=2: mode 'interpolation' needs at least 3"):
    dataclasses.replace(config, data=dataclasses.replace(config.data, num_frames=2))
