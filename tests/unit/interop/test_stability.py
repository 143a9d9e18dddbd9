"""Models in one file, in Stability's layout: values, and files that are wrong."""

import dataclasses
import json

import numpy as np
import pytest

from tests.models import describe
from vidjax import lazy
from vidjax.encoders import clip, frozen, vae
from vidjax.errors import CheckpointError
from vidjax.interop import diffusers, export, safetensors, stability
from vidjax.models.unet import PRESETS

# Heads are 64 wide and levels have two blocks, as in all of Stability's models.
SMALL = dataclasses.replace(
  PRESETS["svd"],
  block_out_channels=(64, 128),
  num_attention_heads=(1, 2),
  attention=(True, False),
  layers_per_block=(2, 2),
  transformer_layers_per_block=(1, 1),
  cross_attention_dims=(32,),
)
SMALL_IMAGE = dataclasses.replace(SMALL, in_channels=4, temporal="none", vector_size=0)
SMALL_VAE = vae.VAEConfig(block_out_channels=(32, 32), use_post_quant_conv=False)
SMALL_VISION = clip.VisionConfig(64, 96, 32, 2, 1, 28, 14, "gelu")
SMALL_TEXT = clip.TextConfig(70, 64, 96, 3, 1, 8, "gelu")
GENERATION = export.Generation(num_frames=4, height=16, width=16, fps=7.0)


def draw(abstract, seed=0):
  """Every bit pattern counts: among the values are -0, subnormal ones, infinity and NaN."""
  rng = np.random.default_rng(seed)
  special = np.array([-0.0, 1e-42, np.inf, np.nan], np.float32)
  params = {}
  for name, leaf in abstract.items():
    value = rng.standard_normal(leaf.shape, np.float32)
    value.reshape(-1)[: min(4, value.size)] = special[: min(4, value.size)]
    params[name] = value
  return params


def same(left, right):
  assert left.keys() == right.keys()
  for name, value in left.items():
    assert lazy.same_bits(np.asarray(value), np.asarray(right[name])), name


def encoder(config, describe_encoder, seed):
  net = describe_encoder(config)
  return frozen.Encoder(config, net, draw(net.abstract, seed))


@pytest.fixture(scope="module")
def video_model():
  """A reduced Stable Video Diffusion: config, parameters, encoders."""
  encoders = {
    "vae": encoder(SMALL_VAE, vae.describe, 1),
    "image": encoder(SMALL_VISION, clip.describe_vision, 2),
  }
  return SMALL, draw(describe(SMALL).abstract), encoders


@pytest.fixture(scope="module")
def image_model():
  """A reduced Stable Diffusion 2.1."""
  encoders = {
    "vae": encoder(dataclasses.replace(SMALL_VAE, use_post_quant_conv=True), vae.describe, 1),
    "text": encoder(SMALL_TEXT, clip.describe_text, 2),
  }
  return SMALL_IMAGE, draw(describe(SMALL_IMAGE).abstract), encoders


# --- Values --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["video_model", "image_model"])
def test_a_whole_model_survives_both_layouts(tmp_path, request, kind):
  """diffusers -> Stability -> diffusers: the same bytes; and here the same bits."""
  config, params, encoders = request.getfixturevalue(kind)
  export.export_pipeline(tmp_path / "a", config, params, encoders, GENERATION)
  opened = diffusers.open_pipeline(tmp_path / "a")
  path = stability.write(tmp_path, opened, {})
  file = stability.open_file(path)
  back = {name: file.open(name) for name in file.kinds}
  assert back.keys() == opened.keys()
  for name, (part_config, weights) in back.items():
    assert part_config == opened[name][0]
    same(opened[name][1], weights)
  same(params, back["unet"][1])
  again = {
    name: frozen.Encoder(part_config, None, weights)
    for name, (part_config, weights) in back.items()
    if name != "unet"
  }
  export.export_pipeline(tmp_path / "b", *back["unet"], again, GENERATION)
  weights = sorted((tmp_path / "a").rglob("*.safetensors"))
  assert len(weights) == 3
  for left in weights:
    right = tmp_path / "b" / left.relative_to(tmp_path / "a")
    assert left.read_bytes() == right.read_bytes(), left


def tensors_of(path):
  return {name: tensor.read() for name, tensor in safetensors.read_file(path)[0].items()}


