"""Frozen encoders: what they give, and what is said when they are not there."""

import dataclasses

import jax
import numpy as np
import pytest

from vidjax.conditioning.modes import MODES
from vidjax.config import EncodersConfig
from vidjax.encoders import clip, frozen, tokenizers, vae
from vidjax.interop import export

TINY = EncodersConfig(vae="random:tiny", text="random:tiny", image="random:tiny")


def draw(seed, *shape):
  return np.tanh(np.random.default_rng(seed).standard_normal(shape, np.float32))


def test_modes_load_what_they_need():
  of_text = {mode for mode, row in MODES.items() if row.encoder == "text"}
  assert of_text == {"text_to_image", "text_to_video"}
  assert frozen.load(TINY, "image").encoders.keys() == {"vae", "image"}
  assert frozen.load(TINY, "text").encoders.keys() == {"vae", "text"}


def test_latents_are_smaller_by_what_is_said_without_loading_them(tmp_path):
  loaded = frozen.load(TINY, "image")
  assert frozen.vae_downsampling("random:tiny") == loaded.downsampling
  config = loaded.encoders["vae"].config
  config = dataclasses.replace(config, block_out_channels=config.block_out_channels[:2])
  network = vae.describe(config)
  params = {name: np.zeros(leaf.shape, np.float32) for name, leaf in network.abstract.items()}
  export.write_vae(tmp_path, config, params, 8)
  assert frozen.vae_downsampling(str(tmp_path)) == 2 != loaded.downsampling
  with pytest.raises(ValueError, match=r"encoders\.vae is empty"):
    frozen.vae_downsampling("")


def test_untrained_weights_are_the_same_every_time():
  first, again = frozen.load_text("random:tiny"), frozen.load_text("random:tiny")
  for name, value in first.params.items():
    np.testing.assert_array_equal(value, again.params[name])


def test_latents_and_embeddings():
  loaded = frozen.load(TINY, "image")
  factor, channels = loaded.downsampling, loaded.latent_channels
  height, width = 2 * factor, 3 * factor
  video = draw(0, 2, 3, height, width, 3)
  keys = jax.vmap(jax.random.key)(np.arange(2))

  def run(weights, video, keys):
    bound = loaded.bind(weights)
    image = bound.encode_image(video[:, 0])
    return {
      "sample": bound.encode_video(video, keys),
      "image": image,
      "decoded": bound.decode(image[:, None] * bound.scaling_factor),
      "embedding": bound.embed_image(video[:, 0]),
    }

  out = jax.jit(run)(loaded.weights, video, keys)
  assert out["sample"].shape == (2, 3, 2, 3, channels)
  assert out["image"].shape == (2, 2, 3, channels)
  assert out["decoded"].shape == (2, 1, height, width, 3)
  assert out["embedding"].shape == (2, clip.TINY_VISION.projection_dim)
  assert all(value.dtype == np.float32 for value in out.values())

  # The image condition is the mean and not scaled; the video is scaled noise around its mean.
  model = loaded.encoders["vae"].network.bind(loaded.weights["vae"])
  mean, log_var = model.encode_moments(video)
  np.testing.assert_allclose(out["image"], mean[:, 0], atol=1e-5)
  scaled = out["sample"] / model.config.scaling_factor
  assert 0 < np.abs(scaled - mean).max() < 6 * np.exp(0.5 * np.max(log_var))


def test_each_clip_has_its_own_noise():
  loaded = frozen.load_vae("random:tiny")
  model = loaded.network.bind(loaded.params)
  video = np.broadcast_to(draw(0, 1, 1, 16, 16, 3), (3, 1, 16, 16, 3))
  keys = jax.vmap(jax.random.key)(np.array([5, 6, 5]))
  z = np.array(jax.jit(lambda video, keys: model.encode_sample(video, keys))(video, keys))
  np.testing.assert_array_equal(z[0], z[2])
  assert np.abs(z[0] - z[1]).max() > 1e-3


def test_text_depends_on_the_words():
  loaded = frozen.load_text("random:tiny")
  tokenizer = tokenizers.load("random:tiny")
  tokens = np.stack([tokenizer("a cat"), tokenizer("a dog")])
  embedded = np.array(loaded.network.bind(loaded.params)(tokens))
  assert embedded.shape == (2, 64, 64)
  np.testing.assert_allclose(embedded[0, :3], embedded[1, :3], atol=1e-5)  # causal: "a " is equal
  assert np.abs(embedded[0, 3] - embedded[1, 3]).max() > 0.01


@pytest.mark.parametrize("load", [frozen.load_vae, frozen.load_text, frozen.load_image])
def test_a_missing_encoder_is_named(load, tmp_path):
  with pytest.raises(ValueError, match=r"is empty: set --config\.encoders"):
    load("")
  with pytest.raises(ValueError, match=r"config.json does not exist"):
    load(str(tmp_path))


def test_sizes_that_do_not_fit_are_named():
  loaded = frozen.load_vae("random:tiny")
  model = loaded.network.bind(loaded.params)
  with pytest.raises(ValueError, match=f"multiples of {model.config.downsampling}"):
    model.encode_mode(draw(0, 1, 1, 17, 16, 3))


@pytest.mark.parametrize("field", ["use_post_quant_conv", "layers_per_block", "norm_groups"])
def test_a_temporal_decoder_says_what_it_goes_with(field):
  fitting = {"use_post_quant_conv": False, "layers_per_block": 2, "norm_groups": 32}
  vae.VAEConfig(temporal_decoder=True, **fitting)
  with pytest.raises(ValueError, match=field):
    vae.VAEConfig(temporal_decoder=True, **{**fitting, field: 1})
