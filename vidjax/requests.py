"""What is asked of a `Pipeline`: checked against the model before anything is compiled.

Shapes: N clips, T frames, H W pixels, h w latent pixels, C channels, L tokens.
"""

from collections.abc import Sequence
import dataclasses
from typing import Any

import jax
import numpy as np

from vidjax.config import TrainConfig
from vidjax.diffusion import guidance, noise, process, samplers
from vidjax.encoders import tokenizers
from vidjax.encoders.frozen import Frozen

_START, _IMAGE, _STEPS = range(3)  # random streams of a request


@dataclasses.dataclass(frozen=True)
class Request:
  """What is asked for, for N clips at once; None takes the model's own value.

  Attributes:
    mode: text_to_image, text_to_video or image_to_video; the model has been trained for one.
    images_NHWC: first frames in [0, 1], for image_to_video.
    prompts: one text each, for the text modes.
    negative_prompts: one text each, which guidance leads away from; None: no text at all.
    seeds: one each; a clip is a function of its seed, not of its place in the batch.
    num_frames: T.
    height: pixels.
    width: pixels.
    fps: real frame rate of the result.
    motion_bucket_id: 0 to 255, how much moves.
    noise_aug_strength: sigma of the noise on the first frame.
    sampler: a name in `vidjax.diffusion.samplers.SAMPLERS`.
    schedule: of the noise levels (`vidjax.diffusion.process.sampling_levels`); None takes
      "karras", or "trailing" for a model of time steps.
    steps: sampler steps.
    min_guidance: guidance scale of the first frame.
    max_guidance: of the last one, and of an image; both 1 samples without guidance, at half the
      cost.
    guidance_interval: lowest and highest sigma / alpha with guidance; None: all.
    guidance_rescale: 0 to 1, against overexposure at large scales (`guidance.guided`).
    temporal_guidance: for video, how far to lead away from frames that do not see each other
      (`guidance.temporal_consistency`); 1 leads nowhere. None is 1 without what it costs: a third
      evaluation in each step.
    decode_chunk: frames decoded at once.
    noise_NThwC: unit normal start, instead of the seeds'.
    image_noise_NHWC: unit normal noise that `noise_aug_strength` scales, instead of the seeds'.
  """

  mode: str | None = None
  images_NHWC: np.ndarray | None = None
  prompts: Sequence[str] | None = None
  negative_prompts: Sequence[str] | None = None
  seeds: Sequence[int] = (0,)
  num_frames: int | None = None
  height: int | None = None
  width: int | None = None
  fps: float | None = None
  motion_bucket_id: float | Sequence[float] = 127.0
  noise_aug_strength: float = 0.02
  sampler: str = "euler"
  schedule: str | None = None
  steps: int = 25
  min_guidance: float = 1.0
  max_guidance: float = 3.0
  guidance_interval: tuple[float, float] | None = None
  guidance_rescale: float = 0.0
  temporal_guidance: float | None = None
  decode_chunk: int = 16
  noise_NThwC: np.ndarray | None = None
  image_noise_NHWC: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Shape:
  """What a request leaves open, filled in by the model's own values."""

  mode: str
  clips: int
  num_frames: int
  height: int
  width: int
  fps: float


@dataclasses.dataclass(frozen=True)
class Program:
  """What one sampling program is compiled for; seeds, prompts and all else are its arguments.

  Attributes:
    mode: see `Request`, likewise the others.
    num_frames: T.
    branches: evaluations in a step: 2 with guidance, 3 with that of time.
    sampler: a name in `samplers.SAMPLERS`.
    schedule: see `process.sampling_levels`.
    steps: of the sampler.
    guidance_interval: range of sigma / alpha in which guidance is on.
    guidance_rescale: see `guidance.guided`.
  """

  mode: str
  num_frames: int
  branches: int
  sampler: str
  schedule: str
  steps: int
  guidance_interval: tuple[float, float] | None
  guidance_rescale: float


def resolve(asked: Request, config: TrainConfig, frozen: Frozen, origin: str) -> Shape:
  """Fills in the model's own values.

  Raises:
    ValueError: the request does not fit the model; the message names the field.
  """
  clips, trained = len(asked.seeds), config.conditioning.mode
  mode = asked.mode or trained
  if mode != trained:
    raise ValueError(f"mode={mode!r}: the model in {origin} was trained for {trained!r}")
  if mode == "image_to_video":
    if asked.images_NHWC is None:
      raise ValueError("mode 'image_to_video' needs an image: set --image=FILE")
    if len(asked.images_NHWC) != clips:
      raise ValueError(f"{len(asked.images_NHWC)} images for {clips} seeds")
    if asked.negative_prompts is not None:
      raise ValueError("negative_prompt: this model reads an image, not a text")
  else:
    if asked.prompts is None or len(asked.prompts) != clips:
      raise ValueError(f"mode {mode!r} needs one prompt for each clip: set --prompt=TEXT")
    if asked.negative_prompts is not None and len(asked.negative_prompts) != clips:
      raise ValueError(f"{len(asked.negative_prompts)} negative prompts for {clips} seeds")
  own = config.data
  shape = Shape(
    mode=mode,
    clips=clips,
    num_frames=1 if mode == "text_to_image" else _or(asked.num_frames, own.num_frames),
    height=_or(asked.height, own.height),
    width=_or(asked.width, own.width),
    fps=_or(asked.fps, own.fps),
  )
  factor = frozen.downsampling
  for name, size in (("height", shape.height), ("width", shape.width)):
    if size < factor or size % factor:
      raise ValueError(f"{name}={size} is not a multiple of {factor}")
  for name, count in (
    ("num_frames", shape.num_frames),
    ("steps", asked.steps),
    ("decode_chunk", asked.decode_chunk),
  ):
    if count < 1:
      raise ValueError(f"{name}={count} must be at least 1")
  if shape.fps <= 0:
    raise ValueError(f"fps={shape.fps} must be positive")
  return shape


