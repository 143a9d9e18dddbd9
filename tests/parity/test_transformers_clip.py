"""The CLIP towers against transformers, image preprocessing included."""

import dataclasses

import diffusers.pipelines.stable_video_diffusion.pipeline_stable_video_diffusion as svd_pipeline
import jax
import numpy as np
import pytest
import torch
import transformers
from transformers.models.clip import modeling_clip

from tests.parity.blocks import Blocks
from tests.parity.compare import BFLOAT16, MODEL, draw
from vidjax import lazy
from vidjax.encoders import clip
from vidjax.interop import configs, names
from vidjax.interop import diffusers as layout

B, L, C, VOCABULARY = 2, 20, 32, 99
SHAPE = {
  "hidden_size": C,
  "intermediate_size": 48,
  "num_hidden_layers": 2,
  "num_attention_heads": 2,
}
TEXT = {
  **SHAPE,
  "vocab_size": VOCABULARY,
  "max_position_embeddings": L,
  "projection_dim": 24,
  "bos_token_id": 0,
  "eos_token_id": 1,
}
VISION = {**SHAPE, "image_size": 224, "patch_size": 56, "projection_dim": 24}
LAYERS = names.Table((*names.CLIP_TEXT.rules, (r"^text_model\.encoder\.", "")))
faint = pytest.mark.parametrize("suffix", ["", " (faint)"], ids=["", "faint"])


def tokens(record):
  """Two texts of different length: words above 1, the end token, padding with the end token."""
  ids = np.random.default_rng([record.seed, 1]).integers(2, VOCABULARY, (B, L)).astype(np.int32)
  ids[0, 13:] = 1
  ids[1, -1] = 1
  return ids


def images(record, size):
  return np.tanh(draw([record.seed, 1], B, *size, 3))


def resized(images):
  """What SVD's pipeline hands to the image tower."""
  pixels = svd_pipeline._resize_with_antialiasing(
    torch.tensor(images).permute(0, 3, 1, 2), (224, 224)
  )
  mean, std = (torch.tensor(v)[:, None, None] for v in (clip.PIXEL_MEAN, clip.PIXEL_STD))
  return ((pixels + 1) / 2 - mean) / std


def load_with_projection(folder):
  config, params = layout.open_clip_text(folder)
  return config, lazy.read_all(params, "reading text encoder")


def run_text(config, params, ids):
  net = clip.describe_text(config)
  return jax.jit(lambda p, t: net.bind(p)(t))(params, ids)


def run_vision(config, params, images):
  net = clip.describe_vision(config)
  return jax.jit(lambda p, x: net.bind(p)(x))(params, images)


def test_layers(record):
  result = Blocks(record, LAYERS, prefix="layers.0.")
  x = draw([record.seed, 0], B, L, C)
  later = torch.full((L, L), -torch.inf).triu(1)[None, None]
  for activation in clip.ACTIVATIONS:
    for causal in (True, False):
      ours = clip.TextConfig(**{**SHAPE, "hidden_act": activation})
      result.add(
        f"CLIP layer of the {'text' if causal else 'image'} tower, {activation}",
        modeling_clip.CLIPEncoderLayer(transformers.CLIPTextConfig(**SHAPE, hidden_act=activation)),
        lambda rngs, ours=ours, causal=causal: clip.Layer(ours, causal=causal, rngs=rngs),
        (x,),
        lambda m, x, mask=later if causal else None: m(torch.tensor(x), mask),
      )
  result.check()


@faint
@pytest.mark.parametrize("activation", clip.ACTIVATIONS)
def test_text(record, save, activation, suffix):
  model = transformers.CLIPTextModel(transformers.CLIPTextConfig(**TEXT, hidden_act=activation))
  config, params = layout.load_text(save(model, [record.seed, 0], bool(suffix)))
  ids = tokens(record)
  with torch.no_grad():
    theirs = model(torch.tensor(ids).long()).last_hidden_state
  ours = run_text(config, params, ids)
  record.check(f"model: CLIP text, {activation}{suffix}", ours, theirs, MODEL)


