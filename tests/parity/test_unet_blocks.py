"""Blocks of the UNet against diffusers': of the video model, and of the image model."""

import functools

from diffusers.models import attention, resnet
from diffusers.models.transformers import transformer_2d, transformer_temporal
from diffusers.models.unets import unet_2d_blocks, unet_3d_blocks
import numpy as np
import pytest
import torch

from tests.parity.blocks import Blocks
from tests.parity.compare import clip, draw, frames, repeated
from vidjax.interop import names
from vidjax.models import blocks, levels
from vidjax.models.config import UNetConfig
from vidjax.nn.resblock import ResBlock

B, T, H, W, L = 2, 3, 5, 6, 4
FINE, COARSE, EMBED, CONTEXT = 32, 64, 128, 24
VIDEO = UNetConfig(
  block_out_channels=(FINE, COARSE),
  num_attention_heads=(2, 4),
  attention=(True, False),
  layers_per_block=(1, 1),
  transformer_layers_per_block=(1, 1),
  cross_attention_dims=(CONTEXT,),
)
IMAGE = UNetConfig(**{**vars(VIDEO), "temporal": "none", "vector_size": 0})


class Inputs:
  """Arrays of one test; those of PyTorch have a row for each frame."""

  def __init__(self, seed):
    self.seed, self.drawn = seed, 0
    self.emb, self.context = self.draw(B, EMBED), self.draw(B, L, CONTEXT)

  def draw(self, *shape):
    self.drawn += 1
    return draw([self.seed, self.drawn], *shape)

  def x(self, channels):
    x = self.draw(B, T, H, W, channels)
    return x + self.draw(1, T, 1, 1, channels)  # every frame and channel has its own mean


def indicator(image_only=False):
  return torch.full((B, T), float(image_only))


@pytest.fixture
def inputs(record):
  return Inputs(record.seed)


@pytest.mark.parametrize("image_only", [False, True], ids=["video", "image only"])
def test_video_blocks(record, inputs, image_only):
  """With temporal layers on, and off: PyTorch's blend then takes the spatial branch only."""
  result = Blocks(record, names.VIDEO_UNET)
  mixed = {"image_only_indicator": indicator(image_only)}
  suffix = ", image only" if image_only else ""

  def add(name, module, build, args, reference):
    call = functools.partial(_call, image_only=image_only)
    result.add(name + suffix, module, build, args, reference, call)

  for eps in (1e-5, 1e-6):
    add(
      f"ResBlock over space and time, eps {eps:.0e}",
      resnet.SpatioTemporalResBlock(FINE, COARSE, EMBED, eps=eps),
      lambda rngs, eps=eps: blocks.VideoResBlock(
        FINE, COARSE, EMBED, eps=eps, temporal=True, rngs=rngs
      ),
      (inputs.x(FINE), inputs.emb),
      lambda m, x, emb: m(frames(x), repeated(emb, T), **mixed),
    )
  add(
    "transformer over space and time, two blocks deep",
    transformer_temporal.TransformerSpatioTemporalModel(
      4, COARSE // 4, COARSE, num_layers=2, cross_attention_dim=CONTEXT
    ),
    lambda rngs: blocks.VideoTransformer(COARSE, 4, 2, (CONTEXT,), temporal=True, rngs=rngs),
    (inputs.x(COARSE), (inputs.context,)),
    lambda m, x, contexts: m(frames(x), repeated(contexts[0], T), **mixed).sample,
  )
  if not image_only:
    _add_levels(add, inputs, mixed)
  result.check()


