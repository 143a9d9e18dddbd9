"""What `benchmarks.gpu` measures: sizes, models, weights and inputs, the same for both sides.

Weights and inputs are drawn once, into a folder that both sides read. B clips, T frames, H W latent
height and width, Z latent channels, L tokens, X channels of a context.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vidjax import config as configs
from vidjax import denoising, latent_sets, storage
from vidjax.conditioning.modes import MODES
from vidjax.data import latents
from vidjax.diffusion import guidance, noise, process
from vidjax.encoders import frozen, vae
from vidjax.interop import export, schedulers
from vidjax.models.unet import PRESETS, UNet, UNetConfig
from vidjax.nn.params import Network, Params, network
from vidjax.parallel.mesh import MeshConfig

_STAGE = "configs/svd/video_lowres.py:base"
_LATENTS = 4  # Z
_FPS, _BUCKET, _AUGMENTED = 7.0, 127.0, 0.02
_GUIDANCE = (1.0, 3.0)  # first and last frame, as diffusers' pipeline
_BLOCK = 2**24  # normal numbers that are drawn; weights are pieces of them
_DECODER = vae.VAEConfig(temporal_decoder=True, use_post_quant_conv=False)


@dataclasses.dataclass(frozen=True)
class Setting:
  """Sizes of everything that is measured.

  Attributes:
    dtype: of the computation.
    unet: its shape.
    train_frames: T of a trained clip.
    train_size: its pixels, (height, width).
    tokens: L.
    sample_size: pixels of a clip that is sampled.
    steps: of the sampler.
    decoder: the autoencoder.
    attention: by name, whether frames attend (over time) or positions, and (T, S, heads, width).
  """

  dtype: str = "bfloat16"
  unet: UNetConfig = PRESETS["svd"]
  train_frames: int = 14
  train_size: tuple[int, int] = (320, 576)
  tokens: int = 77
  sample_size: tuple[int, int] = (576, 1024)
  steps: int = 25
  decoder: vae.VAEConfig = _DECODER
  attention: tuple[tuple[str, bool, tuple[int, int, int, int]], ...] = (
    ("2880 positions", False, (14, 2880, 5, 64)),
    ("9216 positions", False, (14, 9216, 5, 64)),
    ("14 frames", True, (14, 2880, 5, 64)),
    ("25 frames", True, (25, 9216, 5, 64)),
  )


SETTINGS = {
  "svd": Setting(),
  # 62 million parameters: what two CPU cores train in two seconds.
  "small": Setting(
    dtype="float32",
    unet=dataclasses.replace(
      PRESETS["svd"],
      block_out_channels=(64, 128, 256, 256),
      num_attention_heads=(1, 2, 4, 4),
      cross_attention_dims=(256,),
      vector_embed_dim=64,
    ),
    train_frames=8,
    train_size=(128, 192),
    tokens=1,
  ),
  "tiny": Setting(
    dtype="float32",
    unet=PRESETS["tiny"],
    train_frames=3,
    train_size=(32, 48),
    tokens=5,
    sample_size=(32, 48),
    steps=2,
    decoder=dataclasses.replace(_DECODER, block_out_channels=(32,) * 4),
    attention=(("24 positions", False, (3, 24, 2, 32)), ("3 frames", True, (3, 24, 2, 32))),
  ),
}


def unet_config(setting: Setting, mode: str) -> UNetConfig:
  """The UNet of a mode: text to video is trained, image to video samples."""
  return dataclasses.replace(
    setting.unet,
    in_channels=MODES[mode].in_channels(_LATENTS),
    out_channels=_LATENTS,
    dtype=setting.dtype,
  )


def train_config(setting: Setting, folder: str, clips: int, remat: str) -> configs.TrainConfig:
  """SVD's base stage on one device, from cached latents and texts, without averages of weights.

  Texts are never dropped, so that both sides compute the loss of the same batch.
  """
  config = configs.load(_STAGE, [f"data.path={folder}/latents", "data.kind=latents"])
  (height, width), shape = setting.train_size, unet_config(setting, "text_to_video")
  overrides = dataclasses.asdict(shape) | {"remat": (remat,)}
  del overrides["dtype"]
  return dataclasses.replace(
    config,
    batch_size=clips,
    mesh=MeshConfig(),
    data=dataclasses.replace(
      config.data, num_frames=setting.train_frames, height=height, width=width
    ),
    conditioning=dataclasses.replace(config.conditioning, dropout=0.0),
    optimizer=dataclasses.replace(config.optimizer, warmup_samples=0, ema_decays=()),
    model=configs.ModelConfig("svd", overrides, setting.dtype),  # all of it is overridden
  )


def train_batch(setting: Setting, clips: int) -> dict[str, np.ndarray]:
  """A batch as cached data gives it; the moments have no spread."""
  rng = np.random.default_rng(0)
  height, width = (pixels // 8 for pixels in setting.train_size)
  mean = rng.standard_normal((clips, setting.train_frames, height, width, _LATENTS), np.float32)
  mean /= vae.VAEConfig().scaling_factor
  context = unet_config(setting, "text_to_video").cross_attention_dims[0]
  return {
    "latents_BTHWC": np.concatenate([mean, np.full_like(mean, -30)], axis=-1).astype(np.float16),
    "text_BLX": rng.standard_normal((clips, setting.tokens, context), np.float32).astype(
      np.float16
    ),
    "fps_B": np.full(clips, _FPS, np.float32),
    "motion_score_B": rng.uniform(0, 10, clips).astype(np.float32),
    "sample_index_B": np.arange(clips, dtype=np.uint32),
  }


def optimizer() -> dict[str, float]:
  """What the other side's AdamW has to know."""
  values = configs.load(_STAGE, ["data.path=none"]).optimizer
  names = ("learning_rate", "weight_decay", "clip_norm")
  return {name: getattr(values, name) for name in names}


