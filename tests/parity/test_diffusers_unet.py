"""The UNet against diffusers' UNetSpatioTemporalConditionModel and UNet2DConditionModel."""

import diffusers
import jax
import pytest
import torch

from tests.parity.compare import clip, close, draw, frames
from vidjax.interop import diffusers as layout
from vidjax.models.unet import UNet
from vidjax.nn.params import network

CONTEXT = 24


def run(folder, *inputs, **options):
  config, params = layout.load_unet(folder)
  net = network(lambda rngs: UNet(config, rngs))
  return jax.jit(lambda params, *inputs: net.bind(params)(*inputs, **options))(params, *inputs)


def video_model():
  return diffusers.UNetSpatioTemporalConditionModel(
    in_channels=8,
    block_out_channels=(32, 64),
    down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
    up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
    layers_per_block=2,
    cross_attention_dim=CONTEXT,
    num_attention_heads=(2, 4),
    addition_time_embed_dim=16,
    projection_class_embeddings_input_dim=48,
  )


@pytest.mark.parametrize(
  ("tokens", "height"),
  [pytest.param(1, 8, id="image token"), pytest.param(5, 7, id="text tokens, odd height")],
)
def test_video_unet(save, tokens, height):
  model = video_model()
  folder = save(model)
  x, context = draw(0, 2, 3, height, 6, 8), draw(1, 2, tokens, CONTEXT)
  c_noise, vector = draw(2, 2), abs(draw(3, 2, 3)) * [6, 127, 0.02]
  vector = vector.astype("float32")
  ours = run(folder, x, c_noise, (context,), vector)
  with torch.no_grad():
    theirs = model(clip(x), *(torch.tensor(a) for a in (c_noise, context, vector))).sample
  close(ours, theirs)


def test_image_unet(save):
  model = diffusers.UNet2DConditionModel(
    block_out_channels=(32, 64),
    down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    layers_per_block=2,
    cross_attention_dim=CONTEXT,
    attention_head_dim=(2, 4),
    use_linear_projection=True,
  )
  folder = save(model)
  x, context, c_noise = draw(0, 2, 1, 8, 6, 4), draw(1, 2, 5, CONTEXT), draw(2, 2)
  ours = run(folder, x, c_noise, (context,))
  with torch.no_grad():
    theirs = model(frames(x), torch.tensor(c_noise), torch.tensor(context)).sample
  close(ours, theirs)


def test_image_only_skips_the_temporal_layers_of_a_video_model(save, tmp_path):
  """With every mix factor at the spatial end, PyTorch's video model is an image model, too."""
  model = video_model()
  save(model)
  with torch.no_grad():
    for name, parameter in model.named_parameters():
      if name.endswith("mix_factor"):
        parameter.fill_(100.0)  # its sigmoid is 1
  x, context = draw(0, 2, 3, 8, 6, 8), draw(1, 2, 1, CONTEXT)
  c_noise, vector = draw(2, 2), draw(3, 2, 3)
  ours = run(tmp_path, x, c_noise, (context,), vector, image_only=True)
  with torch.no_grad():
    theirs = model(clip(x), *(torch.tensor(a) for a in (c_noise, context, vector))).sample
  close(ours, theirs)
