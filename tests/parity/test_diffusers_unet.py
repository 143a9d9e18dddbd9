"""The UNet against diffusers' UNetSpatioTemporalConditionModel and UNet2DConditionModel."""

import dataclasses
import functools

import diffusers
import jax
import numpy as np
import pytest
import torch

from tests.parity.compare import (
  BFLOAT16,
  FAINT,
  GRADIENT,
  MODEL,
  clip,
  draw,
  frames,
  repeated,
)
from vidjax.interop import diffusers as layout
from vidjax.interop import names
from vidjax.models.unet import UNet
from vidjax.nn.params import network

B, T, H, W, L, CONTEXT = 2, 3, 7, 6, 5, 24  # 7 is odd: resolutions do not divide


@functools.cache
def network_of(config):
  return network(lambda rngs: UNet(config, rngs))


@functools.cache
def forward(config, image_only=False):
  net = network_of(config)
  return jax.jit(lambda params, *inputs: net.bind(params)(*inputs, image_only=image_only))


@functools.cache
def with_gradients(config):
  """(params, cotangent, *inputs) -> (output, gradient of <cotangent, output> for each weight)."""
  net = network_of(config)

  def inner_product(params, cotangent, *inputs):
    y = net.bind(params)(*inputs)
    return (cotangent * y).sum(), y

  gradient = jax.grad(inner_product, has_aux=True)
  return jax.jit(lambda *args: gradient(*args)[::-1])


def video_model():
  return diffusers.UNetSpatioTemporalConditionModel(
    in_channels=8,
    block_out_channels=(64, 96),  # groups of one channel would hide every bias before a norm
    down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
    up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
    layers_per_block=1,
    cross_attention_dim=CONTEXT,
    num_attention_heads=(2, 4),
    addition_time_embed_dim=32,
    projection_class_embeddings_input_dim=96,
  )


def video_inputs(seed, faint=False):
  x = draw([seed, 1], B, T, H, W, 8) * np.float32(FAINT if faint else 1)
  vector = abs(draw([seed, 2], B, 3)) * np.float32([6, 60, 0.02])
  return x, draw([seed, 3], B), (draw([seed, 4], B, L, CONTEXT),), vector


def run_theirs(model, x, c_noise, contexts, vector):
  return model(clip(x), *(torch.tensor(a) for a in (c_noise, contexts[0], vector))).sample


@pytest.mark.parametrize("faint", [False, True], ids=["", "faint"])
def test_video_unet(record, save, faint):
  model = video_model()
  config, params = layout.load_unet(save(model, [record.seed, 0], faint))
  inputs = video_inputs(record.seed, faint)
  cotangent = draw([record.seed, 5], B, T, H, W, 4)
  # In float64, so that what is left is our rounding and not that of both.
  exact = [np.asarray(x, np.float64) for x in (inputs[0], inputs[1], inputs[2][0], inputs[3])]
  theirs = run_theirs(model.double(), *exact[:2], exact[2:3], exact[3])
  (torch.tensor(cotangent) * theirs.movedim(-3, -1)).sum().backward()

  ours, gradients = with_gradients(config)(params, cotangent, *inputs)
  suffix = " (faint)" if faint else ""
  record.check(f"model: video UNet{suffix}", ours, theirs, MODEL)
  their_weights = dict(model.named_parameters())
  pairs = layout.unet_table(config).pairs(params)
  assert set(pairs.values()) == their_weights.keys()
  # Sums that cancel, as the gradient of a mix factor does, are as exact as their terms, to 3e-7 of
  # the largest; all others to a tenth of the usual bound, since the reference does not round.
  largest = max(float(weight.grad.abs().max()) for weight in their_weights.values())
  for name, gradient in gradients.items():
    wanted = their_weights[pairs[name]].grad
    assert wanted is not None, name
    wanted = names.from_torch(name, wanted.numpy(), gradient.shape)
    record.check(
      f"model: gradients of the video UNet{suffix}", gradient, wanted, GRADIENT / 10, 3e-3 * largest
    )


def test_image_only_skips_the_temporal_layers_of_a_video_model(record, save):
  """For all clips in a program of their own, and for one of two that says so for itself."""
  model = video_model()
  config, params = layout.load_unet(save(model, [record.seed, 0]))
  inputs = video_inputs(record.seed)
  as_video = run_theirs(model, *inputs).detach()
  rows = torch.ones(B)

  def mark(module, args, kwargs):
    kwargs["image_only_indicator"].copy_(rows[:, None].expand(B, T))

  for block in model.down_blocks:  # the indicator is one tensor, handed to all blocks
    block.register_forward_pre_hook(mark, with_kwargs=True)
  as_images = run_theirs(model, *inputs).detach()
  assert ((as_images - as_video).abs().amax((1, 2, 3, 4)) > 0.1 * as_images.abs().max()).all()
  ours = forward(config, image_only=True)(params, *inputs)
  record.check("model: video UNet, image only", ours, as_images, MODEL)

  rows[1] = 0.0
  theirs = run_theirs(model, *inputs).detach()
  net = network_of(config)
  mixed = jax.jit(lambda params, rows, *inputs: net.bind(params)(*inputs, image_only=rows))
  ours = mixed(params, rows.numpy() == 1, *inputs)
  record.check("model: video UNet, an image beside a clip", ours, theirs, MODEL)


def test_bfloat16_deviates_by_a_bounded_share(record, save):
  model = video_model()
  config, params = layout.load_unet(save(model, [record.seed, 0]))
  inputs = video_inputs(record.seed)
  theirs = run_theirs(model, *inputs)
  ours = forward(dataclasses.replace(config, dtype="bfloat16"))(params, *inputs)
  assert ours.dtype == np.float32
  record.check("model: video UNet, bfloat16 against float32", ours, theirs, BFLOAT16)


@pytest.mark.parametrize("faint", [False, True], ids=["", "faint"])
def test_image_unet(record, save, faint):
  """With the options of Stable Diffusion 2.1, and depths that differ between levels."""
  model = diffusers.UNet2DConditionModel(
    block_out_channels=(32, 64),
    down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    layers_per_block=(1, 2),
    transformer_layers_per_block=(2, 1),
    cross_attention_dim=CONTEXT,
    attention_head_dim=(2, 4),
    use_linear_projection=True,
    upcast_attention=True,
  )
  config, params = layout.load_unet(save(model, [record.seed, 0], faint))
  assert config.layers_per_block == (1, 2)
  assert config.transformer_layers_per_block == (2, 1)
  x = draw([record.seed, 1], B, T, H, W, 4) * np.float32(FAINT if faint else 1)
  step, context = np.float32([37, 981]), draw([record.seed, 2], B, L, CONTEXT)
  ours = forward(config)(params, x, step, (context,))
  with torch.no_grad():
    theirs = model(frames(x), repeated(step, T), repeated(context, T)).sample
  record.check(f"model: image UNet{' (faint)' if faint else ''}", ours, theirs, MODEL)
