"""Text encoders in transformers' layout, written and read without it: T5, and CLIP's projection."""

import dataclasses
import json

import numpy as np
import pytest

from vidjax.encoders import clip, frozen, t5, text, tokenizers
from vidjax.errors import CheckpointError
from vidjax.interop import configs, diffusers, export, safetensors, stability
from vidjax.models.unet import PRESETS, UNet
from vidjax.nn.params import network

GATED = t5.PRESETS["tiny"]
RELU = dataclasses.replace(GATED, feed_forward_proj="relu")
PROJECTED = dataclasses.replace(clip.TINY_TEXT, projection_dim=24)
T5_NAME = "encoder.block.1.layer.0.SelfAttention.q.weight"


def drawn(net, seed=0):
  rng = np.random.default_rng(seed)
  return {name: rng.standard_normal(leaf.shape, np.float32) for name, leaf in net.abstract.items()}


def write(folder, config):
  params = drawn(text.describe(config))
  export.write_text(folder, config, params)
  return params


def stored(folder):
  tensors = safetensors.tensors(folder, "model")
  return {name: tensor.rows(0, tensor.shape[0]) for name, tensor in tensors.items()}


def store(folder, tensors):
  specs = {name: (np.dtype(np.float32), value.shape) for name, value in tensors.items()}
  safetensors.write(folder, "model", specs, tensors.__getitem__)


def same(left, right):
  assert left.keys() == right.keys()
  for name, value in left.items():
    np.testing.assert_array_equal(value, right[name], err_msg=name)


@pytest.mark.parametrize("config", [GATED, RELU], ids=["gated", "relu"])
def test_t5_survives_the_round_trip(tmp_path, config):
  params = write(tmp_path, config)
  loaded = frozen.load_text(str(tmp_path))
  assert loaded.config == config
  same(params, {name: np.asarray(value) for name, value in loaded.params.items()})
  names = stored(tmp_path).keys()
  assert "shared.weight" in names
  assert "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight" in names
  feed_forward = "wi_0" if config is GATED else "wi"
  assert f"encoder.block.1.layer.1.DenseReluDense.{feed_forward}.weight" in names


@pytest.mark.parametrize("config", [GATED, RELU, clip.TINY_TEXT], ids=["gated", "relu", "clip"])
def test_configs_survive_the_round_trip(config):
  assert configs.text_from_json(configs.text_to_json(config), "here") == config


def test_a_whole_t5_gives_its_encoder(tmp_path):
  params = write(tmp_path, GATED)
  tensors = stored(tmp_path)
  shared = tensors["shared.weight"]
  others = ("lm_head.weight", "decoder.embed_tokens.weight", "decoder.final_layer_norm.weight")
  store(tmp_path, {**tensors, **dict.fromkeys(others, np.zeros((2, 3), np.float32))})
  same(params, diffusers.load_text(tmp_path)[1])

  # The embedding under its other name, and under both: the second is the same tensor in a model.
  del tensors["shared.weight"]
  store(tmp_path, {**tensors, "encoder.embed_tokens.weight": shared})
  same(params, diffusers.load_text(tmp_path)[1])
  tied = {"encoder.embed_tokens.weight": np.zeros_like(shared), "shared.weight": shared}
  for order in (tied, dict(reversed(tied.items()))):
    store(tmp_path, {**order, **tensors})
    same(params, diffusers.load_text(tmp_path)[1])


