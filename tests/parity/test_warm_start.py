"""From Stable Diffusion in diffusers' layout to a video model that computes the same at first."""

import dataclasses

import diffusers
import jax
import numpy as np
import torch

from tests.models import describe
from tests.parity.compare import MODEL, draw, frames, repeated
from vidjax.checkpoint import warm_start
from vidjax.interop import diffusers as layout

B, T, H, W, L, CONTEXT = 2, 3, 6, 6, 5, 24


def test_stable_diffusion_becomes_an_image_to_video_model(record, save):
  """Of eight channels, three frames, a vector; only some epsilons differ from the image model's."""
  model = diffusers.UNet2DConditionModel(
    block_out_channels=(32, 64),
    down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    layers_per_block=1,
    cross_attention_dim=CONTEXT,
    attention_head_dim=(2, 4),
    use_linear_projection=True,
    upcast_attention=True,
  )
  image_config, source = layout.load_unet(save(model, [record.seed, 0]))
  config = dataclasses.replace(
    image_config, in_channels=8, temporal="resblock", vector_size=3, vector_embed_dim=8
  )
  net = describe(config)
  fresh = jax.jit(net.init)(jax.random.key(record.seed))
  params, report = warm_start(net.abstract, source, lambda names: {n: fresh[n] for n in names})
  assert report.widened == ("conv_in.kernel",)
  assert not report.dropped

  x, context = draw([record.seed, 1], B, T, H, W, 8), draw([record.seed, 2], B, L, CONTEXT)
  step, vector = np.float32([37, 981]), draw([record.seed, 3], B, 3)
  run = jax.jit(lambda params, x: net.bind(params)(x, step, (context,), vector))
  with torch.no_grad():
    theirs = model(frames(x[..., :4]), repeated(step, T), repeated(context, T)).sample
  ours = run(params, x)
  record.check("model: video UNet started from the image UNet", ours, theirs, MODEL)
  x[..., 4:] += 1
  np.testing.assert_array_equal(run(params, x), ours)
