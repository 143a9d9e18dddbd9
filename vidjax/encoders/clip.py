"""The text and image towers of CLIP, frozen.

Source: CLIP (arXiv 2103.00020); layout of transformers' CLIPTextModel and
CLIPVisionModelWithProjection, whose configs these read. Stable Diffusion 2.1 takes the text tower
of OpenCLIP ViT-H/14 without its last layer, which its config states as 23 layers; SVD takes the
projected embedding of the image tower.

B batch, L tokens (text tokens, or patches after a class token), C channels, X projected channels,
H W height and width in pixels.
"""

from collections.abc import Callable
import dataclasses

from flax import nnx
import jax
import jax.numpy as jnp

from vidjax.encoders.resize import resize
from vidjax.nn import params
from vidjax.nn.attention import Attention
from vidjax.nn.conv import Conv
from vidjax.nn.dense import Dense
from vidjax.nn.embed import Embedding
from vidjax.nn.init import Keys
from vidjax.nn.norm import LayerNorm

# Mean and deviation of RGB in [0, 1] that all CLIP image towers were trained with.
PIXEL_MEAN = (0.48145466, 0.4578275, 0.40821073)
PIXEL_STD = (0.26862954, 0.26130258, 0.27577711)

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
  "gelu": lambda x: jax.nn.gelu(x, approximate=False),
  "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),
}


def _check_activation(name: str) -> None:
  if name not in ACTIVATIONS:
    raise ValueError(f"hidden_act={name!r}: known are {', '.join(ACTIVATIONS)}")


@dataclasses.dataclass(frozen=True)
class TextConfig:
  """Shape of a text tower; names and defaults of transformers' CLIPTextConfig."""

  vocab_size: int = 49408
  hidden_size: int = 512
  intermediate_size: int = 2048
  num_hidden_layers: int = 12
  num_attention_heads: int = 8
  max_position_embeddings: int = 77
  hidden_act: str = "quick_gelu"
  layer_norm_eps: float = 1e-5

  def __post_init__(self):
    _check_activation(self.hidden_act)


@dataclasses.dataclass(frozen=True)
class VisionConfig:
  """Shape of an image tower; names and defaults of transformers' CLIPVisionConfig."""

  hidden_size: int = 768
  intermediate_size: int = 3072
  projection_dim: int = 512
  num_hidden_layers: int = 12
  num_attention_heads: int = 12
  image_size: int = 224
  patch_size: int = 32
  hidden_act: str = "quick_gelu"
  layer_norm_eps: float = 1e-5

  def __post_init__(self):
    _check_activation(self.hidden_act)
    if self.image_size % self.patch_size:
      raise ValueError(
        f"image_size={self.image_size} is no multiple of patch_size={self.patch_size}"
      )


TINY_TEXT = TextConfig(
  vocab_size=259,  # bytes, and three special tokens: see `tokenizers.ByteTokenizer`
  hidden_size=64,
  intermediate_size=128,
  num_hidden_layers=2,
  num_attention_heads=2,
  max_position_embeddings=64,
)
TINY_VISION = VisionConfig(
  hidden_size=64,
  intermediate_size=128,
  projection_dim=64,
  num_hidden_layers=2,
  num_attention_heads=2,
)


class CLIPText(nnx.Module):
  """Text tower: token ids (B, L) -> hidden states (B, L, C) of the last layer, normalised."""

  def __init__(self, config: TextConfig, rngs: Keys):
    self.config = config
    width = config.hidden_size
    self.token_embedding = Embedding(config.vocab_size, width, rngs=rngs)
    self.position_embedding = Embedding(config.max_position_embeddings, width, rngs=rngs)
    self.layers = _layers(config, causal=True, rngs=rngs)
    self.final_norm = LayerNorm(width, eps=config.layer_norm_eps)

  def __call__(self, tokens_BL: jax.Array) -> jax.Array:
    """Encodes `tokens_BL`; padding is not masked, as in Stable Diffusion.

    Raises:
      ValueError: more tokens than positions.
    """
    length = tokens_BL.shape[1]
    if length > self.config.max_position_embeddings:
      raise ValueError(
        f"{length} tokens, the text encoder has {self.config.max_position_embeddings} positions"
      )
    h = self.token_embedding(tokens_BL) + self.position_embedding(jnp.arange(length))[None]
    for layer in self.layers:
      h = layer(h)
    return self.final_norm(h)


