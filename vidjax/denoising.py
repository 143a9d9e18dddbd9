"""The diffusion task: encode -> condition -> noise -> UNet -> loss.

Shapes: B batch, T frames, H W pixel or latent height and width, C channels, L tokens.
"""

import dataclasses

import jax
import jax.numpy as jnp

from vidjax import config as configs
from vidjax import latent_sets
from vidjax.conditioning import condition as conditions
from vidjax.conditioning import svd
from vidjax.conditioning.condition import Condition
from vidjax.conditioning.modes import MODES
from vidjax.config import TrainConfig
from vidjax.diffusion import levels, noise, precondition, process
from vidjax.diffusion import loss as losses
from vidjax.diffusion.levels import Level
from vidjax.diffusion.process import DiffusionConfig
from vidjax.encoders import frozen as encoders
from vidjax.models import unet
from vidjax.nn import params
from vidjax.nn.params import Network, Params
from vidjax.step import Batch, Metrics, Task

# Names of the independent random streams of one sample.
_SIGMA, _NOISE, _LATENT, _DROP, _AUG_SIGMA, _AUG_NOISE, _OFFSET = range(7)

# Inputs of conditions, from the arrays of a batch and from its video (B, T, H, W, 3).
_OF_BATCH = {"tokens_NL": "tokens_BL", "text_NLX": "text_BLX", "fps_N": "fps_B"}
_OF_VIDEO = {
  "images_NHWC": lambda video_BTHWC: video_BTHWC[:, 0],
  "last_images_NHWC": lambda video_BTHWC: video_BTHWC[:, -1],
}


def make_task(config: TrainConfig, frozen: encoders.Frozen | None = None) -> Task:
  """Describes the UNet, and opens the frozen encoders that the mode needs.

  The loss reads pixels (`video_BTHWC` of a batch) or cached moments (`latents_BTHWC`) instead, and
  tokens (`tokens_BL`) or cached embeddings (`text_BLX`).

  Args:
    config: of the run.
    frozen: the encoders, where they are not those that the config names.
  """
  mode = MODES[config.conditioning.mode]
  if frozen is None:
    frozen = encoders.load(config.encoders, mode.encoder, dtype=config.encoders.dtype)
  # Only its scaling is wanted of the autoencoder where latents are cached.
  needed = frozen.without(latent_sets.cached_parts(config.data))
  network = make_unet(config, frozen.downsampling)

  def loss(
    values: Params, weights: dict[str, Params], batch: Batch, keys_B: jax.Array
  ) -> tuple[jax.Array, Metrics]:
    bound = needed.bind(weights)
    latent_keys_B = noise.stream(keys_B, _LATENT)
    if "latents_BTHWC" in batch:
      video_BTHWC = None
      x0_BTHWC = frozen.draw(batch["latents_BTHWC"], latent_keys_B)
    else:
      video_BTHWC = batch["video_BTHWC"].astype(jnp.float32) / 127.5 - 1.0
      x0_BTHWC = jax.lax.stop_gradient(bound.encode_video(video_BTHWC, latent_keys_B))
    condition = make_condition(config, bound, batch, video_BTHWC, keys_B)
    if x0_BTHWC.shape[1] == 1:  # a picture, also where videos are trained
      condition = dataclasses.replace(condition, image_only=True)

    level_B = process.training_levels(config.diffusion, noise.stream(keys_B, _SIGMA))
    noise_BTHWC = noise.normal(noise.stream(keys_B, _NOISE), x0_BTHWC.shape[1:])
    if config.diffusion.offset_noise:
      keys_of_offset_B = noise.stream(keys_B, _OFFSET)
      noise_BTHWC = noise.offset(keys_of_offset_B, noise_BTHWC, config.diffusion.offset_noise)
    x_BTHWC = levels.noised(x0_BTHWC, noise_BTHWC, level_B)
    f_BTHWC = apply_unet(config.diffusion, network.bind(values), x_BTHWC, level_B, condition)

    loss_B = losses.denoising_loss(
      config.diffusion.prediction,
      f_BTHWC,
      x0_BTHWC,
      noise_BTHWC,
      level_B,
      weighting=config.diffusion.weighting,
      gamma=config.diffusion.min_snr_gamma,
      sigma_data=config.diffusion.sigma_data,
    )
    bin_sums, bin_counts = losses.per_sigma_bin(loss_B, level_B)
    return jnp.mean(loss_B), {"bin_sums": bin_sums, "bin_counts": bin_counts}

  def report(means: Metrics) -> Metrics:
    return {"loss_per_sigma_bin": means["bin_sums"] / means["bin_counts"]}  # empty bin: NaN

  return Task(network, needed, loss, report)


