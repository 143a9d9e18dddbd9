"""Models in one file, in Stability's layout: names, shapes, values, and files that are wrong."""

import dataclasses
import json

import numpy as np
import pytest
import stability_reference_names as reference

from vidjax import lazy
from vidjax.encoders import clip, frozen, vae
from vidjax.errors import CheckpointError
from vidjax.interop import diffusers, export, names, safetensors, stability, transfer
from vidjax.interop import stability_names as tables
from vidjax.interop import stability_shapes as shapes
from vidjax.models.unet import PRESETS, UNet
from vidjax.nn.params import network

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

FULL_VAE = vae.VAEConfig()
FULL_TEMPORAL_VAE = vae.VAEConfig(temporal_decoder=True, use_post_quant_conv=False)


def unet_shapes(config):
  return network(lambda rngs: UNet(config, rngs)).abstract


def torch_shapes(table, abstract):
  """Names and shapes in a file of a model whose parameters have these shapes."""
  empty = {name: np.broadcast_to(np.float32(0), leaf.shape) for name, leaf in abstract.items()}
  sources = transfer.Written(table, empty)
  return transfer.file_shapes([sources])


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


def encoder(config, describe, seed):
  net = describe(config)
  return frozen.Encoder(config, net, draw(net.abstract, seed))


@pytest.fixture(scope="module")
def video_model():
  """A reduced Stable Video Diffusion: config, parameters, encoders."""
  encoders = {
    "vae": encoder(SMALL_VAE, vae.describe, 1),
    "image": encoder(SMALL_VISION, clip.describe_vision, 2),
  }
  return SMALL, draw(unet_shapes(SMALL)), encoders


@pytest.fixture(scope="module")
def image_model():
  """A reduced Stable Diffusion 2.1."""
  encoders = {
    "vae": encoder(dataclasses.replace(SMALL_VAE, use_post_quant_conv=True), vae.describe, 1),
    "text": encoder(SMALL_TEXT, clip.describe_text, 2),
  }
  return SMALL_IMAGE, draw(unet_shapes(SMALL_IMAGE)), encoders


# --- Names, at full size -------------------------------------------------------------------------


@pytest.mark.parametrize(("preset", "count"), [("svd", 1428), ("svd_t2v", 1428), ("sd21", 686)])
def test_unet_names_are_those_of_both_code_bases(preset, count):
  config = PRESETS[preset]
  abstract = unet_shapes(config)
  theirs = torch_shapes(diffusers.unet_table(config), abstract)
  ours = torch_shapes(tables.unet_table(config), abstract)
  assert len(theirs) == count
  assert {reference.unet(name): shape for name, shape in theirs.items()} == ours
  assert shapes.unet_config(ours, "here") == config


@pytest.mark.parametrize(
  ("config", "count"), [(FULL_TEMPORAL_VAE, 374), (FULL_VAE, 248)], ids=["temporal", "image"]
)
def test_autoencoder_names_are_those_of_both_code_bases(config, count):
  abstract = vae.describe(config).abstract
  theirs = torch_shapes(diffusers.vae_table(config), abstract)
  ours = torch_shapes(tables.vae_table(config), abstract)
  assert len(theirs) == count
  expected = {reference.vae(name): shape for name, shape in theirs.items()}
  for half in ("encoder", "decoder"):
    for layer in ("q", "k", "v", "proj_out"):
      name = f"{half}.mid.attn_1.{layer}.weight"
      assert expected[name] == (512, 512)
      expected[name] = (512, 512, 1, 1)  # 1x1 convolutions there
  assert expected == ours
  assert shapes.vae_config(ours, "here") == config


def test_image_tower_names_are_those_of_openclip():
  config = clip.VisionConfig(1280, 5120, 1024, 32, 16, 224, 14, "gelu")
  found = torch_shapes(tables.vision_table(config), clip.describe_vision(config).abstract)
  assert len(found) == 8 + 32 * 12
  assert found["proj"] == (1280, 1024)
  assert found["class_embedding"] == (1280,)
  assert found["positional_embedding"] == (257, 1280)
  assert found["conv1.weight"] == (1280, 3, 14, 14)
  block = "transformer.resblocks.31"
  assert found[f"{block}.attn.in_proj_weight"] == (3840, 1280)
  assert found[f"{block}.attn.in_proj_bias"] == (3840,)
  assert found[f"{block}.attn.out_proj.weight"] == (1280, 1280)
  assert found[f"{block}.mlp.c_fc.weight"] == (5120, 1280)
  assert found[f"{block}.mlp.c_proj.bias"] == (1280,)
  assert {"ln_pre.weight", "ln_post.bias", f"{block}.ln_1.weight", f"{block}.ln_2.bias"} <= set(
    found
  )
  assert shapes.vision_config(found, "here") == config


def test_text_tower_names_are_those_of_openclip():
  config = clip.TextConfig(49408, 1024, 4096, 24, 16, 77, "gelu")
  found = torch_shapes(tables.text_table(config), clip.describe_text(config).abstract)
  assert len(found) == 4 + 24 * 12
  assert found["token_embedding.weight"] == (49408, 1024)
  assert found["positional_embedding"] == (77, 1024)
  assert found["ln_final.bias"] == (1024,)
  # A published tower has all 24 layers, and Stable Diffusion uses 23.
  assert shapes.text_config(found, "here") == dataclasses.replace(config, num_hidden_layers=23)


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


def test_levels_may_differ_in_layers_and_depth():
  config = dataclasses.replace(SMALL, layers_per_block=(1, 3), transformer_layers_per_block=(2, 1))
  found = torch_shapes(tables.unet_table(config), unet_shapes(config))
  assert shapes.unet_config(found, "here") == config
  assert "input_blocks.2.0.op.weight" in found
  assert "output_blocks.3.1.conv.weight" in found
  assert "output_blocks.5.1.transformer_blocks.1.norm1.weight" in found


def test_what_the_layout_has_no_place_for_is_refused():
  along_time = dataclasses.replace(SMALL, temporal="conv1d")
  with pytest.raises(ValueError, match="no model with these temporal layers"):
    tables.unet_table(along_time)
  two = dataclasses.replace(SMALL, cross_attention_dims=(64, 32))
  with pytest.raises(ValueError, match="one context only"):
    tables.unet_table(two)


def test_parts_of_a_tensor_come_in_their_order():
  table = names.Table(
    (((r"^([abc])$"), r"all[\1/3]"), (r"\[a", "[0"), (r"\[b", "[1"), (r"\[c", "[2"))
  )
  assert table.pairs(["a", "b", "c"]) == {"a": "all[0/3]", "b": "all[1/3]", "c": "all[2/3]"}
  values = {name: np.full((2, 3), i, np.float32) for i, name in enumerate("cab")}
  assert transfer.file_shapes([transfer.Written(table, values, "x.")]) == {"x.all": (6, 3)}
