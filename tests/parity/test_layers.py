"""Layers against PyTorch's and diffusers'."""

from diffusers.models import (
  attention,
  attention_processor,
  downsampling,
  embeddings,
  resnet,
  upsampling,
)
import jax
import numpy as np
import pytest
import torch

from tests.parity.blocks import Blocks
from tests.parity.compare import BLOCK, MODEL, clip, draw, frames
from vidjax.interop import names
from vidjax.nn import dense, embed, mix, norm, resample
from vidjax.nn.attention import Attention
from vidjax.nn.conv import Conv, TemporalConv

B, T, H, W, C = 2, 3, 5, 6, 64
TABLE = names.Table(
  ((r"\.to_out\.", ".to_out.0."), (r"\.proj\.", ".net.0.proj."), (r"\.out\.", ".net.2."))
)


class Clip(torch.nn.Module):
  """A torch layer on (B, C, T, H, W), given and returning (B, T, C, H, W)."""

  def __init__(self, layer):
    super().__init__()
    self.layer = layer

  def forward(self, x):
    return self.layer(x.transpose(1, 2)).transpose(1, 2)


def test_layers(record):
  result = Blocks(record, TABLE)
  x = draw([record.seed, 0], B, T, H, W, C)
  x += draw([record.seed, 1], 1, T, 1, 1, C)  # every frame and channel has its own mean
  tokens, context = draw([record.seed, 2], B, 7, C), draw([record.seed, 3], B, 5, 24)
  image = lambda module, x: module(frames(x))  # noqa: E731
  video = lambda module, x: Clip(module)(clip(x))  # noqa: E731
  for eps in (1e-5, 1e-6):
    result.add(
      f"GroupNorm of each frame, eps {eps:.0e}",
      torch.nn.GroupNorm(32, C, eps=eps),
      lambda rngs, eps=eps: norm.GroupNorm(C, eps=eps),
      (x,),
      image,
    )
    result.add(
      f"GroupNorm over t, h, w, eps {eps:.0e}",
      torch.nn.GroupNorm(32, C, eps=eps),
      lambda rngs, eps=eps: norm.GroupNorm(C, eps=eps, over_time=True),
      (x,),
      video,
    )
  result.add(
    "LayerNorm",
    torch.nn.LayerNorm(C),
    lambda rngs: norm.LayerNorm(C),
    (tokens,),
    lambda module, x: module(torch.tensor(x)),
  )
  result.add(
    "Conv", torch.nn.Conv2d(C, 32, 3, padding=1), lambda rngs: Conv(C, 32, rngs=rngs), (x,), image
  )
  result.add(
    "TemporalConv",
    torch.nn.Conv3d(C, 32, (3, 1, 1), padding=(1, 0, 0)),
    lambda rngs: TemporalConv(C, 32, rngs=rngs),
    (x,),
    video,
  )
  result.add(
    "GEGLU feed-forward",
    attention.FeedForward(C, activation_fn="geglu"),
    lambda rngs: dense.FeedForward(C, rngs=rngs),
    (tokens,),
    lambda module, x: module(torch.tensor(x)),
  )
  result.add(
    "self-attention",
    attention_processor.Attention(C, heads=4, dim_head=16),
    lambda rngs: Attention(C, 4, rngs=rngs),
    (tokens,),
    lambda module, x: module(torch.tensor(x)),
  )
  for length in (1, 5):
    result.add(
      f"cross-attention to {length} tokens",
      attention_processor.Attention(C, 24, heads=4, dim_head=16),
      lambda rngs: Attention(C, 4, context_channels=24, rngs=rngs),
      (tokens, context[:, :length]),
      lambda module, x, context: module(torch.tensor(x), torch.tensor(context)),
    )
  for padding, symmetric in ((1, True), (0, False)):
    result.add(
      f"Downsample, padding {'on both sides' if symmetric else 'bottom and right'}",
      downsampling.Downsample2D(C, use_conv=True, padding=padding, name="op"),
      lambda rngs, symmetric=symmetric: resample.Downsample(C, symmetric=symmetric, rngs=rngs),
      (x,),
      image,
    )
  result.add(
    "Upsample",
    upsampling.Upsample2D(C, use_conv=True),
    lambda rngs: resample.Upsample(C, rngs=rngs),
    (x,),
    image,
  )
  result.add(
    "Upsample to an odd size",
    upsampling.Upsample2D(C, use_conv=True),
    lambda rngs: resample.Upsample(C, rngs=rngs),
    (x,),
    lambda module, x: module(frames(x), (9, 11)),
    lambda block, x: block(x, (9, 11)),
  )
  other = draw([record.seed, 4], *x.shape)
  result.add(
    "AlphaBlender of the UNet",
    resnet.AlphaBlender(0.5, "learned_with_images"),
    lambda rngs: mix.AlphaBlender(0.5),
    (x, other),
    lambda module, a, b: _blend(module, a, b),
  )
  result.add(
    "AlphaBlender of the temporal decoder",
    resnet.AlphaBlender(0.0, "learned", switch_spatial_to_temporal_mix=True),
    lambda rngs: mix.AlphaBlender(0.0),
    (x, other),
    lambda module, a, b: _blend(module, a, b),
    lambda block, spatial, temporal: block(temporal, spatial),
  )
  result.add(
    "embedding MLP",
    embeddings.TimestepEmbedding(32, 128, out_dim=C),
    lambda rngs: embed.EmbeddingMLP(32, 128, C, rngs=rngs),
    (draw([record.seed, 5], B, 32),),
    lambda module, x: module(torch.tensor(x)),
  )
  result.check()


def _blend(module, spatial, temporal):
  spatial, temporal = (clip(x).transpose(1, 2) for x in (spatial, temporal))
  return module(spatial, temporal, torch.zeros(B, T)).transpose(1, 2)


# A float32 angle is rounded to 1.5e-5 near 255 and to 6e-5 near 999, there as here.
NUMBERS = {
  "noise level": (np.linspace(-2, 2, 33), BLOCK),
  "frame index": (np.arange(32), BLOCK),
  "fps, motion and noise": (np.append(np.arange(256), 0.02), BLOCK),
  "step of 1000": (np.arange(0, 1000, 37), MODEL),
}


@pytest.mark.parametrize("channels", [256, 320])
def test_sinusoid(record, channels):
  theirs = embeddings.Timesteps(channels, flip_sin_to_cos=True, downscale_freq_shift=0)
  values = {what: values.astype(np.float32) for what, (values, _) in NUMBERS.items()}
  ours = jax.jit(lambda x: jax.tree.map(lambda v: embed.sinusoid(v, channels), x))(values)
  for what, (_, bound) in NUMBERS.items():
    record.check(f"sinusoid of {what}", ours[what], theirs(torch.tensor(values[what])), bound)


def test_numbers_of_the_condition_vector_are_embedded_in_order(record):
  vector = np.abs(draw([record.seed, 7], B, 3)) * np.float32([6, 60, 0.02])
  theirs = embeddings.Timesteps(256, True, 0)(torch.tensor(vector).flatten()).reshape(B, -1)
  ours = jax.jit(lambda v: embed.embed_vector(v, 256))(vector)
  record.check("sinusoids of the condition vector, joined", ours, theirs, BLOCK)
