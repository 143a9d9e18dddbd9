"""What is asked of a `Pipeline`: checked against the model before anything is compiled.

Shapes: N clips, T frames, H W pixels, h w latent pixels, C channels, L tokens.
"""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

import jax
import numpy as np

from vidjax.conditioning.modes import MODES
from vidjax.config import TrainConfig
from vidjax.diffusion import guidance, noise, process, samplers
from vidjax.encoders import tokenizers
from vidjax.encoders.frozen import Frozen

_START, _IMAGE, _STEPS = range(3)  # random streams of a request


@dataclasses.dataclass(frozen=True)
class Request:
  """What is asked for, for N clips at once; None takes the model's own value.

  Attributes:
    mode: a name in `vidjax.conditioning.modes.MODES`; the model has been trained for one.
    images_NHWC: first frames in [0, 1], for the modes that read images.
    last_images_NHWC: last frames in [0, 1], for interpolation.
    prompts: one text each, for the text modes.
    negative_prompts: one text each, which guidance leads away from; None: no text at all.
    seeds: one each; a clip is a function of its seed, not of its place in the batch.
    num_frames: T.
    height: pixels.
    width: pixels.
    fps: real frame rate of the result.
    motion_bucket_id: 0 to 255, how much moves.
    noise_aug_strength: sigma of the noise on the given frames.
    elevation: of the camera in degrees, one or one a clip, for multi_view.
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
    image_noise_N2hwZ: the same for interpolation, on the latents of first and last frame.
  """

  mode: str | None = None
  images_NHWC: np.ndarray | None = None
  last_images_NHWC: np.ndarray | None = None
  prompts: Sequence[str] | None = None
  negative_prompts: Sequence[str] | None = None
  seeds: Sequence[int] = (0,)
  num_frames: int | None = None
  height: int | None = None
  width: int | None = None
  fps: float | None = None
  motion_bucket_id: float | Sequence[float] = 127.0
  noise_aug_strength: float = 0.02
  elevation: float | Sequence[float] | None = None
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
  image_noise_N2hwZ: np.ndarray | None = None


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
  _check_given(asked, mode)
  own = config.data
  shape = Shape(
    mode=mode,
    clips=clips,
    num_frames=1 if MODES[mode].stills else _or(asked.num_frames, own.num_frames),
    height=_or(asked.height, own.height),
    width=_or(asked.width, own.width),
    fps=_or(asked.fps, own.fps),
  )
  factor = frozen.downsampling
  for name, size in (("height", shape.height), ("width", shape.width)):
    if size < factor or size % factor:
      raise ValueError(f"{name}={size} is not a multiple of {factor}")
  for name, count, least in (
    ("num_frames", shape.num_frames, MODES[mode].min_frames),
    ("steps", asked.steps, 1),
    ("decode_chunk", asked.decode_chunk, 1),
  ):
    if count < least:
      raise ValueError(f"{name}={count} must be at least {least}")
  if MODES[mode].mask and (shape.height, shape.width) != (own.height, own.width):
    raise ValueError(
      f"height={shape.height}, width={shape.width}: what this model has learned for frames that are"
      f" not given fits {own.height}x{own.width} only"
    )
  if shape.fps <= 0:
    raise ValueError(f"fps={shape.fps} must be positive")
  return shape


def _check_given(asked: Request, mode: str) -> None:
  """Refuses a request that lacks what the mode reads, or brings what it does not."""
  clips, row = len(asked.seeds), MODES[mode]
  for name, what in _IMAGES.items():
    images = getattr(asked, name)
    if name in row.images and images is None:
      raise ValueError(f"mode {mode!r} needs {what[0]}: set --{what[1]}=FILE")
    if name in row.images and len(images) != clips:
      raise ValueError(f"{len(images)} images for {clips} seeds")
    if name not in row.images and name != "images_NHWC" and images is not None:
      raise ValueError(f"{what[1]}: mode {mode!r} reads no {what[1].replace('_', ' ')}")
  if "elevation" in row.scores and asked.elevation is None:
    raise ValueError(f"mode {mode!r} needs the camera's elevation: set --elevation=DEGREES")
  if "elevation" not in row.scores and asked.elevation is not None:
    raise ValueError(f"elevation: mode {mode!r} knows nothing of it")
  if row.encoder == "image":
    if asked.negative_prompts is not None:
      raise ValueError("negative_prompt: this model reads an image, not a text")
    return
  if asked.prompts is None or len(asked.prompts) != clips:
    raise ValueError(f"mode {mode!r} needs one prompt for each clip: set --prompt=TEXT")
  if asked.negative_prompts is not None and len(asked.negative_prompts) != clips:
    raise ValueError(f"{len(asked.negative_prompts)} negative prompts for {clips} seeds")


# Given frames, in words and as flags.
_IMAGES = {"images_NHWC": ("an image", "image"), "last_images_NHWC": ("a last image", "last_image")}


def given(
  mode: str, video_NTHWC: np.ndarray, scores: Sequence[Mapping[str, float]]
) -> dict[str, Any]:
  """What of real clips a request in this mode is given, by the request's fields."""
  frames = {"images_NHWC": video_NTHWC[:, 0], "last_images_NHWC": video_NTHWC[:, -1]}
  of_clips = {name: [of[name] for of in scores] for name in MODES[mode].scores}
  return {name: frames[name] for name in MODES[mode].images} | of_clips


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
  found = {
    "keys_N": noise.stream(keys_N, _STEPS),
    "noise_NThwC": np.asarray(start, np.float32),
    "fps_N": np.full((n,), shape.fps, np.float32),
    "motion_bucket_N": _of_each(asked.motion_bucket_id, n),
  }
  mode = MODES[shape.mode]
  if mode.encoder == "text":
    assert tokenizer is not None
    assert asked.prompts is not None
    found["tokens_NL"] = np.stack([tokenizer(text) for text in asked.prompts])
    if asked.negative_prompts is not None:
      found["negative_tokens_NL"] = np.stack([tokenizer(text) for text in asked.negative_prompts])
    return found
  if asked.elevation is not None:
    found["elevation_N"] = _of_each(asked.elevation, n)
  for name in mode.images:
    images = np.asarray(getattr(asked, name), np.float32)
    if images.shape[1:] != (shape.height, shape.width, 3):
      raise ValueError(
        f"{_IMAGES[name][1]} is {images.shape[2]}x{images.shape[1]}, the clip"
        f" {shape.width}x{shape.height}: give an image of the clip's size"
      )
    found[name] = images * 2.0 - 1.0
  noise_shape = mode.noise_shape((shape.height, shape.width, 3), latent_shape[1:])
  image_noise = getattr(asked, mode.noise)
  if image_noise is None:
    image_noise = noise.normal(noise.stream(keys_N, _IMAGE), noise_shape)
  elif image_noise.shape != (n, *noise_shape):
    raise ValueError(
      f"image_noise has shape {image_noise.shape}, the request needs {(n, *noise_shape)}"
    )
  return found | {
    mode.noise: np.asarray(image_noise, np.float32),
    "noise_aug_N": np.full((n,), asked.noise_aug_strength, np.float32),
  }


def _of_each(value: float | Sequence[float], n: int) -> np.ndarray:
  """A number, or one for each clip, as (N,) float32."""
  return np.array(np.broadcast_to(np.asarray(value, np.float32), (n,)))