def _add_levels(add, inputs, mixed):
  rest = (inputs.emb, (inputs.context,))
  add(
    "video down block with attention",
    unet_3d_blocks.CrossAttnDownBlockSpatioTemporal(
      FINE, FINE, EMBED, num_attention_heads=2, cross_attention_dim=CONTEXT
    ),
    lambda rngs: levels.DownBlock(VIDEO, 0, [FINE], downsample=True, rngs=rngs),
    (inputs.x(FINE), *rest),
    lambda m, x, emb, c: m(frames(x), repeated(emb, T), repeated(c[0], T), **mixed)[0],
  )
  add(
    "video down block, coarsest",
    unet_3d_blocks.DownBlockSpatioTemporal(FINE, COARSE, EMBED, add_downsample=False),
    lambda rngs: levels.DownBlock(VIDEO, 1, [FINE], downsample=False, rngs=rngs),
    (inputs.x(FINE), *rest),
    lambda m, x, emb, c: m(frames(x), repeated(emb, T), **mixed)[0],
  )
  add(
    "video middle block",
    unet_3d_blocks.UNetMidBlockSpatioTemporal(
      COARSE, EMBED, num_attention_heads=4, cross_attention_dim=CONTEXT
    ),
    lambda rngs: levels.MidBlock(VIDEO, rngs),
    (inputs.x(COARSE), *rest),
    lambda m, x, emb, c: m(frames(x), repeated(emb, T), repeated(c[0], T), **mixed),
  )
  add(
    "video up block",
    unet_3d_blocks.UpBlockSpatioTemporal(FINE, COARSE, COARSE, EMBED, num_layers=2),
    lambda rngs: levels.UpBlock(VIDEO, 1, [2 * COARSE, COARSE + FINE], upsample=True, rngs=rngs),
    ((inputs.x(COARSE), inputs.x(COARSE), inputs.x(FINE)), *rest),
    lambda m, x, emb, c: m(*_with_skips(x), repeated(emb, T), **mixed),
  )
  add(
    "video up block with attention",
    unet_3d_blocks.CrossAttnUpBlockSpatioTemporal(
      FINE,
      FINE,
      COARSE,
      EMBED,
      num_layers=2,
      num_attention_heads=2,
      cross_attention_dim=CONTEXT,
      add_upsample=False,
    ),
    lambda rngs: levels.UpBlock(VIDEO, 0, [COARSE + FINE, 2 * FINE], upsample=False, rngs=rngs),
    ((inputs.x(COARSE), inputs.x(FINE), inputs.x(FINE)), *rest),
    lambda m, x, emb, c: m(*_with_skips(x), repeated(emb, T), repeated(c[0], T), **mixed),
  )


