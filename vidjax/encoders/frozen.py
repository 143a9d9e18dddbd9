"""The encoders that a diffusion model reads and never trains, behind one object.

B clips, T frames, H W pixel and h w latent height and width, Z latent channels, L tokens,
X channels of a context.
"""

from collections.abc import Collection
import dataclasses
import functools
from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp

from vidjax import lazy
from vidjax.config import EncodersConfig
from vidjax.encoders import clip, text, vae
from vidjax.encoders.tokenizers import RANDOM_TINY
from vidjax.interop import diffusers, layouts
from vidjax.nn.params import Network, Params

_TINY_SEED = 20231201

ConfigT = TypeVar("ConfigT")


@dataclasses.dataclass(frozen=True)
class Encoder(Generic[ConfigT]):
  """One frozen network.

  Attributes:
    config: its shape.
    network: the module without values.
    params: its float32 weights by flat name; those of a file are read when they are used.
  """

  config: ConfigT
  network: Network[Any]
  params: lazy.Weights


def load_vae(spec: str) -> Encoder[vae.VAEConfig]:
  """The autoencoder in `spec`: a diffusers folder, a Stability file, or "random:tiny": untrained.

  Raises:
    ValueError: the folder is not an autoencoder; the message names folder and file.
  """
  if spec == RANDOM_TINY:
    return _untrained(vae.PRESETS["tiny"], vae.describe(vae.PRESETS["tiny"]))
  config, values = layouts.open_network("vae", _folder("vae", spec))
  return Encoder(config, vae.describe(config), values)


def vae_downsampling(spec: str) -> int:
  """Pixels per latent of the autoencoder in `spec`, see `load_vae`; no weights are made or read."""
  if spec == RANDOM_TINY:
    return vae.PRESETS["tiny"].downsampling
  return layouts.open_network("vae", _folder("vae", spec))[0].downsampling


def load_text(spec: str) -> Encoder[text.TextConfig]:
  """The text encoder in `spec`: a transformers folder, a Stability file, or "random:tiny".

  A folder may hold CLIP's text tower or T5, which its config says; "random:tiny" is CLIP's.

  Raises:
    ValueError: the folder is not such a text encoder; the message names folder and file.
  """
  if spec == RANDOM_TINY:
    return _untrained(clip.TINY_TEXT, text.describe(clip.TINY_TEXT))
  config, values = layouts.open_network("text", _folder("text", spec))
  return Encoder(config, text.describe(config), values)


def load_clip_text(spec: str) -> Encoder[clip.TextConfig]:
  """CLIP's text tower with its projection, for scores that compare texts with images.

  Args:
    spec: a transformers folder of the tower or of both towers, or "random:tiny".

  Raises:
    ValueError: the folder is not CLIP's; the message names folder and file.
  """
  if spec == RANDOM_TINY:
    shared = clip.TINY_VISION.projection_dim
    config = dataclasses.replace(clip.TINY_TEXT, projection_dim=shared)
    return _untrained(config, clip.describe_text(config))
  config, values = diffusers.open_clip_text(spec)
  return Encoder(config, clip.describe_text(config), values)


def load_image(spec: str) -> Encoder[clip.VisionConfig]:
  """The image encoder in `spec`: a transformers folder, a Stability file, or "random:tiny".

  Raises:
    ValueError: the folder is not a CLIP image encoder; the message names folder and file.
  """
  if spec == RANDOM_TINY:
    return _untrained(clip.TINY_VISION, clip.describe_vision(clip.TINY_VISION))
  config, values = layouts.open_network("image", _folder("image", spec))
  return Encoder(config, clip.describe_vision(config), values)


@dataclasses.dataclass(frozen=True)
class Frozen:
  """The encoders of one model.

  Attributes:
    encoders: by kind: "vae", and "text" or "image" as the mode needs.
    autoencoder: shape of the autoencoder where it is not among them.
  """

  encoders: dict[str, Encoder[Any]]
  autoencoder: vae.VAEConfig | None = None

  @functools.cached_property
  def weights(self) -> dict[str, Params]:
    """Weights of each encoder, to be placed on devices and passed through `jax.jit`."""
    return {
      kind: lazy.read_all(encoder.params, f"reading {kind} encoder")
      for kind, encoder in self.encoders.items()
    }

  @property
  def downsampling(self) -> int:
    """Pixels per latent, in height and in width."""
    return self._autoencoder.downsampling

  @property
  def latent_channels(self) -> int:
    """Z."""
    return self._autoencoder.latent_channels

  def without(self, kinds: Collection[str]) -> "Frozen":
    """The others: what a model needs where what those of `kinds` make is cached."""
    others = {kind: e for kind, e in self.encoders.items() if kind not in kinds}
    return Frozen(others, self._autoencoder)

  def draw(self, moments_BThwC: jax.Array, keys_B: jax.Array) -> jax.Array:
    """Scaled latents (B, T, h, w, Z) from cached moments (`vidjax.data.latents`), C = 2 Z.

    The same keys give what `Bound.encode_video` gives of the pixels, up to what the cache rounded.
    """
    mean, log_var = jnp.split(moments_BThwC.astype(jnp.float32), 2, axis=-1)
    return vae.draw(mean, log_var, keys_B) * self._autoencoder.scaling_factor

  @property
  def _autoencoder(self) -> vae.VAEConfig:
    return self.autoencoder or self.encoders["vae"].config

  def bind(self, weights: dict[str, Params]) -> "Bound":
    """The encoders with `weights` in them, for use inside a traced function."""
    return Bound(
      {kind: encoder.network.bind(weights[kind]) for kind, encoder in self.encoders.items()}
    )


