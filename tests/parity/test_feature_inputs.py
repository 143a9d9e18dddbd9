"""The input chain of each feature network against the library that its source resizes with."""

import dataclasses
import functools

import jax
import numpy as np
from PIL import Image
import pytest
import torch
import torch.nn.functional as F

from tests.parity.compare import MODEL
from vidjax.backbones import extraction, preprocess, registry, resampling
from vidjax.encoders import frozen
from vidjax.evaluation import sizes
from vidjax.evaluation.named import PROTOCOLS

BYTE = 1 / 255  # what is allowed, of values in [0, 255]: the 255th part of what bytes tell apart
# PyTorch's antialiasing has its weights in float32 and PIL's in float64, which ours are.
ANTIALIASED = 3 * 255
SIZES = pytest.mark.parametrize("size", [(61, 90), (240, 320), (301, 224), (480, 360)])


def video(record, size, frames=2):
  return np.random.default_rng([record.seed, *size]).integers(
    0, 256, (1, frames, *size, 3), np.uint8
  )


def run(chain, x):
  return np.asarray(jax.jit(chain)(x.astype(np.float32)))


def there(x):
  """(B, T, H, W, C) as (B * T, C, H, W), float32."""
  return torch.tensor(x.astype(np.float32)).flatten(0, 1).permute(0, 3, 1, 2)


def back(x, like):
  return x.permute(0, 2, 3, 1).unflatten(0, like.shape[:2]).numpy()


def close(ours, theirs, scale=255.0):
  """`scale` is what [0, 255] spans in the input of the network, times the error that is allowed."""
  assert ours.shape == theirs.shape
  np.testing.assert_allclose(ours, theirs, rtol=0, atol=BYTE * scale / 255)


def legacy(x, size):
  """TensorFlow 1's kernel, pixel by pixel: in = out * old / new; rows and columns around it."""
  height, width = x.shape[2:4]
  made = np.empty((*x.shape[:2], *size, 3), np.float32)
  for i in range(size[0]):
    y = np.float32(i) * np.float32(height / size[0])
    top, bottom = int(y), min(int(y) + 1, height - 1)
    for j in range(size[1]):
      z = np.float32(j) * np.float32(width / size[1])
      left, right = int(z), min(int(z) + 1, width - 1)
      upper = x[:, :, top, left] + (x[:, :, top, right] - x[:, :, top, left]) * (z - left)
      lower = x[:, :, bottom, left] + (x[:, :, bottom, right] - x[:, :, bottom, left]) * (z - left)
      made[:, :, i, j] = upper + (lower - upper) * (y - top)
  return made


@pytest.mark.parametrize("size", [(61, 90), (301, 224)])
def test_tensorflow_1(record, size):
  x = video(record, size, frames=1)
  expected = legacy(x.astype(np.float32), (224, 224))
  close(run(preprocess.i3d_tensorflow, x), 2 * expected / 255 - 1, 2)
  expected = legacy(x.astype(np.float32), (299, 299))
  close(run(preprocess.inception_tensorflow, x), (expected - 128) / 128, 2)


@SIZES
def test_squash(record, size):
  x = video(record, size)
  for chain, side in ((preprocess.i3d_squash, 224), (preprocess.inception_torch, 299)):
    theirs = F.interpolate(there(x), (side, side), mode="bilinear", align_corners=False)
    close(run(chain, x), back(2 * theirs / 255 - 1, x), 2)


@SIZES
def test_short_side(record, size):
  x = video(record, size)
  height, width = size
  scale = 224 / min(size)
  scaled = (
    (224, int(np.ceil(width * scale))) if height < width else (int(np.ceil(height * scale)), 224)
  )
  theirs = F.interpolate(there(x), scaled, mode="bilinear", align_corners=False)
  top, left = (scaled[0] - 224) // 2, (scaled[1] - 224) // 2
  theirs = theirs[:, :, top : top + 224, left : left + 224]
  close(run(preprocess.i3d_short_side, x), back(2 * theirs / 255 - 1, x), 2)