def test_parts_of_video_blocks(record, inputs):
  result = Blocks(record, names.VIDEO_UNET)
  for eps in (1e-5, 1e-6):
    result.add(
      f"ResBlock over time, eps {eps:.0e}",
      resnet.TemporalResnetBlock(COARSE, COARSE, EMBED, eps=eps),
      lambda rngs, eps=eps: ResBlock(COARSE, COARSE, EMBED, eps=eps, temporal=True, rngs=rngs),
      (inputs.x(COARSE), inputs.emb),
      lambda m, x, emb: m(clip(x).transpose(1, 2), repeated(emb, T).reshape(B, T, EMBED)).transpose(
        1, 2
      ),
    )
  x_BTSC = inputs.x(COARSE).reshape(B, T, H * W, COARSE)
  result.add(
    "transformer block over time",
    attention.TemporalBasicTransformerBlock(COARSE, COARSE, 4, COARSE // 4, CONTEXT),
    lambda rngs: blocks.TransformerBlock(COARSE, 4, (CONTEXT,), temporal=True, rngs=rngs),
    (x_BTSC, (inputs.context,)),
    lambda m, x, contexts: m(torch.tensor(x).flatten(0, 1), T, repeated(contexts[0], H * W)),
  )
  result.check()


def test_image_blocks(record, inputs):
  result = Blocks(record, names.IMAGE_UNET)
  for eps, channels in ((1e-5, FINE), (1e-6, COARSE)):
    result.add(
      f"ResBlock over space, eps {eps:.0e}",
      resnet.ResnetBlock2D(in_channels=channels, out_channels=COARSE, temb_channels=EMBED, eps=eps),
      lambda rngs, eps=eps, c=channels: ResBlock(c, COARSE, EMBED, eps=eps, rngs=rngs),
      (inputs.x(channels), inputs.emb),
      lambda m, x, emb: m(frames(x), repeated(emb, T)),
    )
  result.add(
    "transformer block over space",
    attention.BasicTransformerBlock(COARSE, 4, COARSE // 4, cross_attention_dim=CONTEXT),
    lambda rngs: blocks.TransformerBlock(COARSE, 4, (CONTEXT,), rngs=rngs),
    (inputs.x(COARSE).reshape(B, T, H * W, COARSE), (inputs.context,)),
    lambda m, x, contexts: m(
      torch.tensor(x).flatten(0, 1), encoder_hidden_states=repeated(contexts[0], T)
    ),
  )
  linear = {"use_linear_projection": True}
  result.add(
    "transformer over space",
    transformer_2d.Transformer2DModel(
      4, COARSE // 4, COARSE, cross_attention_dim=CONTEXT, **linear
    ),
    lambda rngs: blocks.VideoTransformer(COARSE, 4, 1, (CONTEXT,), temporal=False, rngs=rngs),
    (inputs.x(COARSE), (inputs.context,)),
    lambda m, x, contexts: m(frames(x), repeated(contexts[0], T), return_dict=False)[0],
    functools.partial(_call, image_only=False),
  )
  shape = {"resnet_eps": 1e-5, "cross_attention_dim": CONTEXT, **linear}
  rest = (inputs.emb, (inputs.context,))

  def add(name, module, build, x, reference):
    call = functools.partial(_call, image_only=False)
    result.add(name, module, build, (x, *rest), reference, call)

  add(
    "image down block with attention",
    unet_2d_blocks.CrossAttnDownBlock2D(FINE, FINE, EMBED, num_attention_heads=2, **shape),
    lambda rngs: levels.DownBlock(IMAGE, 0, [FINE], downsample=True, rngs=rngs),
    inputs.x(FINE),
    lambda m, x, emb, c: m(frames(x), repeated(emb, T), repeated(c[0], T))[0],
  )
  add(
    "image down block, coarsest",
    unet_2d_blocks.DownBlock2D(FINE, COARSE, EMBED, resnet_eps=1e-5, add_downsample=False),
    lambda rngs: levels.DownBlock(IMAGE, 1, [FINE], downsample=False, rngs=rngs),
    inputs.x(FINE),
    lambda m, x, emb, c: m(frames(x), repeated(emb, T))[0],
  )
  add(
    "image middle block",
    unet_2d_blocks.UNetMidBlock2DCrossAttn(COARSE, EMBED, num_attention_heads=4, **shape),
    lambda rngs: levels.MidBlock(IMAGE, rngs),
    inputs.x(COARSE),
    lambda m, x, emb, c: m(frames(x), repeated(emb, T), encoder_hidden_states=repeated(c[0], T)),
  )
  add(
    "image up block",
    unet_2d_blocks.UpBlock2D(FINE, COARSE, COARSE, EMBED, num_layers=2, resnet_eps=1e-5),
    lambda rngs: levels.UpBlock(IMAGE, 1, [2 * COARSE, COARSE + FINE], upsample=True, rngs=rngs),
    (inputs.x(COARSE), inputs.x(COARSE), inputs.x(FINE)),
    lambda m, x, emb, c: m(*_with_skips(x), repeated(emb, T)),
  )
  add(
    "image up block with attention",
    unet_2d_blocks.CrossAttnUpBlock2D(
      FINE, FINE, COARSE, EMBED, num_layers=2, num_attention_heads=2, add_upsample=False, **shape
    ),
    lambda rngs: levels.UpBlock(IMAGE, 0, [COARSE + FINE, 2 * FINE], upsample=False, rngs=rngs),
    (inputs.x(COARSE), inputs.x(FINE), inputs.x(FINE)),
    lambda m, x, emb, c: m(*_with_skips(x), repeated(emb, T), repeated(c[0], T)),
  )
  result.check()


def _call(block, x, *rest, image_only):
  """Runs one of our blocks; levels take skips, and return them."""
  if isinstance(block, levels.UpBlock):
    x, *skips = x
    return block(x, skips, *rest, None, image_only=image_only)
  y = block(x, *rest, image_only=image_only)
  return y[0] if isinstance(y, tuple) else y


def _with_skips(x: tuple[np.ndarray, ...]):
  """The input of an up block there, and its skips, which it takes from the end."""
  first, *skips = (frames(array) for array in x)
  return first, tuple(reversed(skips))
