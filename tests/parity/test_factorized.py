"""Convolutions and attention along time against PyTorch's image model with such layers put in.

diffusers has no model with these layers. The reference is its image model, in which every
convolution is followed by torch's own along time, and every transformer block by one of diffusers'
that attends over frames.
"""

import dataclasses

import diffusers
from diffusers.models import attention, attention_processor, embeddings, resnet
from diffusers.models.transformers import transformer_2d
import jax
import numpy as np
import pytest
import torch

from tests.parity.blocks import Blocks, transplant
from tests.parity.compare import FAINT, MODEL, clip, draw, frames, randomize, repeated
from vidjax.interop import names
from vidjax.models import blocks, factorized
from vidjax.models.unet import PRESETS, UNet
from vidjax.nn.params import network

B, T, H, W, L = 2, 3, 5, 6, 4
C, EMBED, CONTEXT, POSITIONS = 64, 128, 24, 8

TABLE = names.Table(
  (
    (r"^(conv_in|conv_out)\.", r"\1.0."),
    (r"^temporal_(conv_in|conv_out)\.", r"\1.1.conv."),
    (r"\.temporal_(conv[12])\.", r".\1.1.conv."),
    (r"\.spatial\.(conv[12])\.", r".\1.0."),
    (r"\.(up|down)sample\.conv\.", r".\1samplers.0.conv.0."),
    (r"^(up|down)_blocks\.(\d+)\.temporal_conv\.", r"\1_blocks.\2.\1samplers.0.conv.1.conv."),
    (r"\.temporal_blocks\.(\d+)\.", r".transformer_blocks.\1.temporal."),
    (r"\.blocks\.(\d+)\.", r".transformer_blocks.\1.image."),
    (r"(\.temporal|^block)\.attn\.", r"\1.attn1."),
    (r"(\.temporal|^block)\.norm2\.", r"\1.norm3."),
    (r"\.position\.", ".pos_embed."),
    (r"\.cross\.1\.", ".other."),
    *names.IMAGE_UNET.rules,
  )
)


class OverTime(torch.nn.Module):
  """Convolution along time of (B * T, C, H, W)."""

  def __init__(self, channels):
    super().__init__()
    self.conv = torch.nn.Conv3d(channels, channels, (3, 1, 1), padding=(1, 0, 0))

  def forward(self, x):
    x = self.conv(x.unflatten(0, (-1, T)).transpose(1, 2))
    return x.transpose(1, 2).flatten(0, 1)


class SinusoidPosition(torch.nn.Module):
  def __init__(self, channels):
    super().__init__()
    self.sinusoid = embeddings.Timesteps(channels, True, 0)
    self.mlp = embeddings.TimestepEmbedding(channels, 4 * channels, out_dim=channels)

  def forward(self, x):
    return x + self.mlp(self.sinusoid(torch.arange(x.shape[1])))


class LearnedPosition(torch.nn.Module):
  def __init__(self, channels):
    super().__init__()
    self.table = torch.nn.Embedding(POSITIONS, channels)

  def forward(self, x):
    return x + self.table(torch.arange(x.shape[1]))


class ThenOverTime(torch.nn.Module):
  """A transformer block of the image model, then one over frames, of (B * T, S, C)."""

  def __init__(self, image, position):
    super().__init__()
    self.image = image
    self.temporal = over_frames(image.dim, image.num_attention_heads, position)

  def forward(self, x, *args, **kwargs):
    x = self.image(x, *args, **kwargs)
    x = self.temporal(x.unflatten(0, (-1, T)).transpose(1, 2).flatten(0, 1))
    return x.unflatten(0, (B, -1)).transpose(1, 2).flatten(0, 1)


