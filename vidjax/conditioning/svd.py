"""Stable Video Diffusion's conditions (2311.15127, sec. 4.2-4.5, App. D), one function a mode.

  mode             cross-attention           vector                            concatenated
  text_to_image    text                                                        (temporal layers off)
  text_to_video    text                      fps, motion, 0
  image_to_video   first frame               fps, motion, noise_aug            first frame, on each
  multi_view       first frame               fps, motion, noise_aug, elevation first frame, on each
  interpolation    first and last frame      fps, motion, noise_aug            both in place, mask

Frames enter cross-attention as CLIP embeddings of the clean frame, one token each; concatenated as
latents (VAE mode, NOT multiplied by the VAE's scaling factor) with noise on them.

The same functions serve training and requests, from the same inputs by name (`Inputs`):

  tokens_NL           int32, what the text encoder reads
  text_NLX            what it makes of them, instead, where that is known
  fps_N               real frame rate of the clip that is made
  motion_bucket_N     0 to 255
  noise_aug_N         sigma of the noise on the given frames
  images_NHWC         first frames in [-1, 1]
  last_images_NHWC    last frames
  image_noise_NHWC    unit normal, for noise on pixels
  image_noise_N2hwZ   unit normal, for noise on the latents of first and last frame
  elevation_N         degrees of the camera above the horizon

Shapes: N clips (a batch), T frames, H W pixels, h w latent pixels, Z latent channels, L tokens,
X channels of a context.
"""

from collections.abc import Mapping
from typing import Protocol

import jax
import jax.numpy as jnp

from vidjax.conditioning.condition import Condition
from vidjax.diffusion import noise

MAX_MOTION_BUCKET = 255.0

Inputs = Mapping[str, jax.Array]


class Encoders(Protocol):
  """The frozen encoders, with weights (`vidjax.encoders.frozen.Bound`)."""

  def embed_text(self, tokens_NL: jax.Array, /) -> jax.Array:
    """Hidden states (N, L, X)."""
    ...

  def embed_image(self, image_NHWC: jax.Array, /) -> jax.Array:
    """Projected embeddings (N, X)."""
    ...

  def encode_image(self, image_NHWC: jax.Array, /) -> jax.Array:
    """Most likely latents (N, h, w, Z), not scaled."""
    ...


def motion_bucket(motion_score_N: jax.Array, scale: float) -> jax.Array:
  """Motion score (pixels per second on frames of short side 16) to 0..255, float32.

  SVD's own map is not published; this one is linear and clipped, with `scale` from the config.
  """
  return jnp.clip(jnp.round(motion_score_N * scale), 0.0, MAX_MOTION_BUCKET)


def vector(fps_N: jax.Array, motion_bucket_N: jax.Array, *others_N: jax.Array) -> jax.Array:
  """The numbers of SVD's vector condition (N, V) in its order; `fps` enters as fps - 1."""
  return jnp.stack([fps_N - 1.0, motion_bucket_N, *others_N], axis=-1).astype(jnp.float32)


def text(encoders: Encoders, inputs: Inputs) -> jax.Array:
  """Hidden states (N, L, X) of the texts, float32."""
  if "text_NLX" in inputs:
    return inputs["text_NLX"].astype(jnp.float32)
  return encoders.embed_text(inputs["tokens_NL"])


def text_to_image(encoders: Encoders, inputs: Inputs, num_frames: int) -> Condition:
  """Stage I: text through cross-attention, temporal layers off."""
  del num_frames  # the same for any
  return Condition(contexts=(text(encoders, inputs),), vector=None, concat=None, image_only=True)


def text_to_video(encoders: Encoders, inputs: Inputs, num_frames: int) -> Condition:
  """Stage II: text through cross-attention; frame rate and motion in the vector."""
  del num_frames  # the same for any
  fps_N = inputs["fps_N"]
  return Condition(
    contexts=(text(encoders, inputs),),
    vector=vector(fps_N, inputs["motion_bucket_N"], jnp.zeros_like(fps_N)),
    concat=None,
    image_only=False,
  )