def _or(asked: Any, own: Any) -> Any:
  return own if asked is None else asked


def program(asked: Request, shape: Shape, config: TrainConfig) -> Program:
  """The program that serves a request.

  Raises:
    ValueError: no such sampler or schedule, or one that the model has no use for.
  """
  if asked.sampler not in samplers.SAMPLERS:
    raise ValueError(f"sampler={asked.sampler!r}: choose from {', '.join(samplers.SAMPLERS)}")
  schedule = asked.schedule or ("trailing" if config.diffusion.discrete else "karras")
  process.sampling_levels(config.diffusion, schedule, asked.steps)  # refuses what does not fit
  branches = 1 if asked.min_guidance == asked.max_guidance == 1.0 else 2
  if asked.temporal_guidance is not None:
    if shape.mode == "text_to_image":
      raise ValueError("temporal_guidance: this model makes images, which have no frames to join")
    branches = 3
  return Program(
    mode=shape.mode,
    num_frames=shape.num_frames,
    branches=branches,
    sampler=asked.sampler,
    schedule=schedule,
    steps=asked.steps,
    guidance_interval=asked.guidance_interval,
    guidance_rescale=asked.guidance_rescale,
  )


def guidance_weights(asked: Request, shape: Shape, branches: int) -> guidance.Weights:
  """Weight of each branch, for each frame (T,)."""
  if branches == 1:
    return ()
  low, high = asked.min_guidance, asked.max_guidance
  scales_T = guidance.frame_scales(shape.num_frames, low, high)
  if asked.temporal_guidance is None:
    return guidance.classifier_free(scales_T)
  return guidance.temporal_consistency(np.full_like(scales_T, asked.temporal_guidance), scales_T)


def inputs(
  asked: Request, shape: Shape, frozen: Frozen, tokenizer: tokenizers.Tokenizer | None
) -> dict[str, np.ndarray]:
  """Arrays with N rows: all that the compiled program reads besides weights.

  Raises:
    ValueError: an array has the wrong shape.
  """
  n, factor = shape.clips, frozen.downsampling
  latent_shape = (
    shape.num_frames,
    shape.height // factor,
    shape.width // factor,
    frozen.latent_channels,
  )
  keys_N = jax.vmap(jax.random.key)(np.asarray(asked.seeds, np.uint32))
  start = asked.noise_NThwC
  if start is None:
    start = noise.normal(noise.stream(keys_N, _START), latent_shape)
  elif start.shape != (n, *latent_shape):
    raise ValueError(f"noise has shape {start.shape}, the request needs {(n, *latent_shape)}")
  bucket_N = np.broadcast_to(np.asarray(asked.motion_bucket_id, np.float32), (n,))
  found = {
    "keys_N": noise.stream(keys_N, _STEPS),
    "noise_NThwC": np.asarray(start, np.float32),
    "fps_N": np.full((n,), shape.fps, np.float32),
    "motion_bucket_N": np.array(bucket_N),
  }
  if shape.mode != "image_to_video":
    assert tokenizer is not None
    assert asked.prompts is not None
    found["tokens_NL"] = np.stack([tokenizer(text) for text in asked.prompts])
    if asked.negative_prompts is not None:
      found["negative_tokens_NL"] = np.stack([tokenizer(text) for text in asked.negative_prompts])
    return found
  images = np.asarray(asked.images_NHWC, np.float32)
  if images.shape[1:] != (shape.height, shape.width, 3):
    raise ValueError(
      f"image is {images.shape[2]}x{images.shape[1]}, the clip {shape.width}x{shape.height}:"
      " give an image of the clip's size"
    )
  image_noise = asked.image_noise_NHWC
  if image_noise is None:
    image_noise = noise.normal(noise.stream(keys_N, _IMAGE), images.shape[1:])
  return found | {
    "images_NHWC": images * 2.0 - 1.0,
    "image_noise_NHWC": np.asarray(image_noise, np.float32),
    "noise_aug_N": np.full((n,), asked.noise_aug_strength, np.float32),
  }