class TwoContexts(attention.BasicTransformerBlock):
  """A transformer block that attends to a second context after the first."""

  def __init__(self):
    super().__init__(C, 4, C // 4, cross_attention_dim=CONTEXT)
    self.other = torch.nn.ModuleDict(
      {
        "norm": torch.nn.LayerNorm(C),
        "attn": attention_processor.Attention(C, 2 * CONTEXT, heads=4, dim_head=C // 4),
      }
    )

  def forward(self, x, first, second):
    x = x + self.attn1(self.norm1(x))
    x = x + self.attn2(self.norm2(x), first)
    x = x + self.other["attn"](self.other["norm"](x), second)
    return x + self.ff(self.norm3(x))


def over_frames(channels, heads, position):
  block = attention.BasicTransformerBlock(channels, heads, channels // heads)
  block.pos_embed = position(channels)
  return block


def factorize(model, position):
  """Puts temporal layers behind all spatial ones of an image model or block."""
  for name, child in list(model.named_children()):
    if isinstance(child, attention.BasicTransformerBlock):
      setattr(model, name, ThenOverTime(child, position))
    elif isinstance(child, torch.nn.Conv2d) and name != "conv_shortcut":
      setattr(model, name, torch.nn.Sequential(child, OverTime(child.out_channels)))
    else:
      factorize(child, position)
  return model


def test_factorized_blocks(record):
  result = Blocks(record, TABLE)
  x, emb = draw([record.seed, 0], B, T, H, W, C), draw([record.seed, 1], B, EMBED)
  context = draw([record.seed, 2], B, L, CONTEXT)
  result.add(
    "ResBlock with convolutions along time",
    factorize(resnet.ResnetBlock2D(in_channels=C, temb_channels=EMBED, eps=1e-5), None),
    lambda rngs: factorized.FactorizedResBlock(C, C, EMBED, eps=1e-5, rngs=rngs),
    (x, emb),
    lambda m, x, emb: m(frames(x), repeated(emb, T)),
    lambda block, x, emb: block(x, emb, image_only=False),
  )
  for position, learned in ((SinusoidPosition, 0), (LearnedPosition, POSITIONS)):
    result.add(
      f"attention over frames, {'learned' if learned else 'sinusoid'} positions",
      over_frames(C, 4, position),
      lambda rngs, learned=learned: factorized.FrameAttention(
        C, 4, learned_positions=learned, rngs=rngs
      ),
      (x.reshape(B, T, H * W, C),),
      lambda m, x: (
        m(torch.tensor(x).transpose(1, 2).flatten(0, 1))
        .unflatten(0, (B, H * W))
        .transpose(1, 2)
        .flatten(0, 1)
      ),
    )
  result.add(
    "transformer with attention over frames, two blocks deep",
    factorize(
      transformer_2d.Transformer2DModel(
        4, C // 4, C, num_layers=2, cross_attention_dim=CONTEXT, use_linear_projection=True
      ),
      SinusoidPosition,
    ),
    lambda rngs: factorized.FactorizedTransformer(
      C, 4, 2, (CONTEXT,), learned_positions=0, rngs=rngs
    ),
    (x, (context,)),
    lambda m, x, contexts: m(frames(x), repeated(contexts[0], T), return_dict=False)[0],
    lambda block, *args: block(*args, image_only=False),
  )
  result.check()


def test_two_contexts(record):
  result = Blocks(record, names.Table(((r"\.cross\.1\.", ".other."), *names.IMAGE_UNET.rules)))
  context = draw([record.seed, 2], B, L, CONTEXT)
  other = draw([record.seed, 3], B, L + 1, 2 * CONTEXT)
  result.add(
    "transformer block with two contexts",
    TwoContexts(),
    lambda rngs: blocks.TransformerBlock(C, 4, (CONTEXT, 2 * CONTEXT), rngs=rngs),
    (draw([record.seed, 0], B, T, H * W, C), (context, other)),
    lambda m, x, c: m(torch.tensor(x).flatten(0, 1), repeated(c[0], T), repeated(c[1], T)),
  )
  result.check()


@pytest.fixture(scope="module")
def whole():
  """The reference, and ours as one compiled program."""
  config = dataclasses.replace(
    PRESETS["pixeldance"],
    block_out_channels=(32, 64),
    num_attention_heads=(2, 4),
    attention=(True, False),
    layers_per_block=(1, 1),
    transformer_layers_per_block=(1, 1),
    cross_attention_dims=(CONTEXT,),
    learned_positions=POSITIONS,
  )
  model = diffusers.UNet2DConditionModel(
    in_channels=8,
    block_out_channels=(32, 64),
    down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    layers_per_block=1,
    cross_attention_dim=CONTEXT,
    attention_head_dim=(2, 4),
    use_linear_projection=True,
  )
  factorize(model, LearnedPosition)
  net = network(lambda rngs: UNet(config, rngs))
  return model, net, jax.jit(lambda params, *inputs: net.bind(params)(*inputs))


@pytest.mark.parametrize("faint", [False, True], ids=["", "faint"])
def test_unet(record, whole, faint):
  model, net, run = whole
  randomize(model, [record.seed, 0], faint=faint)
  x = draw([record.seed, 1], B, T, H, W, 8) * np.float32(FAINT if faint else 1)
  step, context = np.float32([37, 981]), draw([record.seed, 2], B, L, CONTEXT)
  ours = run(transplant(net, model, TABLE), x, step, (context,))
  with torch.no_grad():
    theirs = model(clip(x).flatten(0, 1), repeated(step, T), repeated(context, T)).sample
  suffix = " (faint)" if faint else ""
  record.check(f"model: UNet with layers along time{suffix}", ours, theirs, MODEL)