def image_to_video(encoders: Encoders, inputs: Inputs, num_frames: int) -> Condition:
  """Stage III: the first frame, as embedding and as latents on every frame.

  The noise is on the frame's pixels (App. D.4).
  """
  image_NHWC, noise_aug_N = inputs["images_NHWC"], inputs["noise_aug_N"]
  noised_NHWC = augment(image_NHWC, inputs["image_noise_NHWC"], noise_aug_N)
  latent_NhwZ = encoders.encode_image(noised_NHWC)
  n, *rest = latent_NhwZ.shape
  return Condition(
    contexts=(encoders.embed_image(image_NHWC)[:, None],),
    vector=vector(inputs["fps_N"], inputs["motion_bucket_N"], noise_aug_N),
    concat=jnp.broadcast_to(latent_NhwZ[:, None], (n, num_frames, *rest)),
    image_only=False,
  )


def multi_view(encoders: Encoders, inputs: Inputs, num_frames: int) -> Condition:
  """A camera's orbit around an object, from one view of it (sec. 4.5, App. D.6).

  Image-to-video, and the elevation of the orbit. The paper embeds it by sines and cosines and
  appends them to the vector; that it enters in degrees and through the sinusoids of the vector's
  other numbers is ours.
  """
  condition = image_to_video(encoders, inputs, num_frames)
  noise_aug_N, elevation_N = inputs["noise_aug_N"], inputs["elevation_N"]
  numbers = vector(inputs["fps_N"], inputs["motion_bucket_N"], noise_aug_N, elevation_N)
  return Condition(condition.contexts, numbers, condition.concat, image_only=False)


def interpolation(encoders: Encoders, inputs: Inputs, num_frames: int) -> Condition:
  """The frames between two (App. D.5): latents of the first and the last in place, and a mask.

  The mask is one more channel, 1 where a frame is given. Elsewhere it and the latents are 0 here:
  the UNet itself puts its learned stand-in there (`UNetConfig.mask_embedding`). So a condition that
  is dropped says "no frame is given", and the stand-in is trained like any other weight.

  From the paper: 5 frames, the stand-in, the mask, noise on latents and not on pixels, both
  embeddings. Ours: the distribution of that noise, which is that of image-to-video, and the vector.
  """
  first_NHWC, last_NHWC = inputs["images_NHWC"], inputs["last_images_NHWC"]
  noise_aug_N = inputs["noise_aug_N"]
  latents_N2hwZ = _both(encoders.encode_image(first_NHWC), encoders.encode_image(last_NHWC))
  noised_N2hwZ = augment(latents_N2hwZ, inputs["image_noise_N2hwZ"], noise_aug_N)
  given_N2hwC = jnp.concatenate([noised_N2hwZ, jnp.ones_like(noised_N2hwZ[..., :1])], axis=-1)
  between = [(0, 0), (0, num_frames - 2), (0, 0), (0, 0), (0, 0)]
  start_NThwC = jnp.pad(given_N2hwC[:, :1], between)
  return Condition(
    contexts=(_both(encoders.embed_image(first_NHWC), encoders.embed_image(last_NHWC)),),
    vector=vector(inputs["fps_N"], inputs["motion_bucket_N"], noise_aug_N),
    concat=jnp.concatenate([start_NThwC, given_N2hwC[:, 1:]], axis=1),
    image_only=False,
  )


def augment(x: jax.Array, unit_noise: jax.Array, noise_aug_N: jax.Array) -> jax.Array:
  """Adds noise of sigma `noise_aug_N` to given frames: pixels in [-1, 1] or latents, (N, ...)."""
  return x + unit_noise * noise.per_sample(noise_aug_N, x)


def _both(first: jax.Array, last: jax.Array) -> jax.Array:
  """(N, 2, ...)."""
  return jnp.stack([first, last], axis=1)
