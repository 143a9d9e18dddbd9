"""Folders in the layout of diffusers, written and read back without it."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from vidjax.encoders import clip, frozen, tokenizers, vae
from vidjax.errors import CheckpointError
from vidjax.interop import configs, diffusers, export, names, safetensors
from vidjax.models.unet import PRESETS, UNet
from vidjax.nn.params import network

TINY = PRESETS["tiny"]
IMAGE = dataclasses.replace(
  TINY, in_channels=4, temporal="none", vector_size=0, vector_embed_dim=256
)
INTERPOLATION = dataclasses.replace(TINY, in_channels=17, mask_embedding=(2, 3))
MULTI_VIEW = dataclasses.replace(TINY, vector_size=4)
GENERATION = export.Generation(num_frames=4, height=16, width=24, fps=4.0)


def weights(net, seed=0):
  rng = np.random.default_rng(seed)
  return {name: rng.standard_normal(leaf.shape, np.float32) for name, leaf in net.abstract.items()}


def unet_weights(config):
  return weights(network(lambda rngs: UNet(config, rngs)))


def encoders(*kinds):
  load = {"vae": frozen.load_vae, "image": frozen.load_image, "text": frozen.load_text}
  return {kind: load[kind]("random:tiny") for kind in kinds}


@pytest.mark.parametrize("preset", ["svd", "svd_t2v", "svd_interpolation", "sd21"])
def test_configs_survive_the_round_trip(preset):
  config = PRESETS[preset]
  values = configs.unet_to_json(config, num_frames=14, sample_size=72)
  assert configs.unet_from_json(json.loads(json.dumps(values)), "here") == config


def test_the_config_of_svd_is_that_of_the_release():
  values = configs.unet_to_json(PRESETS["svd"], num_frames=25, sample_size=96)
  assert values["_class_name"] == "UNetSpatioTemporalConditionModel"
  assert values["num_attention_heads"] == [5, 10, 20, 20]
  assert values["projection_class_embeddings_input_dim"] == 768
  assert values["down_block_types"][-1] == "DownBlockSpatioTemporal"
  assert values["up_block_types"][0] == "UpBlockSpatioTemporal"


@pytest.mark.parametrize(
  "config",
  [TINY, IMAGE, INTERPOLATION, MULTI_VIEW],
  ids=["video", "image", "interpolation", "multi_view"],
)
def test_unet_survives_the_round_trip_in_shards(tmp_path, config):
  params = unet_weights(config)
  export.write_unet(tmp_path, config, params, 4, 8, max_shard_bytes=1_000_000)
  assert len(list(tmp_path.glob("*.safetensors"))) > 3
  back_config, back = diffusers.load_unet(tmp_path)
  assert back_config == config
  assert back.keys() == params.keys()
  for name, value in params.items():
    np.testing.assert_array_equal(back[name], value, err_msg=name)


def test_the_stand_in_of_an_interpolation_model_is_not_lost_without_a_word(tmp_path):
  params = unet_weights(INTERPOLATION)
  export.write_unet(tmp_path, INTERPOLATION, params, 5, 8)
  stand_in = safetensors.tensors(tmp_path, "mask_embedding")["mask_embedding.weight"].read()
  np.testing.assert_array_equal(stand_in, params["mask_embedding.embedding"])
  (tmp_path / "mask_embedding.safetensors").unlink()
  with pytest.raises(ValueError, match=r"mask_embedding.safetensors does not exist"):
    diffusers.load_unet(tmp_path)
  image = dataclasses.replace(INTERPOLATION, temporal="none", vector_size=0)
  with pytest.raises(ValueError, match=r"mask_embedding is exported with"):
    configs.unet_to_json(image, num_frames=1, sample_size=8)


@pytest.mark.parametrize("config", [INTERPOLATION, MULTI_VIEW], ids=["interpolation", "multi_view"])
def test_models_without_a_pipeline_say_how_they_are_used(tmp_path, config):
  params = unet_weights(config)
  assert not export.export_pipeline(tmp_path, config, params, encoders("vae", "image"), GENERATION)
  text = (tmp_path / "README.md").read_text()
  assert "diffusers has no pipeline for this model" in text
  assert "text_encoder" not in text
  assert ("unet/mask_embedding.safetensors" in text) == bool(config.mask_embedding)
  assert ("the elevation" in text) == (config.vector_size == 4)


@pytest.mark.parametrize(
  "config",
  [
    vae.PRESETS["tiny"],
    vae.VAEConfig(block_out_channels=(32, 32), scaling_factor=0.3),
    vae.VAEConfig(block_out_channels=(32, 32), use_post_quant_conv=False, temporal_decoder=True),
  ],
  ids=["tiny", "post_quant_conv", "temporal"],
)
def test_autoencoder_survives_the_round_trip(tmp_path, config):
  params = weights(vae.describe(config))
  export.write_vae(tmp_path / "vae", config, params, 64)
  back_config, back = diffusers.load_vae(tmp_path)  # finds the sub-folder
  assert back_config == config
  for name, value in params.items():
    np.testing.assert_array_equal(back[name], value, err_msg=name)


def test_a_text_model_is_written_part_by_part(tmp_path):
  tokenizer = tokenizers.load("random:tiny")
  parts = encoders("vae", "text")
  made = export.export_pipeline(
    tmp_path, IMAGE, unet_weights(IMAGE), parts, GENERATION, tokenizer=tokenizer
  )
  assert made is None
  index = json.loads((tmp_path / "model_index.json").read_text())
  assert index["unet"] == ["diffusers", "UNet2DConditionModel"]
  assert "diffusers has no pipeline for this model" in (tmp_path / "README.md").read_text()
  config, params = diffusers.load_text(tmp_path / "text_encoder")
  assert config == clip.TINY_TEXT
  for name, value in parts["text"].params.items():
    np.testing.assert_array_equal(params[name], value)
  assert tokenizers.load(str(tmp_path / "text_encoder")) == tokenizer


def test_old_spellings_in_files_are_understood():
  assert names.CLIP_TEXT.modern("encoder.layers.0.mlp.fc1.bias").startswith("text_model.encoder")
  assert names.CLIP_TEXT.modern("text_model.final_layer_norm.bias").count("text_model") == 1
  old = "decoder.mid_block.attentions.0.proj_attn.weight"
  assert names.IMAGE_VAE.modern(old) == "decoder.mid_block.attentions.0.to_out.0.weight"


def test_a_linear_layer_stored_as_convolution_is_understood():
  kernel = np.arange(6, dtype=np.float32).reshape(2, 3)
  stored = names.to_torch("x.kernel", kernel)[..., None, None]
  np.testing.assert_array_equal(names.from_torch("x.kernel", stored, (2, 3)), kernel)
  with pytest.raises(ValueError, match="the config says"):
    names.from_torch("x.kernel", stored, (3, 2))


def test_weights_that_do_not_fit_are_named(tmp_path):
  config = vae.PRESETS["tiny"]
  params = weights(vae.describe(config))
  export.write_vae(tmp_path, config, params, 64)
  path = tmp_path / "config.json"
  values = json.loads(path.read_text())
  path.write_text(json.dumps({**values, "use_post_quant_conv": True}))
  with pytest.raises(CheckpointError, match=r"2 missing \(post_quant_conv.bias, post_quant"):
    diffusers.load_vae(tmp_path)
  path.write_text(json.dumps({**values, "_class_name": "VQModel"}))
  with pytest.raises(ValueError, match=r"_class_name='VQModel' is not supported"):
    diffusers.load_vae(tmp_path)


@pytest.mark.parametrize(
  ("key", "value"),
  [("flip_sin_to_cos", False), ("only_cross_attention", True), ("norm_eps", 1e-6)],
)
def test_a_config_of_another_model_is_refused(key, value):
  """None of these changes a tensor: only the config tells."""
  values = configs.unet_to_json(IMAGE, num_frames=1, sample_size=8)
  assert configs.unet_from_json(values, "here") == IMAGE
  with pytest.raises(ValueError, match=f"here: {key}={value} is not supported"):
    configs.unet_from_json({**values, key: value}, "here")


def test_a_config_that_contradicts_its_weights_is_refused(tmp_path):
  params = unet_weights(IMAGE)
  export.write_unet(tmp_path, IMAGE, params, 1, 8)
  path = tmp_path / "config.json"
  values = json.loads(path.read_text())
  path.write_text(json.dumps({**values, "cross_attention_dim": 48}))
  with pytest.raises(CheckpointError) as error:
    diffusers.load_unet(tmp_path)
  for text in (
    "of another shape or kind",
    "attn2.to_k.weight is (64, 64) in the file, (64, 48) by the config",
    "Take config and weights of the same model",
    str(tmp_path),
  ):
    assert text in str(error.value)


def test_what_diffusers_has_no_class_for_is_refused():
  two = dataclasses.replace(TINY, cross_attention_dims=(64, 32))
  with pytest.raises(ValueError, match="one context only"):
    configs.unet_to_json(two, num_frames=4, sample_size=8)
  no_vector = dataclasses.replace(TINY, vector_size=0)
  with pytest.raises(ValueError, match="needs the vector"):
    configs.unet_to_json(no_vector, num_frames=4, sample_size=8)


def test_exported_arrays_may_be_on_devices(tmp_path):
  config = vae.PRESETS["tiny"]
  params = weights(vae.describe(config))
  export.write_vae(tmp_path, config, jax.device_put(params), 64)
  _, back = diffusers.load_vae(tmp_path)
  np.testing.assert_array_equal(back["decoder.conv_in.kernel"], params["decoder.conv_in.kernel"])