def test_weights_of_t5_that_do_not_fit_are_named(tmp_path):
  write(tmp_path, GATED)
  tensors = stored(tmp_path)
  del tensors["encoder.final_layer_norm.weight"]
  tensors[T5_NAME] = tensors[T5_NAME][:-1]
  tensors["encoder.block.2.layer.0.layer_norm.weight"] = np.zeros(64, np.float32)
  store(tmp_path, tensors)
  with pytest.raises(CheckpointError) as error:
    diffusers.open_text(tmp_path)
  for message in (
    "1 missing (encoder.final_layer_norm.weight)",
    "1 unknown (encoder.block.2.layer.0.layer_norm.weight)",
    f"{T5_NAME} is (31, 64) in the file, (32, 64) by the config",
    str(tmp_path),
  ):
    assert message in str(error.value)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"model_type": "umt5"}, "here: model_type='umt5' is not a CLIP or T5 text encoder"),
    ({"feed_forward_proj": "gated-silu"}, "here: feed_forward_proj='gated-silu' is not supported"),
    ({"dense_act_fn": "gelu"}, "here: dense_act_fn='gelu' is not supported"),
    ({"is_gated_act": False}, "here: is_gated_act=False is not supported"),
  ],
)
def test_a_config_of_another_encoder_is_refused(change, message):
  with pytest.raises(ValueError, match=message):
    configs.text_from_json({**configs.text_to_json(GATED), **change}, "here")


def test_a_config_that_says_little_means_the_defaults_of_transformers():
  assert configs.text_from_json({"model_type": "t5", "dtype": "float16"}, "here") == t5.T5Config()
  found = configs.text_from_json({"model_type": "clip_text_model", "eos_token_id": None}, "here")
  assert found == clip.TextConfig()


def test_a_model_with_t5_is_written_part_by_part(tmp_path):
  config = dataclasses.replace(
    PRESETS["tiny"], in_channels=4, temporal="none", vector_size=0, vector_embed_dim=256
  )
  net = t5.describe(GATED)
  encoders = {
    "vae": frozen.load_vae("random:tiny"),
    "text": frozen.Encoder(GATED, net, drawn(net)),
  }
  params = drawn(network(lambda rngs: UNet(config, rngs)))
  generation = export.Generation(num_frames=1, height=16, width=24, fps=4.0)
  tokenizer = tokenizers.load("random:tiny")
  export.export_pipeline(tmp_path, config, params, encoders, generation, tokenizer=tokenizer)
  index = json.loads((tmp_path / "model_index.json").read_text())
  assert index["text_encoder"] == ["transformers", "T5EncoderModel"]
  same(encoders["text"].params, diffusers.load_text(tmp_path / "text_encoder")[1])
  with pytest.raises(ValueError, match=r"no text of the kind T5Config: export with --format=diff"):
    stability.write(tmp_path / "file", {"text": (GATED, encoders["text"].params)}, {})


def test_the_projection_of_clip_is_read_where_it_is_asked_for(tmp_path):
  params = write(tmp_path, PROJECTED)
  values = json.loads((tmp_path / "config.json").read_text())
  assert values["architectures"] == ["CLIPTextModelWithProjection"]
  loaded = frozen.load_clip_text(str(tmp_path))
  assert loaded.config == PROJECTED
  same(params, {name: np.asarray(value) for name, value in loaded.params.items()})
  context = frozen.load_text(str(tmp_path))
  assert context.config == clip.TINY_TEXT
  assert context.params.keys() == params.keys() - {"projection.kernel"}


def test_the_config_of_both_towers_gives_the_shared_width():
  both = {
    "model_type": "clip",
    "projection_dim": 24,
    "text_config": {**configs.text_to_json(clip.TINY_TEXT), "projection_dim": 512},
    "vision_config": configs.vision_to_json(clip.TINY_VISION),
  }
  assert configs.clip_text_from_json(both, "here") == PROJECTED
  assert configs.text_from_json(both, "here") == clip.TINY_TEXT
  assert configs.vision_from_json(both, "here").projection_dim == 24
  with pytest.raises(ValueError, match="here: model_type='t5' is not a CLIP text encoder"):
    configs.clip_text_from_json(configs.text_to_json(GATED), "here")


def test_a_tower_without_projection_is_no_embedder(tmp_path):
  write(tmp_path, clip.TINY_TEXT)
  with pytest.raises(CheckpointError, match=r"1 missing \(text_projection.weight\)"):
    frozen.load_clip_text(str(tmp_path))
