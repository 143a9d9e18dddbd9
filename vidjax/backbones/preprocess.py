"""What each feature network is given: from frames in [0, 255] to its own input.

Resizes and scales are part of a published number: a distance between the same videos differs by a
tenth with another resize. All take and give float32 (B, T, H, W, 3), RGB in [0, 255], and run on
devices, but for `clip_pictures`, which needs PIL's rounding to bytes and runs on the host.

B clips, T frames, H W pixels, C channels.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from vidjax.backbones import c3d, i3d, inception, videomae
from vidjax.backbones.resampling import (
  antialiased_cubic,
  corners,
  half_pixel,
  legacy,
  resize,
)
from vidjax.encoders import clip

CLIP_SIDE = 224


def i3d_tensorflow(x_BTHWC: jax.Array) -> jax.Array:
  """Squashed to 224 x 224 by TensorFlow 1's bilinear, then [-1, 1].

  Source: google-research, `frechet_video_distance.preprocess`.
  """
  return 2 * resize(x_BTHWC, (i3d.SIZE, i3d.SIZE), legacy) / 255 - 1


def i3d_squash(x_BTHWC: jax.Array) -> jax.Array:
  """Squashed to 224 x 224 by PyTorch's bilinear, then [-1, 1].

  Source: what StyleGAN-V's `i3d_torchscript.pt` does with rescale=True and resize=True, and TATS
  and cd-fvd before theirs.
  """
  return 2 * resize(x_BTHWC, (i3d.SIZE, i3d.SIZE), half_pixel) / 255 - 1


def i3d_short_side(x_BTHWC: jax.Array) -> jax.Array:
  """Short side to 224 by PyTorch's bilinear, the long one rounded up; middle cut out; [-1, 1].

  Source: VideoGPT, `fvd.preprocess`.
  """
  height, width = x_BTHWC.shape[2:4]
  scale = i3d.SIZE / min(height, width)
  size = (
    (i3d.SIZE, math.ceil(width * scale))
    if height < width
    else (math.ceil(height * scale), i3d.SIZE)
  )
  x_BTHWC = centre_crop(resize(x_BTHWC, size, half_pixel), (i3d.SIZE, i3d.SIZE))
  return 2 * x_BTHWC / 255 - 1


def bicubic(x_BTHWC: jax.Array, size: tuple[int, int]) -> jax.Array:
  """Resized to `size` by antialiased bicubic, within [0, 255]."""
  return jnp.clip(resize(x_BTHWC, size, antialiased_cubic), 0, 255)


def videomae_frames(x_BTHWC: jax.Array) -> jax.Array:
  """Squashed to 224 x 224 by PyTorch's bilinear, then [0, 1], without mean or deviation.

  Source: cd-fvd, `preprocess_videomae`.
  """
  size = videomae.Config().size
  return resize(x_BTHWC, (size, size), half_pixel) / 255


def c3d_frames(x_BTHWC: jax.Array) -> jax.Array:
  """BGR in [-128, 128], squashed to 112 x 112 between corners; C3D takes the mean off itself.

  Source: TGAN2, `C3DVersion1UCF101`.
  """
  x_BTHWC = 128 * (x_BTHWC / 127.5 - 1)
  return resize(x_BTHWC[..., ::-1], (c3d.SIZE, c3d.SIZE), corners)


def inception_tensorflow(x_BTHWC: jax.Array) -> jax.Array:
  """Squashed to 299 x 299 by TensorFlow 1's bilinear, then (x - 128) / 128, as the graph does.

  Source: torch-fidelity, `FeatureExtractorInceptionV3`.
  """
  return (resize(x_BTHWC, (inception.SIZE, inception.SIZE), legacy) - 128) / 128


def inception_torch(x_BTHWC: jax.Array) -> jax.Array:
  """Squashed to 299 x 299 by PyTorch's bilinear, then [-1, 1]. Source: pytorch-fid."""
  return 2 * resize(x_BTHWC, (inception.SIZE, inception.SIZE), half_pixel) / 255 - 1


def inception_clean(x_BTHWC: jax.Array) -> jax.Array:
  """Squashed to 299 x 299 by PIL's bicubic on floating-point numbers, then (x - 128) / 128.

  Antialiased, and not rounded to bytes between, so that it needs no host. Source: clean-fid
  (arXiv 2104.11222), mode "clean".
  """
  return (bicubic(x_BTHWC, (inception.SIZE, inception.SIZE)) - 128) / 128


def clip_pictures(video_BTHWC: np.ndarray) -> np.ndarray:
  """CLIP's view of frames, on the host: short side bicubic to 224 as PIL does it, middle cut out.

  Args:
    video_BTHWC: in [0, 255], rounded to bytes first.

  Returns:
    float32 (B, T, 224, 224, 3), whole numbers in [0, 255].
  """
  video_BTHWC = np.asarray(video_BTHWC)
  if video_BTHWC.dtype != np.uint8:
    video_BTHWC = np.clip(np.rint(video_BTHWC), 0, 255).astype(np.uint8)
  batch, frames = video_BTHWC.shape[:2]
  made = np.empty((batch, frames, CLIP_SIDE, CLIP_SIDE, 3), np.float32)
  for b in range(batch):
    for t in range(frames):
      made[b, t] = _clip_picture(video_BTHWC[b, t])
  return made


def clip_pixels(x_BTHWC: jax.Array) -> jax.Array:
  """What `clip_pictures` made, with CLIP's mean and deviation."""
  mean, std = (
    jnp.asarray(v, jnp.float32).reshape(1, 1, 1, 1, 3) for v in (clip.PIXEL_MEAN, clip.PIXEL_STD)
  )
  return (x_BTHWC / 255 - mean) / std


def centre_crop(x_BTHWC: jax.Array, size: tuple[int, int]) -> jax.Array:
  """The middle of frames, (h, w); where it is off by half a pixel, the upper or left one."""
  height, width = x_BTHWC.shape[2:4]
  top, left = (height - size[0]) // 2, (width - size[1]) // 2
  return x_BTHWC[:, :, top : top + size[0], left : left + size[1]]


def _clip_picture(frame_HWC: np.ndarray) -> np.ndarray:
  height, width = frame_HWC.shape[:2]
  side, short = CLIP_SIDE, min(height, width)
  size = (int(side * width / short), int(side * height / short))  # PIL's order: width first
  scaled = Image.fromarray(frame_HWC).resize(size, Image.Resampling.BICUBIC)
  left, top = round((size[0] - side) / 2), round((size[1] - side) / 2)
  return np.asarray(scaled.crop((left, top, left + side, top + side)))