def unet_config(config: TrainConfig, downsampling: int | None = None) -> unet.UNetConfig:
  """The UNet's shape: the preset with the overrides of the config.

  A learned stand-in for frames that are not given has the size of the data's latents, unless
  `model.overrides.mask_embedding` says otherwise.

  Args:
    config: of the run.
    downsampling: pixels per latent; by default those of the autoencoder that the config names.

  Raises:
    ValueError: no such preset, or an override that is no field or has the wrong type.
  """
  preset = unet.PRESETS.get(config.model.preset)
  if preset is None:
    raise ValueError(
      f"model.preset={config.model.preset!r}: choose from {', '.join(sorted(unet.PRESETS))}"
    )
  values = {**dataclasses.asdict(preset), "dtype": config.model.dtype, **config.model.overrides}
  if MODES[config.conditioning.mode].mask and "mask_embedding" not in config.model.overrides:
    factor = downsampling or encoders.vae_downsampling(config.encoders.vae)
    values["mask_embedding"] = (config.data.height // factor, config.data.width // factor)
  return configs.from_dict(unet.UNetConfig, values, "model.overrides")


def make_unet(config: TrainConfig, downsampling: int | None = None) -> Network[unet.UNet]:
  """The UNet that the config describes, without values; see `unet_config`."""
  shape = unet_config(config, downsampling)
  return params.network(lambda rngs: unet.UNet(shape, rngs))


def make_condition(
  config: TrainConfig,
  bound: encoders.Bound,
  batch: Batch,
  video_BTHWC: jax.Array | None,
  keys_B: jax.Array,
) -> Condition:
  """The training-side condition of a batch, dropped for a share of the samples.

  `video_BTHWC` is None where latents are cached: `latent_sets` refuses modes that read pixels.
  """
  mode = MODES[config.conditioning.mode]
  inputs = condition_inputs(config, bound, batch, video_BTHWC, keys_B)
  frames = batch["latents_BTHWC"] if video_BTHWC is None else video_BTHWC
  condition = mode.condition(bound, inputs, frames.shape[1])
  keep_B = noise.uniform(noise.stream(keys_B, _DROP)) >= config.conditioning.dropout
  return conditions.drop(jax.lax.stop_gradient(condition), keep_B)


def condition_inputs(
  config: TrainConfig,
  bound: encoders.Bound,
  batch: Batch,
  video_BTHWC: jax.Array | None,
  keys_B: jax.Array,
) -> dict[str, jax.Array]:
  """What the condition is made from (`vidjax.conditioning.svd`): the batch's clips are the N clips.

  Raises:
    ValueError: the batch lacks a score that the mode reads.
  """
  conditioning = config.conditioning
  mode = MODES[conditioning.mode]
  scale = conditioning.motion_bucket_scale
  inputs = {"motion_bucket_N": svd.motion_bucket(batch["motion_score_B"], scale)}
  inputs |= {ours: batch[name] for ours, name in _OF_BATCH.items() if name in batch}
  for score in mode.scores:
    if f"{score}_B" not in batch:
      raise ValueError(
        f"conditioning.mode={conditioning.mode!r} reads the {score} of each clip, which the data"
        f" does not give: name it in data.scores"
      )
    inputs[f"{score}_N"] = batch[f"{score}_B"].astype(jnp.float32)
  if mode.images:
    assert video_BTHWC is not None
    inputs |= {name: frames(video_BTHWC) for name, frames in _OF_VIDEO.items()}
    inputs["noise_aug_N"] = noise.log_normal_sigma(
      noise.stream(keys_B, _AUG_SIGMA), conditioning.noise_aug_mean, conditioning.noise_aug_std
    )
    pixels_HWC = video_BTHWC.shape[2:]
    shape = mode.noise_shape(pixels_HWC, bound.latent_shape(*pixels_HWC[:2]))
    inputs[mode.noise] = noise.normal(noise.stream(keys_B, _AUG_NOISE), shape)
  return inputs


def apply_unet(
  diffusion: DiffusionConfig,
  model: unet.UNet,
  x_BTHWC: jax.Array,
  level_B: Level,
  condition: Condition,
) -> jax.Array:
  """F(c_in x; c_noise) under `condition`: (B, T, H, W, C)."""
  x_BTHWC = precondition.network_input(x_BTHWC, level_B, diffusion.sigma_data)
  if condition.concat is not None:
    x_BTHWC = jnp.concatenate([x_BTHWC, condition.concat.astype(x_BTHWC.dtype)], axis=-1)
  return model(
    x_BTHWC,
    level_B.c_noise,
    condition.contexts,
    condition.vector,
    image_only=condition.image_only,
  )


def denoise(
  diffusion: DiffusionConfig,
  model: unet.UNet,
  x_BTHWC: jax.Array,
  level: Level,
  condition: Condition,
) -> jax.Array:
  """D(x) at one noise level of the whole batch, float32."""
  level_B = jax.tree.map(lambda value: jnp.broadcast_to(value, x_BTHWC.shape[:1]), level)
  f_BTHWC = apply_unet(diffusion, model, x_BTHWC, level_B, condition)
  return precondition.denoised(diffusion.prediction, x_BTHWC, f_BTHWC, level, diffusion.sigma_data)
