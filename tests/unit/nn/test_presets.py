"""The UNets of PixelDance, Emu Video and Gen-1: sizes, what they start as, what trains."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models import count, describe, image_model, reduced
from vidjax.config import OptimizerConfig
from vidjax.encoders import vae
from vidjax.interop import configs
from vidjax.models.unet import PRESETS
from vidjax.optim import freezing

FACTORIZED = ("pixeldance", "emu_video", "gen1")
B, T, H, W, L = 2, 3, 4, 4, 5


def draw(seed, *shape):
  return jnp.asarray(np.random.default_rng(seed).standard_normal(shape, np.float32))


def inputs(config, frames=T):
  contexts = tuple(draw([2, i], B, L, c) for i, c in enumerate(config.cross_attention_dims))
  return draw(0, B, frames, H, W, config.in_channels), draw(1, B), contexts


def spatial(config, params):
  return {name: params[name] for name in describe(image_model(config)).abstract}


# What follows from the papers' tables and sentences, and how far that is from the size they state:
# widths, depths and heads are given, the inside of a temporal layer is not.
@pytest.mark.parametrize(
  ("preset", "part", "expected", "stated"),
  [
    ("pixeldance", "all", 1_314_717_496, 1.5e9),
    ("emu_video", "all", 4_707_847_888, 4.3e9),
    ("emu_video", "spatial", 2_923_183_880, 2.7e9),
    ("emu_video", "temporal", 1_784_664_008, 1.7e9),
    ("gen1", "all", 1_197_919_684, None),
  ],
)
def test_sizes_are_near_those_of_the_papers(preset, part, expected, stated):
  config = PRESETS[preset]
  number, image = count(config), count(image_model(config))
  number = {"all": number, "spatial": image, "temporal": number - image}[part]
  assert number == expected
  assert stated is None or abs(number / stated - 1) < 0.13


def test_sizes_of_what_is_published():
  assert count(dataclasses.replace(PRESETS["svd_t2v"], vector_size=0)) == 1_521_987_562
  config = vae.VAEConfig(use_post_quant_conv=False, temporal_decoder=True)
  abstract = vae.describe(config).abstract
  assert sum(leaf.size for leaf in abstract.values()) == 97_742_847


@pytest.mark.parametrize("preset", FACTORIZED)
def test_input_channels_are_those_of_the_paper(preset):
  config = PRESETS[preset]
  channels = {"pixeldance": (4 + 4, 4), "emu_video": (8 + 8 + 1, 8), "gen1": (4 + 4 + 4, 4)}
  assert (config.in_channels, config.out_channels) == channels[preset]
  widths = zip(config.block_out_channels, config.num_attention_heads, strict=True)
  assert all(width == 64 * heads for width, heads in widths)


@pytest.mark.parametrize("preset", FACTORIZED)
def test_temporal_parameters_have_a_name_of_their_own(preset):
  config = PRESETS[preset]
  video, image = describe(config).abstract, describe(image_model(config)).abstract
  assert {name: video[name].shape for name in image} == {n: v.shape for n, v in image.items()}
  only = OptimizerConfig(train_only=("*temporal*",))
  assert freezing.trained_names(only, video) == video.keys() - image.keys()


@pytest.mark.slow
@pytest.mark.parametrize("preset", FACTORIZED)
def test_starts_as_the_image_model_frame_by_frame(preset):
  config = reduced(preset)
  net, image_net = describe(config), describe(image_model(config))

  @jax.jit
  def run(params, *args):
    video, image = net.bind(params), image_net.bind(spatial(config, params))
    return video(*args), video(*args, image_only=True), image(*args)

  params = jax.jit(net.init)(jax.random.key(0))
  params["conv_out.kernel"] = draw(9, *params["conv_out.kernel"].shape)
  args = inputs(config)
  video, image_only, image = run(params, *args)
  assert video.shape == (B, T, H, W, config.out_channels)
  assert jnp.std(image) > 0.01
  np.testing.assert_array_equal(image_only, image)
  np.testing.assert_allclose(video, image, rtol=0, atol=1e-5 * np.abs(image).max())

  # Away from the start, frames see each other, but not with `image_only`.
  params = {name: value + 0.05 * draw(len(name), *value.shape) for name, value in params.items()}
  x, *rest = args
  video, image_only, image = run(params, *args)
  changed = run(params, x.at[:, 0].add(1.0), *rest)
  np.testing.assert_array_equal(image_only, image)
  assert jnp.abs(changed[0] - video)[:, 1:].max() > 1e-4
  np.testing.assert_array_equal(changed[1][:, 1:], image_only[:, 1:])


@pytest.mark.slow
@pytest.mark.parametrize("preset", FACTORIZED)
def test_every_parameter_gets_a_gradient(preset):
  config = reduced(preset)
  net = describe(config)
  params = {}
  for name, leaf in net.abstract.items():  # of a size that keeps every softmax soft
    std = 0.1 if leaf.ndim == 1 else float(np.prod(leaf.shape[:-1])) ** -0.5
    params[name] = std * draw(len(name), *leaf.shape) + 0.1 * (leaf.ndim == 1)
  loss = lambda params, *args: (net.bind(params)(*args) ** 2).mean()  # noqa: E731
  gradients = jax.jit(jax.grad(loss))(params, *inputs(config))
  assert not [name for name, value in gradients.items() if not np.array(value).any()]


def test_more_frames_than_learned_positions_are_refused():
  config = reduced("gen1")
  net = describe(config)
  args = inputs(config, frames=config.learned_positions + 1)
  with pytest.raises(ValueError, match="learned_positions covers 16 only"):
    jax.eval_shape(lambda params: net.bind(params)(*args), net.abstract)


@pytest.mark.parametrize("field", ["conv1d_outside_resblocks", "learned_positions"])
def test_options_of_other_temporal_layers_are_refused(field):
  with pytest.raises(ValueError, match=f"model.{field}|model.learned_positions"):
    dataclasses.replace(PRESETS["svd"], **{field: 1})


@pytest.mark.parametrize("preset", FACTORIZED)
def test_diffusers_has_no_class_for_these(preset):
  config = dataclasses.replace(PRESETS[preset], cross_attention_dims=(1024,))
  with pytest.raises(ValueError, match="temporal='conv1d'"):
    configs.unet_to_json(config, num_frames=16, sample_size=32)


def test_depths_that_differ_between_levels_survive_the_json_of_diffusers():
  config = dataclasses.replace(
    PRESETS["sd21"], layers_per_block=(3, 4, 4, 4), transformer_layers_per_block=(1, 2, 10, 10)
  )
  values = configs.unet_to_json(config, num_frames=1, sample_size=64)
  assert configs.unet_from_json(values, "here") == config
