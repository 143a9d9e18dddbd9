"""`Pipeline`: a model directory as one object that makes video. Behind sample, evaluate and export.

  pipe = vidjax.Pipeline.from_pretrained("DIR")
  video = pipe(mode="image_to_video", image=image, fps=4, seed=0)  # (T, H, W, 3) in [0, 1]

Shapes: N clips, T frames, H W pixels, h w latent pixels, C channels, L tokens.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vidjax import config as configs
from vidjax import denoising, guided, lazy, pretrained, requests
from vidjax.conditioning import condition as conditions
from vidjax.conditioning.condition import Condition
from vidjax.conditioning.modes import MODES
from vidjax.diffusion import process
from vidjax.encoders import frozen as encoders
from vidjax.encoders import tokenizers
from vidjax.nn.params import Params
from vidjax.observe import console
from vidjax.parallel import mesh as meshes
from vidjax.parallel import plan
from vidjax.requests import Program, Request

__all__ = ["Pipeline", "Request", "fresh_weights"]


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
    self._placed: tuple[jax.sharding.Mesh, Params, dict[str, Params]] | None = None
    self._frozen = encoders.load(config.encoders, MODES[config.conditioning.mode].encoder)
    self._tokenizer = tokenizers.load(config.encoders.text) if config.encoders.text else None
    self._check_channels()

  @property
  def tokenizer(self) -> tokenizers.Tokenizer | None:
    """What turns a prompt into ids; None for a model that reads no text."""
    return self._tokenizer

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
    if not loaded.knows_noise:
      raise ValueError(
        f"{model!r} comes without a word about its noise levels, so it cannot sample: put"
        " scheduler/scheduler_config.json beside it, or start a training stage from it (init_from)"
      )
    return cls(loaded.config, lazy.read_all(loaded.params, "reading weights"), loaded.origin)

  def load(self, params: Params) -> None:
    """Takes other weights of the same model; what is compiled stays."""
    self._params = params
    self.free()

  def free(self) -> None:
    """Gives the devices' memory back; the next request puts the weights there again."""
    self._placed = None

  def __call__(
    self,
    *,
    mode: str | None = None,
    image: np.ndarray | None = None,
    last_image: np.ndarray | None = None,
    prompt: str | None = None,
    seed: int = 0,
    **settings: Any,
  ) -> np.ndarray:
    """One clip: (T, H, W, 3) float32 in [0, 1]. `settings` are fields of `Request`."""
    request = Request(
      mode=mode,
      images_NHWC=None if image is None else np.asarray(image)[None],
      last_images_NHWC=None if last_image is None else np.asarray(last_image)[None],
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
    shape = requests.resolve(request, self.config, self._frozen, self.origin)
    program = requests.program(request, shape, self.config)
    arrays = requests.inputs(request, shape, self._frozen, self._tokenizer)
    weights = requests.guidance_weights(request, shape, program.branches)
    mesh = meshes.make_mesh(meshes.MeshConfig(), _devices_for(shape.clips))
    with jax.set_mesh(mesh):
      params, frozen = self._weights_on(mesh)
      arrays = jax.device_put(arrays, jax.NamedSharding(mesh, plan.batch_spec(mesh)))
      weights = jax.device_put(weights, jax.NamedSharding(mesh, jax.P()))
      latents = self._sample(program)(params, frozen, arrays, weights)
      return self._decoded(frozen, latents, request.decode_chunk)

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

  def _weights_on(self, mesh: jax.sharding.Mesh) -> tuple[Params, dict[str, Params]]:
    """UNet and encoders on every device of `mesh`; they stay there for the next request."""
    if self._placed is None or self._placed[0] != mesh:
      self.free()  # those on another mesh, before there are two
      placed = jax.device_put(
        (self._params, self._frozen.weights), jax.NamedSharding(mesh, jax.P())
      )
      self._placed = (mesh, *placed)
    return self._placed[1:]

  def _check_channels(self) -> None:
    """Refuses a UNet that does not take what the mode concatenates."""
    shape, latents = denoising.unet_config(self.config), self._frozen.latent_channels
    mode = self.config.conditioning.mode
    needed = MODES[mode].in_channels(latents)
    if (shape.in_channels, shape.out_channels) != (needed, latents):
      raise ValueError(
        f"the UNet in {self.origin} has {shape.in_channels} input and {shape.out_channels} output"
        f" channels; mode {mode!r} with an autoencoder of {latents} channels needs {needed} and"
        f" {latents}: is it a model of this mode, with its own autoencoder?"
      )
    if shape.vector_size != MODES[mode].vector_size:
      raise ValueError(
        f"the UNet in {self.origin} reads {shape.vector_size} numbers, mode {mode!r} has"
        f" {MODES[mode].vector_size} (model.overrides.vector_size): is it a model of this mode?"
      )

  # --- Arrays -> video --------------------------------------------------------------------------

  def _branches(
    self, bound: encoders.Bound, program: Program, inputs: dict[str, jax.Array]
  ) -> list[Condition]:
    """The conditions that guidance weighs: as asked for, without, and without for each frame."""
    make = MODES[program.mode].condition
    condition = make(bound, inputs, program.num_frames)
    if program.branches == 1:
      return [condition]
    if "negative_tokens_NL" in inputs:
      negative = {**inputs, "tokens_NL": inputs["negative_tokens_NL"]}
      other = make(bound, negative, program.num_frames)
    else:
      other = conditions.drop(condition, jnp.zeros_like(inputs["fps_N"]))
    frames = dataclasses.replace(other, image_only=True)
    return [condition, other, frames][: program.branches]

  @functools.cache  # noqa: B019 - a pipeline lives as long as its compiled programs are wanted
  def _sample(self, program: Program) -> Any:
    diffusion = self.config.diffusion
    sampling = guided.Sampling(
      sampler=program.sampler,
      levels=process.sampling_levels(diffusion, program.schedule, program.steps),
      interval=program.guidance_interval,
      rescale=program.guidance_rescale,
    )

    def run(
      params: Params,
      frozen: dict[str, Params],
      inputs: dict[str, jax.Array],
      weights: tuple[jax.Array, ...],
    ) -> jax.Array:
      branches = self._branches(self._frozen.bind(frozen), program, inputs)
      model = self._network.bind(params)
      noise, keys = inputs["noise_NThwC"], inputs["keys_N"]
      return guided.sample_latents(diffusion, model, noise, keys, branches, weights, sampling)

    return jax.jit(run)

  def _decoded(self, frozen: dict[str, Params], latents: jax.Array, chunk: int) -> np.ndarray:
    """Frames of all clips, `chunk` at a time: what is on the host does not stay on the device."""
    starts = range(0, latents.shape[1], chunk)
    chunks = [
      jax.device_get(self._decode(frozen, latents[:, start : start + chunk]))
      for start in console.track(starts, "decoding")
    ]
    return np.concatenate(chunks, axis=1)

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
