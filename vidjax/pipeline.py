"""`Pipeline`: a model directory as one object that makes video. Behind sample, evaluate and export.

  pipe = vidjax.Pipeline.from_pretrained("DIR")
  video = pipe(mode="image_to_video", image=image, fps=4, seed=0)  # (T, H, W, 3) in [0, 1]

Shapes: N clips, T frames, H W pixels, h w latent pixels, C channels, L tokens.
"""

from collections.abc import Sequence
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vidjax import config as configs
from vidjax import denoising, guided, lazy, pretrained
from vidjax.conditioning import svd
from vidjax.conditioning.condition import Condition
from vidjax.diffusion import guidance, samplers
from vidjax.diffusion import noise as noises
from vidjax.encoders import frozen as encoders
from vidjax.encoders import tokenizers
from vidjax.nn.params import Params
from vidjax.parallel import mesh as meshes
from vidjax.parallel import plan

_START, _IMAGE = range(2)  # random streams of a request


@dataclasses.dataclass(frozen=True)
class Request:
  """What is asked for, for N clips at once; None takes the model's own value.

  Attributes:
    mode: text_to_image, text_to_video or image_to_video; the model has been trained for one.
    images_NHWC: first frames in [0, 1], for image_to_video.
    prompts: one text each, for the text modes.
    seeds: one each; a clip is a function of its seed, not of its place in the batch.
    num_frames: T.
    height: pixels.
    width: pixels.
    fps: real frame rate of the result.
    motion_bucket_id: 0 to 255, how much moves.
    noise_aug_strength: sigma of the noise on the first frame.
    steps: sampler steps.
    min_guidance: guidance scale of the first frame.
    max_guidance: of the last one; both 1 samples without guidance, at half the cost.
    decode_chunk: frames decoded at once.
    noise_NThwC: unit normal start, instead of the seeds'.
    image_noise_NHWC: unit normal noise that `noise_aug_strength` scales, instead of the seeds'.
  """

  mode: str | None = None
  images_NHWC: np.ndarray | None = None
  prompts: Sequence[str] | None = None
  seeds: Sequence[int] = (0,)
  num_frames: int | None = None
  height: int | None = None
  width: int | None = None
  fps: float | None = None
  motion_bucket_id: float | Sequence[float] = 127.0
  noise_aug_strength: float = 0.02
  steps: int = 25
  min_guidance: float = 1.0
  max_guidance: float = 3.0
  decode_chunk: int = 16
  noise_NThwC: np.ndarray | None = None
  image_noise_NHWC: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class _Shape:
  """What a request leaves open, filled in by the model's own values."""

  mode: str
  clips: int
  num_frames: int
  height: int
  width: int
  fps: float