def write_train(setting: Setting, folder: str, clips: int) -> None:
  """Writes the UNet once, and what the loss of a batch is computed from.

  Both noise and levels are those that our step draws for the batch.
  """
  manifest = latents.Manifest("", {}, 1.0, *setting.train_size, _FPS)
  context = unet_config(setting, "text_to_video").cross_attention_dims[0]
  text = {"length": setting.tokens, "width": context}
  storage.write_json(
    storage.Path(folder) / "latents" / latents.MANIFEST,
    dataclasses.replace(manifest, text=text).as_dict(),
  )
  _write_unet(setting, folder, "text_to_video", setting.train_frames)

  config = train_config(setting, folder, clips, "none")
  assert config.diffusion.prediction == "v"
  assert config.diffusion.weighting == "unit"
  assert not config.diffusion.offset_noise
  batch = jax.tree.map(jnp.asarray, train_batch(setting, clips))
  keys_B = noise.sample_keys(config.seed, batch["sample_index_B"])
  encoders = frozen.describe(config.encoders, "text", dtype=config.encoders.dtype)
  bound = encoders.without(latent_sets.cached_parts(config.data)).bind({})
  x0 = encoders.draw(batch["latents_BTHWC"], noise.stream(keys_B, denoising._LATENT))
  condition = denoising.make_condition(config, bound, batch, None, keys_B)
  assert condition.vector is not None
  levels = process.training_levels(config.diffusion, noise.stream(keys_B, denoising._SIGMA))
  _save(
    f"{folder}/train_{clips}.npz",
    x0=x0,
    noise=noise.normal(noise.stream(keys_B, denoising._NOISE), x0.shape[1:]),
    sigma=levels.sigma,
    context=condition.contexts[0],
    vector=condition.vector,
  )


def write_sample(setting: Setting, folder: str, frames: int) -> None:
  """Writes UNet, decoder and scheduler once, and one clip's noise and conditions."""
  _write_unet(setting, folder, "image_to_video", frames)
  root = storage.Path(folder)
  if not (root / "vae" / "config.json").exists():
    weights = drawn(vae.describe(setting.decoder), 1)
    export.write_vae(root / "vae", setting.decoder, weights, setting.sample_size[0])
    storage.write_json(
      root / "scheduler" / "scheduler_config.json", schedulers.to_json(process.DiffusionConfig())
    )
  rng = np.random.default_rng(2)
  height, width = (pixels // 8 for pixels in setting.sample_size)
  context = unet_config(setting, "image_to_video").cross_attention_dims[0]
  image = rng.standard_normal((1, 1, height, width, _LATENTS), np.float32)
  _save(
    f"{folder}/sample_{frames}.npz",
    noise=rng.standard_normal((1, frames, height, width, _LATENTS), np.float32),
    concat=np.tile(image, (1, frames, 1, 1, 1)),
    context=rng.standard_normal((1, 1, context), np.float32),
    vector=np.array([[_FPS - 1, _BUCKET, _AUGMENTED]], np.float32),
    scale=guidance.frame_scales(frames, *_GUIDANCE),
  )


def chunk(frames: int) -> int:
  """Frames that are decoded at once: at most eight, as many each time."""
  return max(n for n in range(1, 9) if frames % n == 0)


def drawn(net: Network, seed: int) -> Params:
  """Random weights that let signals through: pieces of one block of normal numbers."""
  rng = np.random.default_rng(seed)
  block, weights = rng.standard_normal(_BLOCK, np.float32), {}
  for name, leaf in net.abstract.items():
    shift = int(rng.integers(_BLOCK))
    values = np.resize(np.roll(block[: 2 * leaf.size], shift), leaf.shape)
    vector = len(leaf.shape) < 2
    weights[name] = values * np.float32(0.1 if vector else np.prod(leaf.shape[:-1]) ** -0.5)
    if name.endswith("scale"):
      weights[name] += np.float32(1)
  return weights


def _write_unet(setting: Setting, folder: str, mode: str, frames: int) -> None:
  """Writes the UNet of a mode to a folder of that name, if it is not there."""
  root, config = storage.Path(folder) / mode, unet_config(setting, mode)
  if not (root / "config.json").exists():
    weights = drawn(network(lambda rngs: UNet(config, rngs)), 0)
    export.write_unet(root, config, weights, frames, setting.train_size[0] // 8)


def _save(path: str, **arrays: Any) -> None:
  np.savez(path, **{name: np.asarray(array, np.float32) for name, array in arrays.items()})