def test_svd(record):
  x = video(record, (320, 576))
  theirs = F.interpolate(there(x), (240, 432), mode="bilinear", antialias=True)
  steps = [dataclasses.replace(s, rounded=False) for s in PROTOCOLS["svd-ucf101"].fake.size]
  chain = functools.partial(sizes.apply, steps=steps)
  close(run(chain, x), back(theirs[..., 56:376], x), ANTIALIASED)


@SIZES
def test_antialiased(record, size):
  x = video(record, size)
  for new in ((100, 130), (299, 299)):
    theirs = F.interpolate(there(x), new, mode="bicubic", antialias=True).clip(0, 255)
    close(run(functools.partial(preprocess.bicubic, size=new), x), back(theirs, x), ANTIALIASED)


@SIZES
def test_clean_fid(record, size):
  """PIL on single channels of floating-point numbers, as clean-fid calls it."""
  x = video(record, size, frames=1)
  channels = [
    np.asarray(
      Image.fromarray(x[0, 0, :, :, c].astype(np.float32)).resize(
        (299, 299), Image.Resampling.BICUBIC
      )
    )
    for c in range(3)
  ]
  expected = np.stack(channels, -1).clip(0, 255)[None, None]
  close(run(preprocess.inception_clean, x), (expected - 128) / 128, 2)


@SIZES
def test_c3d(record, size):
  x = video(record, size)
  theirs = 128 * (there(x) / 127.5 - 1)[:, [2, 1, 0]]
  theirs = F.interpolate(theirs, (112, 112), mode="bilinear", align_corners=True)
  close(run(preprocess.c3d_frames, x), back(theirs, x))


@SIZES
def test_clip(record, size):
  transformers = pytest.importorskip("transformers")
  x = video(record, size)
  processor = transformers.CLIPImageProcessor()  # PIL's: the fast one resizes with torch
  theirs = processor([Image.fromarray(frame) for frame in x[0]], return_tensors="np")
  ours = run(preprocess.clip_pixels, preprocess.clip_pictures(x))
  expected = np.moveaxis(theirs["pixel_values"], 1, -1)[None]
  close(ours, expected, 1 / 0.26)
  floats = preprocess.clip_pictures(x.astype(np.float32) + np.float32(0.3))
  np.testing.assert_array_equal(floats, preprocess.clip_pictures(x))


def test_clip_embedding(record, save, monkeypatch):
  """From frames to embeddings as transformers makes them, in a folder of its making."""
  transformers = pytest.importorskip("transformers")
  shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "patch_size": 56}
  shape |= {"num_attention_heads": 2, "projection_dim": 24, "hidden_act": "quick_gelu"}
  model = transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(**shape))
  folder = save(model, [record.seed, 0])
  row = registry.get("clip/vit-b-16")
  monkeypatch.setitem(registry._CLIP, row.name, frozen.load_image(str(folder)).config)
  registry._clip.cache_clear()
  frames = video(record, (120, 90), frames=5)[0][:, None]
  params = registry.load(row.name, folder).params
  monkeypatch.setitem(row.taps, "embedding", 24)
  ours = extraction.extract_features(row, params, frames)["embedding"]
  registry._clip.cache_clear()
  pixels = transformers.CLIPImageProcessor()(
    [Image.fromarray(frame[0]) for frame in frames], return_tensors="pt"
  )
  with torch.no_grad():
    theirs = model(**pixels).image_embeds
  record.check("CLIP's embeddings of frames", ours, theirs, MODEL)


@pytest.mark.parametrize("rule", ["legacy", "half_pixel", "corners", "antialiased_linear"])
def test_rules_keep_what_is_constant_and_what_has_the_size(rule):
  made = getattr(resampling, rule)
  np.testing.assert_allclose(made(37, 11).sum(1), 1)
  np.testing.assert_allclose(made(11, 37).sum(1), 1)
  np.testing.assert_array_equal(made(9, 9), np.eye(9))