class CLIPVision(nnx.Module):
  """Image tower: images (B, H, W, 3) -> projected embeddings (B, X)."""

  def __init__(self, config: VisionConfig, rngs: Keys):
    self.config = config
    width, patch = config.hidden_size, config.patch_size
    positions = (config.image_size // patch) ** 2 + 1
    self.class_embedding = nnx.Param(
      0.02 * jax.random.normal(rngs.params(), (width,)), role="vector"
    )
    self.patch_embedding = Conv(
      3, width, patch, stride=patch, padding=((0, 0), (0, 0)), bias=False, rngs=rngs
    )
    self.position_embedding = Embedding(positions, width, rngs=rngs)
    self.pre_norm = LayerNorm(width, eps=config.layer_norm_eps)
    self.layers = _layers(config, causal=False, rngs=rngs)
    self.post_norm = LayerNorm(width, eps=config.layer_norm_eps)
    self.projection = Dense(width, config.projection_dim, bias=False, rngs=rngs)

  def __call__(self, x_BHWC: jax.Array) -> jax.Array:
    """Embeds images in [-1, 1] of any size; resized without keeping the aspect, as in SVD."""
    side = self.config.image_size
    x_BHWC = 0.5 * resize(x_BHWC.astype(jnp.float32), (side, side)) + 0.5
    mean, std = (jnp.asarray(v).reshape(1, 1, 1, 3) for v in (PIXEL_MEAN, PIXEL_STD))
    return self.embed_pixels((x_BHWC - mean) / std)

  def embed_pixels(self, x_BHWC: jax.Array) -> jax.Array:
    """Embeds images that have the encoder's size, mean and deviation."""
    patches_BLC = self.patch_embedding(x_BHWC[:, None])
    patches_BLC = patches_BLC.reshape(x_BHWC.shape[0], -1, self.config.hidden_size)
    # The class token goes in through its position's vector: in front of the patches is a zero row.
    positions_LC = self.position_embedding(jnp.arange(patches_BLC.shape[1] + 1))
    positions_LC = positions_LC.at[0].add(self.class_embedding[...])
    h = self.pre_norm(jnp.pad(patches_BLC, ((0, 0), (1, 0), (0, 0))) + positions_LC[None])
    for layer in self.layers:
      h = layer(h)
    return self.projection(self.post_norm(h[:, 0]))


class Layer(nnx.Module):
  """Pre-norm transformer layer: (B, L, C) -> (B, L, C)."""

  def __init__(self, config: TextConfig | VisionConfig, *, causal: bool, rngs: Keys):
    width = config.hidden_size
    self.norm1 = LayerNorm(width, eps=config.layer_norm_eps)
    self.attn = Attention(width, config.num_attention_heads, bias=True, causal=causal, rngs=rngs)
    self.norm2 = LayerNorm(width, eps=config.layer_norm_eps)
    self.fc1 = Dense(width, config.intermediate_size, rngs=rngs)
    self.fc2 = Dense(config.intermediate_size, width, rngs=rngs)
    self.hidden_act = config.hidden_act

  def __call__(self, x_BLC: jax.Array) -> jax.Array:
    """Runs the layer."""
    x_BLC += self.attn(self.norm1(x_BLC))
    return x_BLC + self.fc2(ACTIVATIONS[self.hidden_act](self.fc1(self.norm2(x_BLC))))


def describe_text(config: TextConfig) -> params.Network[CLIPText]:
  """The text tower of `config` without values."""
  return params.network(lambda rngs: CLIPText(config, rngs))


def describe_vision(config: VisionConfig) -> params.Network[CLIPVision]:
  """The image tower of `config` without values."""
  return params.network(lambda rngs: CLIPVision(config, rngs))


def _layers(config: TextConfig | VisionConfig, *, causal: bool, rngs: Keys) -> nnx.List:
  return nnx.List(Layer(config, causal=causal, rngs=rngs) for _ in range(config.num_hidden_layers))