@dataclasses.dataclass(frozen=True)
class Bound:
  """Encoders with their weights. Pixels are in [-1, 1]; all results are float32."""

  modules: dict[str, Any]

  @property
  def scaling_factor(self) -> float:
    """What raw latents are multiplied with before diffusion."""
    return self.modules["vae"].config.scaling_factor

  def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
    """(h, w, Z) of frames of `height` x `width` pixels."""
    config = self.modules["vae"].config
    return height // config.downsampling, width // config.downsampling, config.latent_channels

  def encode_video(self, video_BTHWC: jax.Array, keys_B: jax.Array) -> jax.Array:
    """Scaled latents (B, T, h, w, Z), drawn from the encoder's Gaussians with one key a clip."""
    return self.modules["vae"].encode_sample(video_BTHWC, keys_B) * self.scaling_factor

  def encode_image(self, image_BHWC: jax.Array) -> jax.Array:
    """Most likely latents (B, h, w, Z), NOT scaled: SVD's image condition."""
    return self.modules["vae"].encode_mode(image_BHWC[:, None])[:, 0]

  def decode(self, latents_BThwZ: jax.Array) -> jax.Array:
    """Pixels (B, T, H, W, 3) of scaled latents, not clipped."""
    return self.modules["vae"].decode(latents_BThwZ / self.scaling_factor)

  def embed_text(self, tokens_BL: jax.Array) -> jax.Array:
    """Hidden states (B, L, X) of the text encoder."""
    return self.modules["text"](tokens_BL)

  def embed_image(self, image_BHWC: jax.Array) -> jax.Array:
    """Projected embeddings (B, X) of the image encoder."""
    return self.modules["image"](image_BHWC)


def load(config: EncodersConfig, condition: str, *, dtype: str = "float32") -> Frozen:
  """Opens the autoencoder, and the encoder of the condition: "text" or "image".

  Which one a mode needs is said in `vidjax.conditioning.modes`.

  Args:
    config: where they are.
    condition: kind of the encoder of the condition.
    dtype: in which they compute.

  Raises:
    ValueError: an encoder that is needed is not named in the config, or not there.
  """
  assert condition in ("text", "image"), condition
  of_condition = load_image(config.image) if condition == "image" else load_text(config.text)
  encoders = {"vae": load_vae(config.vae), condition: of_condition}
  return Frozen({kind: _in_dtype(kind, encoder, dtype) for kind, encoder in encoders.items()})


def describe(config: EncodersConfig, condition: str, *, dtype: str) -> Frozen:
  """As `load`, without weights; those of SVD stand in for encoders that the config does not name.

  For planning: what a run costs depends on shapes only.
  """
  published = {
    "vae": vae.PRESETS["kl_f8"],
    "text": clip.TEXT_PRESETS["sd21"],
    "image": clip.VISION_PRESETS["vit_h_14"],
  }
  tiny = {"vae": vae.PRESETS["tiny"], "text": clip.TINY_TEXT, "image": clip.TINY_VISION}
  encoders = {}
  for kind in ("vae", condition):
    spec = getattr(config, kind)
    if spec == RANDOM_TINY:
      shape = tiny[kind]
    else:
      shape = _LOADERS[kind](spec).config if spec else published[kind]
    encoders[kind] = _in_dtype(kind, Encoder(shape, _DESCRIBE[kind](shape), {}), dtype)
  return Frozen(encoders)


_LOADERS = {"vae": load_vae, "text": load_text, "image": load_image}
_DESCRIBE = {"vae": vae.describe, "text": text.describe, "image": clip.describe_vision}


def _in_dtype(kind: str, encoder: Encoder[Any], dtype: str) -> Encoder[Any]:
  if encoder.config.dtype == dtype:
    return encoder
  config = dataclasses.replace(encoder.config, dtype=dtype)
  return Encoder(config, _DESCRIBE[kind](config), encoder.params)


def _folder(kind: str, spec: str) -> str:
  if not spec:
    raise ValueError(
      f"encoders.{kind} is empty: set --config.encoders.{kind}=DIR to its folder, or {RANDOM_TINY}"
    )
  return spec


def _untrained(config: Any, network: Network[Any]) -> Encoder[Any]:
  return Encoder(config, network, jax.device_get(jax.jit(network.init)(jax.random.key(_TINY_SEED))))