@pytest.mark.parametrize("eos", [1, 2], ids=["first end token", "largest token"])
def test_text_embedding(record, save, eos):
  """At the end token, by either convention of transformers; of one tower and of both towers."""
  ids = tokens(record)
  shape = {**TEXT, "eos_token_id": eos}
  model = transformers.CLIPTextModelWithProjection(transformers.CLIPTextConfig(**shape))
  config, params = load_with_projection(save(model, [record.seed, 0]))
  with torch.no_grad():
    theirs = model(torch.tensor(ids).long()).text_embeds
  net = clip.describe_text(config)
  embed = jax.jit(lambda p, t: net.bind(p).embed(t))
  record.check(f"model: CLIP text embedding, end token {eos}", embed(params, ids), theirs, MODEL)

  both = transformers.CLIPModel(
    transformers.CLIPConfig(text_config=shape, vision_config=VISION, projection_dim=24)
  )
  config, params = load_with_projection(save(both, [record.seed, 2]))
  with torch.no_grad():
    theirs = both.get_text_features(torch.tensor(ids).long()).pooler_output
  ours = embed(params, ids)
  record.check(f"model: CLIP text features, end token {eos}", ours, theirs, MODEL)


@faint
@pytest.mark.parametrize("activation", clip.ACTIVATIONS)
@pytest.mark.parametrize("size", [(30, 70), (300, 480)], ids=["enlarged", "reduced"])
def test_vision(record, save, size, activation, suffix):
  shape = transformers.CLIPVisionConfig(**VISION, hidden_act=activation)
  model = transformers.CLIPVisionModelWithProjection(shape)
  config, params = layout.load_image(save(model, [record.seed, 0], bool(suffix)))
  pixels = images(record, size)
  with torch.no_grad():
    theirs = model(resized(pixels)).image_embeds
  ours = run_vision(config, params, pixels)
  what = f"model: CLIP image, {activation}, {size[0]}x{size[1]} to 224x224{suffix}"
  record.check(what, ours, theirs, MODEL)


def test_bfloat16_deviates_by_a_bounded_share(record, save):
  model = transformers.CLIPTextModel(transformers.CLIPTextConfig(**TEXT))
  config, params = layout.load_text(save(model, [record.seed, 0]))
  ids = tokens(record)
  with torch.no_grad():
    theirs = model(torch.tensor(ids).long()).last_hidden_state
  ours = run_text(dataclasses.replace(config, dtype="bfloat16"), params, ids)
  assert ours.dtype == np.float32
  record.check("model: CLIP text, bfloat16 against float32", ours, theirs, BFLOAT16)

  model = transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(**VISION))
  config, params = layout.load_image(save(model, [record.seed, 0]))
  pixels = images(record, (30, 70))
  with torch.no_grad():
    theirs = model(resized(pixels)).image_embeds
  ours = run_vision(dataclasses.replace(config, dtype="bfloat16"), params, pixels)
  assert ours.dtype == np.float32
  record.check("model: CLIP image, bfloat16 against float32", ours, theirs, BFLOAT16)


@pytest.mark.parametrize("preset", clip.TEXT_PRESETS)
def test_text_presets_have_the_tensors_of_transformers(preset):
  config = clip.TEXT_PRESETS[preset]
  values = configs.text_to_json(config)
  kind = getattr(transformers, values["architectures"][0])
  with torch.device("meta"):
    model = kind(transformers.CLIPTextConfig(**values))
  same_tensors(model, clip.describe_text(config), names.CLIP_TEXT)


@pytest.mark.parametrize("preset", clip.VISION_PRESETS)
def test_vision_presets_have_the_tensors_of_transformers(preset):
  config = clip.VISION_PRESETS[preset]
  with torch.device("meta"):
    model = transformers.CLIPVisionModelWithProjection(
      transformers.CLIPVisionConfig(**configs.vision_to_json(config))
    )
  same_tensors(model, clip.describe_vision(config), names.CLIP_VISION)


def same_tensors(model, net, table):
  theirs = {table.modern(name): tuple(p.shape) for name, p in model.named_parameters()}
  ours = {name: names.torch_shape(name, leaf.shape) for name, leaf in net.abstract.items()}
  assert {table.pairs(ours)[name]: shape for name, shape in ours.items()} == theirs
