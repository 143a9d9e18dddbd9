"""Stable Video Diffusion's conditions (2311.15127, sec. 4.2-4.3, App. D), from encoded inputs.

The same functions serve training and requests: they take what the encoders gave.
Shapes: B batch, T frames, L tokens, H W latent height and width, C channels.
"""

import jax
import jax.numpy as jnp

from vidjax.conditioning.condition import Condition

MAX_MOTION_BUCKET = 255.0


def motion_bucket(motion_score_B: jax.Array, scale: float) -> jax.Array:
  """Motion score (pixels per second on frames of short side 16) to 0..255, float32.

  SVD's own map is not published; this one is linear and clipped, with `scale` from the config.
  """
  return jnp.clip(jnp.round(motion_score_B * scale), 0.0, MAX_MOTION_BUCKET)


def vector(fps_B: jax.Array, motion_bucket_B: jax.Array, noise_aug_B: jax.Array) -> jax.Array:
  """The numbers of SVD's vector condition (B, 3) in its order; `fps` enters as fps - 1."""
  return jnp.stack([fps_B - 1.0, motion_bucket_B, noise_aug_B], axis=-1).astype(jnp.float32)


def text_to_image(text_BLC: jax.Array) -> Condition:
  """Stage I: text through cross-attention, temporal layers off."""
  return Condition(contexts=(text_BLC,), vector=None, concat=None, image_only=True)


def text_to_video(text_BLC: jax.Array, fps_B: jax.Array, motion_bucket_B: jax.Array) -> Condition:
  """Stage II: text through cross-attention; frame rate and motion in the vector."""
  return Condition(
    contexts=(text_BLC,),
    vector=vector(fps_B, motion_bucket_B, jnp.zeros_like(fps_B)),
    concat=None,
    image_only=False,
  )


def image_to_video(
  image_embedding_BC: jax.Array,
  image_latent_BHWC: jax.Array,
  num_frames: int,
  fps_B: jax.Array,
  motion_bucket_B: jax.Array,
  noise_aug_B: jax.Array,
) -> Condition:
  """Stage III: the first frame, as CLIP embedding (one token) and as latent on every frame.

  Args:
    image_embedding_BC: projected CLIP embedding of the clean frame.
    image_latent_BHWC: VAE mode of the noise-augmented frame, NOT scaled by the VAE's factor.
    num_frames: T.
    fps_B: real frame rate.
    motion_bucket_B: 0..255.
    noise_aug_B: sigma of the noise on the frame.
  """
  b, h, w, c = image_latent_BHWC.shape
  concat = jnp.broadcast_to(image_latent_BHWC[:, None], (b, num_frames, h, w, c))
  return Condition(
    contexts=(image_embedding_BC[:, None],),
    vector=vector(fps_B, motion_bucket_B, noise_aug_B),
    concat=concat,
    image_only=False,
  )


def augment(image_BHWC: jax.Array, noise_BHWC: jax.Array, noise_aug_B: jax.Array) -> jax.Array:
  """Adds noise to a frame in pixel space ([-1, 1]), SVD App. D.4."""
  return image_BHWC + noise_BHWC * noise_aug_B[:, None, None, None]