def test_prefixes_are_those_of_generative_models(tmp_path, video_model, image_model):
  """The condition of an image-to-video model has an encoder of its own, with the quant_conv."""
  config, params, encoders = video_model
  found = tensors_of(export.export_file(tmp_path, config, params, encoders, GENERATION, {}))
  assert {name.split(".")[0] for name in found} == {"model", "first_stage_model", "conditioner"}
  assert "conditioner.embedders.3.encoder.quant_conv.weight" in found
  assert "first_stage_model.quant_conv.weight" not in found
  assert not any(name.startswith("conditioner.embedders.3.encoder.decoder") for name in found)
  inside = "conditioner.embedders.3.encoder.encoder."
  copied = {n.removeprefix(inside): v for n, v in found.items() if n.startswith(inside)}
  first = "first_stage_model.encoder."
  same(copied, {n.removeprefix(first): v for n, v in found.items() if n.startswith(first)})
  assert "first_stage_model.decoder.conv_out.time_mix_conv.weight" in found
  assert "conditioner.embedders.0.open_clip.model.visual.proj" in found

  config, params, encoders = image_model
  found = tensors_of(export.export_file(tmp_path, config, params, encoders, GENERATION, {}))
  assert {name.split(".")[0] for name in found} == {
    "model",
    "first_stage_model",
    "cond_stage_model",
  }
  assert "first_stage_model.post_quant_conv.bias" in found
  fused = found["cond_stage_model.model.transformer.resblocks.1.attn.in_proj_weight"]
  for part, name in zip(np.split(fused, 3), "qkv", strict=True):
    kernel = encoders["text"].params[f"layers.1.attn.to_{name}.kernel"]
    np.testing.assert_array_equal(part, kernel.T)


def strip_header(path):
  """Makes a file as others write it: without a word from us, and with what we do not need."""
  found = tensors_of(path)
  found |= {
    "model_ema.decay": np.zeros((), np.float32),
    "alphas_cumprod": np.zeros(10, np.float32),
    "conditioner.embedders.0.open_clip.model.logit_scale": np.zeros((), np.float32),
    "conditioner.embedders.3.encoder.decoder.conv_in.bias": np.zeros(3, np.float32),
  }
  write(path, found)


def write(path, found):
  specs = {name: (value.dtype, value.shape) for name, value in found.items()}
  safetensors.write(path.parent, path.stem, specs, found.__getitem__)


def test_files_of_others_are_understood_by_their_shapes(tmp_path, video_model, image_model):
  config, params, encoders = video_model
  path = export.export_file(tmp_path, config, params, encoders, GENERATION, {})
  strip_header(path)
  file = stability.open_file(path)
  assert file.kinds == ["unet", "vae", "image"]
  assert file.open("unet")[0] == config
  same(file.open("unet")[1], params)
  assert file.open("vae")[0] == dataclasses.replace(SMALL_VAE, temporal_decoder=True)
  assert file.open("image")[0] == SMALL_VISION
  same(file.open("image")[1], encoders["image"].params)

  config, params, encoders = image_model
  path = export.export_file(tmp_path, config, params, encoders, GENERATION, {})
  strip_header(path)
  file = stability.open_file(path)
  assert file.open("unet")[0] == config
  # One layer less: those who publish a tower publish all of it, and the last one is not used.
  text, values = file.open("text")
  assert text == dataclasses.replace(SMALL_TEXT, num_hidden_layers=2)
  assert "layers.2.norm1.bias" not in values
  same(values, {name: encoders["text"].params[name] for name in values})


def test_an_autoencoder_by_itself_is_understood(tmp_path):
  params = draw(vae.describe(SMALL_VAE).abstract)
  path = stability.write(tmp_path, {"vae": (SMALL_VAE, params)}, {})
  found = {n.removeprefix("first_stage_model."): v for n, v in tensors_of(path).items()}
  write(path, found)
  config, back = stability.open_file(path).open("vae")
  assert config == SMALL_VAE
  same(back, params)


@pytest.mark.parametrize("kind", [np.float16, safetensors.BFLOAT16])
def test_half_precision_becomes_float32(tmp_path, kind):
  params = draw(vae.describe(SMALL_VAE).abstract)
  path = stability.write(tmp_path, {"vae": (SMALL_VAE, params)}, {})
  write(path, {name: value.astype(kind) for name, value in tensors_of(path).items()})
  file = stability.open_file(path)
  assert file.dtypes == f"{np.dtype(kind).name} as float32"
  _, back = file.open("vae")
  same(back, {name: value.astype(kind).astype(np.float32) for name, value in params.items()})


# --- Reading parts -------------------------------------------------------------------------------


