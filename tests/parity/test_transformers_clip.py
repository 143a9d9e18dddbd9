"""The CLIP towers against transformers, image preprocessing included."""

import diffusers.pipelines.stable_video_diffusion.pipeline_stable_video_diffusion as svd_pipeline
import jax
import numpy as np
import pytest
import torch
import transformers

from tests.parity.compare import close, draw
from vidjax.encoders import clip
from vidjax.interop import diffusers as layout


@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
def test_text(save, activation):
  config = transformers.CLIPTextConfig(
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=2,
    vocab_size=99,
    max_position_embeddings=20,
    hidden_act=activation,
    bos_token_id=0,
    eos_token_id=1,
  )
  model = transformers.CLIPTextModel(config)
  ours_config, params = layout.load_text(save(model))
  net = clip.describe_text(ours_config)
  tokens = np.random.default_rng(0).integers(0, 99, (2, 20)).astype(np.int32)
  with torch.no_grad():
    theirs = model(torch.tensor(tokens).long()).last_hidden_state
  close(jax.jit(lambda p, t: net.bind(p)(t))(params, tokens), theirs)


@pytest.mark.parametrize("size", [(30, 70), (300, 480)], ids=["enlarged", "reduced"])
def test_vision(save, size):
  config = transformers.CLIPVisionConfig(
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=2,
    image_size=224,
    patch_size=56,
    projection_dim=24,
  )
  model = transformers.CLIPVisionModelWithProjection(config)
  ours_config, params = layout.load_image(save(model))
  net = clip.describe_vision(ours_config)
  images = np.tanh(draw(0, 2, *size, 3))
  resized = svd_pipeline._resize_with_antialiasing(
    torch.tensor(images).permute(0, 3, 1, 2), (224, 224)
  )
  mean, std = (torch.tensor(v)[:, None, None] for v in (clip.PIXEL_MEAN, clip.PIXEL_STD))
  with torch.no_grad():
    theirs = model(((resized + 1) / 2 - mean) / std).image_embeds
  close(jax.jit(lambda p, x: net.bind(p)(x))(params, images), theirs)
