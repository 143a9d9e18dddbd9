"""Names and shapes of models in one file, in Stability's layout, at full size."""

import dataclasses

import numpy as np
import pytest
import stability_reference_names as reference

from tests.models import describe
from vidjax.encoders import clip, vae
from vidjax.interop import diffusers, names, transfer
from vidjax.interop import stability_names as tables
from vidjax.interop import stability_shapes as shapes
from vidjax.models.unet import PRESETS

FULL_VAE = vae.VAEConfig()
FULL_TEMPORAL_VAE = vae.VAEConfig(temporal_decoder=True, use_post_quant_conv=False)


def torch_shapes(table, abstract):
  """Names and shapes in a file of a model whose parameters have these shapes."""
  empty = {name: np.broadcast_to(np.float32(0), leaf.shape) for name, leaf in abstract.items()}
  sources = transfer.Written(table, empty)
  return transfer.file_shapes([sources])


@pytest.mark.parametrize(("preset", "count"), [("svd", 1428), ("svd_t2v", 1428), ("sd21", 686)])
def test_unet_names_are_those_of_both_code_bases(preset, count):
  config = PRESETS[preset]
  abstract = describe(config).abstract
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


def test_levels_may_differ_in_layers_and_depth():
  config = dataclasses.replace(
    PRESETS["svd"],
    block_out_channels=(64, 128),
    num_attention_heads=(1, 2),
    attention=(True, False),
    layers_per_block=(1, 3),
    transformer_layers_per_block=(2, 1),
  )
  found = torch_shapes(tables.unet_table(config), describe(config).abstract)
  assert shapes.unet_config(found, "here") == config
  assert "input_blocks.2.0.op.weight" in found
  assert "output_blocks.3.1.conv.weight" in found
  assert "output_blocks.5.1.transformer_blocks.1.norm1.weight" in found


def test_what_the_layout_has_no_place_for_is_refused():
  along_time = dataclasses.replace(PRESETS["svd"], temporal="conv1d")
  with pytest.raises(ValueError, match="no model with these temporal layers"):
    tables.unet_table(along_time)
  two = dataclasses.replace(PRESETS["svd"], cross_attention_dims=(64, 32))
  with pytest.raises(ValueError, match="one context only"):
    tables.unet_table(two)


def test_parts_of_a_tensor_come_in_their_order():
  table = names.Table(
    (((r"^([abc])$"), r"all[\1/3]"), (r"\[a", "[0"), (r"\[b", "[1"), (r"\[c", "[2"))
  )
  assert table.pairs(["a", "b", "c"]) == {"a": "all[0/3]", "b": "all[1/3]", "c": "all[2/3]"}
  values = {name: np.full((2, 3), i, np.float32) for i, name in enumerate("cab")}
  assert transfer.file_shapes([transfer.Written(table, values, "x.")]) == {"x.all": (6, 3)}