class Pipeline:
  """A trained model with its encoders.

  Args:
    config: the config that the model was trained with.
    params: weights of the UNet by flat name.
    origin: where they come from, for messages and notes.
  """

  def __init__(self, config: configs.TrainConfig, params: Params, origin: str):
    self.config, self.origin = config, origin
    self._network = denoising.make_unet(config)
    self._params = params
    self._frozen = encoders.load(config.encoders, config.conditioning.mode)
    self._tokenizer = tokenizers.load(config.encoders.text) if config.encoders.text else None

  @classmethod
  def from_pretrained(cls, model: str, params: str = "ema") -> "Pipeline":
    """Loads whatever `vidjax.pretrained` reads.

    Raises:
      ValueError: `model` holds no model; the message says what was expected.
      CheckpointError: its files are incomplete or do not fit.
    """
    loaded = pretrained.load(model, params)
    if loaded.config.task != "diffusion":
      raise ValueError(
        f"{model!r} holds an autoencoder, which cannot sample: name a UNet's workdir"
      )
    if not loaded.samples_here:
      raise ValueError(
        f"{model!r} is a Stable Diffusion of discrete noise levels, which this code does not"
        " sample: start a training stage from it, with init_from"
      )
    return cls(loaded.config, lazy.read_all(loaded.params, "reading weights"), loaded.origin)

  def load(self, params: Params) -> None:
    """Takes other weights of the same model; what is compiled stays."""
    self._params = params

  def __call__(
    self,
    *,
    mode: str | None = None,
    image: np.ndarray | None = None,
    prompt: str | None = None,
    seed: int = 0,
    **settings: Any,
  ) -> np.ndarray:
    """One clip: (T, H, W, 3) float32 in [0, 1]. `settings` are fields of `Request`."""
    request = Request(
      mode=mode,
      images_NHWC=None if image is None else np.asarray(image)[None],
      prompts=None if prompt is None else [prompt],
      seeds=[seed],
      **settings,
    )
    return self.generate(request)[0]

  def generate(self, request: Request) -> np.ndarray:
    """N clips: (N, T, H, W, 3) float32 in [0, 1].

    Raises:
      ValueError: the request does not fit the model; the message names the field.
    """
    shape = self._resolve(request)
    mesh = meshes.make_mesh(meshes.MeshConfig(), _devices_for(shape.clips))
    low, high = request.min_guidance, request.max_guidance
    guide = (low, high) != (1.0, 1.0)
    scales = guidance.frame_scales(shape.num_frames, low, high) if guide else None
    inputs = self._inputs(request, shape)
    with jax.set_mesh(mesh):
      whole = jax.NamedSharding(mesh, jax.P())
      rows = jax.NamedSharding(mesh, plan.batch_spec(mesh))
      params = jax.device_put(self._params, whole)
      weights = jax.device_put(self._frozen.weights, whole)
      inputs = jax.device_put(inputs, rows)
      sample = self._sample(shape.mode, shape.num_frames, request.steps)
      latents = sample(params, weights, inputs, jax.device_put(scales, whole))
      chunk = request.decode_chunk
      chunks = [
        jax.device_get(self._decode(weights, latents[:, start : start + chunk]))
        for start in range(0, shape.num_frames, chunk)
      ]
    return np.concatenate(chunks, axis=1)

  def reconstruct(self, video_NTHWC: np.ndarray) -> np.ndarray:
    """Video in [0, 1] through the autoencoder and back: what the best sample could look like."""

    def run(weights: dict[str, Params], video: jax.Array) -> jax.Array:
      bound = self._frozen.bind(weights)
      n, t, *rest = video.shape
      latent = bound.encode_image((video * 2.0 - 1.0).reshape((n * t, *rest)))
      latent = latent.reshape((n, t, *latent.shape[1:])) * bound.scaling_factor
      return _to_unit(bound.decode(latent))

    with jax.set_mesh(meshes.make_mesh(meshes.MeshConfig(), jax.local_devices()[:1])):
      return jax.device_get(jax.jit(run)(self._frozen.weights, jnp.asarray(video_NTHWC)))

  # --- Requests -> arrays -----------------------------------------------------------------------

  def _resolve(self, asked: Request) -> _Shape:
    """Fills in the model's own values and checks the request."""
    config, clips = self.config, len(asked.seeds)
    mode = asked.mode or config.conditioning.mode
    if mode != config.conditioning.mode:
      raise ValueError(
        f"mode={mode!r}: the model in {self.origin} was trained for {config.conditioning.mode!r}"
      )
    if mode == "image_to_video":
      if asked.images_NHWC is None:
        raise ValueError("mode 'image_to_video' needs an image: set --image=FILE")
      if len(asked.images_NHWC) != clips:
        raise ValueError(f"{len(asked.images_NHWC)} images for {clips} seeds")
    elif asked.prompts is None or len(asked.prompts) != clips:
      raise ValueError(f"mode {mode!r} needs one prompt for each clip: set --prompt=TEXT")
    shape = _Shape(
      mode=mode,
      clips=clips,
      num_frames=1 if mode == "text_to_image" else asked.num_frames or config.data.num_frames,
      height=asked.height or config.data.height,
      width=asked.width or config.data.width,
      fps=asked.fps or config.data.fps,
    )
    factor = self._frozen.downsampling
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
    return shape

  def _inputs(self, asked: Request, shape: _Shape) -> dict[str, np.ndarray]:
    """Arrays with N rows: all that the compiled program reads besides weights."""
    n, factor = shape.clips, self._frozen.downsampling
    latent_shape = (
      shape.num_frames,
      shape.height // factor,
      shape.width // factor,
      self._frozen.latent_channels,
    )
    keys_N = jax.vmap(jax.random.key)(np.asarray(asked.seeds, np.uint32))
    start = asked.noise_NThwC
    if start is None:
      start = noises.normal(noises.stream(keys_N, _START), latent_shape)
    elif start.shape != (n, *latent_shape):
      raise ValueError(f"noise has shape {start.shape}, the request needs {(n, *latent_shape)}")
    bucket_N = np.broadcast_to(np.asarray(asked.motion_bucket_id, np.float32), (n,))
    inputs = {
      "noise_NThwC": np.asarray(start, np.float32),
      "fps_N": np.full((n,), shape.fps, np.float32),
      "motion_bucket_N": np.array(bucket_N),
    }
    if shape.mode != "image_to_video":
      assert self._tokenizer is not None
      assert asked.prompts is not None
      inputs["tokens_NL"] = np.stack([self._tokenizer(text) for text in asked.prompts])
      return inputs
    images = np.asarray(asked.images_NHWC, np.float32)
    if images.shape[1:] != (shape.height, shape.width, 3):
      raise ValueError(
        f"image is {images.shape[2]}x{images.shape[1]}, the clip {shape.width}x{shape.height}:"
        " give an image of the clip's size"
      )
    image_noise = asked.image_noise_NHWC
    if image_noise is None:
      image_noise = noises.normal(noises.stream(keys_N, _IMAGE), images.shape[1:])
    return inputs | {
      "images_NHWC": images * 2.0 - 1.0,
      "image_noise_NHWC": np.asarray(image_noise, np.float32),
      "noise_aug_N": np.full((n,), asked.noise_aug_strength, np.float32),
    }

  # --- Arrays -> video --------------------------------------------------------------------------

  def _condition(
    self, bound: encoders.Bound, mode: str, num_frames: int, inputs: dict[str, jax.Array]
  ) -> Condition:
    if mode == "image_to_video":
      noised = svd.augment(inputs["images_NHWC"], inputs["image_noise_NHWC"], inputs["noise_aug_N"])
      return svd.image_to_video(
        bound.embed_image(inputs["images_NHWC"]),
        bound.encode_image(noised),
        num_frames,
        inputs["fps_N"],
        inputs["motion_bucket_N"],
        inputs["noise_aug_N"],
      )
    text = bound.embed_text(inputs["tokens_NL"])
    if mode == "text_to_image":
      return svd.text_to_image(text)
    return svd.text_to_video(text, inputs["fps_N"], inputs["motion_bucket_N"])

  @functools.cache  # noqa: B019 - a pipeline lives as long as its compiled programs are wanted
  def _sample(self, mode: str, num_frames: int, steps: int) -> Any:
    sigmas = samplers.karras_sigmas(steps)

    def run(
      params: Params,
      weights: dict[str, Params],
      inputs: dict[str, jax.Array],
      scale_T: jax.Array | None,
    ) -> jax.Array:
      condition = self._condition(self._frozen.bind(weights), mode, num_frames, inputs)
      model = self._network.bind(params)
      return guided.sample_latents(model, inputs["noise_NThwC"], condition, scale_T, sigmas)

    return jax.jit(run)

  @functools.cached_property
  def _decode(self) -> Any:
    def run(weights: dict[str, Params], latents: jax.Array) -> jax.Array:
      return _to_unit(self._frozen.bind(weights).decode(latents))

    return jax.jit(run)


def fresh_weights(config: configs.TrainConfig) -> Params:
  """Weights of the UNet as training from scratch would start: for `Pipeline.load`."""
  weights = jax.jit(denoising.make_unet(config).init)(jax.random.key(config.seed))
  return jax.device_get(weights)


def _to_unit(x: jax.Array) -> jax.Array:
  return jnp.clip(x.astype(jnp.float32) * 0.5 + 0.5, 0.0, 1.0)


def _devices_for(n: int) -> list[Any]:
  """As many local devices as divide `n` rows evenly."""
  devices = jax.local_devices()
  return devices[: max(d for d in range(1, len(devices) + 1) if n % d == 0)]