def test_only_the_rows_of_a_part_are_read(tmp_path, video_model, monkeypatch):
  config, params, encoders = video_model
  path = export.export_file(tmp_path, config, params, encoders, GENERATION, {})
  file = stability.open_file(path)
  _, unet = file.open("unet")
  _, image = file.open("image")
  read = []
  rows = safetensors.Tensor.rows
  monkeypatch.setattr(
    safetensors.Tensor,
    "rows",
    lambda self, start, stop: read.append((start, stop)) or rows(self, start, stop),
  )
  for weights, truth, name, index, expected in (
    (unet, params, "mid_block.resnets.0.spatial.conv1.kernel", np.s_[:, 1:, 3:9, 32:64], (32, 64)),
    (unet, params, "mid_block.resnets.0.temporal.conv1.kernel", np.s_[2:, :, 5:9], (5, 9)),
    (unet, params, "time_embedding.linear_1.kernel", np.s_[3:5, 64:96], (64, 96)),
    (unet, params, "time_embedding.linear_1.bias", np.s_[8:16], (8, 16)),
    (image, encoders["image"].params, "layers.1.attn.to_k.kernel", np.s_[:, 16:32], (80, 96)),
    (image, encoders["image"].params, "layers.1.attn.to_v.bias", np.s_[16:32], (144, 160)),
    (image, encoders["image"].params, "projection.kernel", np.s_[10:20, 4:], (10, 20)),
    (image, encoders["image"].params, "position_embedding.embedding", np.s_[1:3, 4:], (1, 3)),
  ):
    assert lazy.same_bits(weights[name][index], truth[name][index]), name
    assert read.pop() == expected, name


# --- Files that are wrong ------------------------------------------------------------------------


@pytest.fixture
def file_of_tensors(tmp_path, video_model):
  """Path of a whole model without our header, and its tensors."""
  config, params, encoders = video_model
  path = export.export_file(tmp_path, config, params, encoders, GENERATION, {})
  strip_header(path)
  return path, tensors_of(path)


def test_missing_unknown_and_misshapen_tensors_are_named(file_of_tensors):
  path, found = file_of_tensors
  del found["model.diffusion_model.out.0.bias"]
  found["model.diffusion_model.input_blocks.1.0.lora.weight"] = np.zeros(3, np.float32)
  found["model.diffusion_model.time_embed.2.bias"] = np.zeros(7, np.float32)
  found["model.diffusion_model.time_embed.2.weight"] = np.zeros((256, 256), np.int64)
  write(path, found)
  with pytest.raises(CheckpointError) as error:
    stability.open_file(path).open("unet")
  for text in (
    "1 missing (out.0.bias)",
    "1 unknown (input_blocks.1.0.lora.weight)",
    "time_embed.2.bias is (7,) in the file, (256,) by the config",
    "time_embed.2.weight is int64, not a float",
    "copy all of its files",
    str(path),
  ):
    assert text in str(error.value)


def test_tensors_of_other_models_are_named(file_of_tensors):
  path, found = file_of_tensors
  write(path, {**found, "text_encoders.t5xxl.shared": np.zeros(3, np.float32)})
  with pytest.raises(ValueError, match=r"1 unknown tensors \(text_encoders.t5xxl.shared\); known"):
    stability.open_file(path)
  write(path, {"lora_unet.up": np.zeros(3, np.float32)})
  with pytest.raises(ValueError, match=r"not a model in Stability's layout.*name its folder"):
    stability.open_file(path)


def test_a_part_that_is_not_there_is_named(file_of_tensors):
  path, found = file_of_tensors
  with pytest.raises(ValueError, match=r"has no tensors cond_stage_model.model.\*.*so no text"):
    stability.open_file(path).open("text")
  write(path, {n: v for n, v in found.items() if "input_blocks.0.0" not in n})
  with pytest.raises(ValueError, match=r"has no tensor input_blocks.0.0.weight: it is cut down"):
    stability.open_file(path).open("unet")
  write(path, {n: v for n, v in found.items() if "embedders.3" not in n})
  with pytest.raises(CheckpointError, match=r"2 missing \(quant_conv.bias, quant_conv.weight\)"):
    stability.open_file(path).open("vae")


def test_a_header_that_contradicts_the_weights_is_refused(tmp_path):
  params = draw(vae.describe(SMALL_VAE).abstract)
  path = stability.write(tmp_path, {"vae": (SMALL_VAE, params)}, {})
  tensors, metadata = safetensors.read_file(path)
  header = json.loads(metadata["vidjax"])
  header["parts"]["vae"]["latent_channels"] = 8
  specs = {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()}
  values = tensors_of(path)
  safetensors.write(
    tmp_path, "model", specs, values.__getitem__, metadata={"vidjax": json.dumps(header)}
  )
  with pytest.raises(
    CheckpointError,
    match=r"decoder.conv_in.weight is \(32, 4, 3, 3\) in the file,"
    r" \(32, 8, 3, 3\) by the config",
  ):
    stability.open_file(path).open("vae")
  safetensors.write(tmp_path, "model", specs, values.__getitem__, metadata={"vidjax": "{"})
  with pytest.raises(ValueError, match="the entry 'vidjax' of its header is broken"):
    stability.open_file(path)
