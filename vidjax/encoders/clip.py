"""The text and image towers of CLIP, frozen.

Source: CLIP (arXiv 2103.00020); layout of transformers' CLIPTextModel and
CLIPVisionModelWithProjection, whose configs these read. Stable Diffusion 2.1 takes the text tower
of OpenCLIP ViT-H/14 without its last layer, which its config states as 23 layers; SVD takes the
projected embedding of the image tower; scores such as CLIPSIM compare the projected embeddings of
both.

Parameters, the sum that runs through the layers, norms, softmax and results are float32; `dtype` of
a config is that of the operands of matrix products.

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

# Old configs of CLIP call the end token 2, which it is not: with this value transformers takes the
# largest id of a text for it, as CLIP's own code does, and with any other the first of that value.
_LARGEST_IS_END = 2

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
  "gelu": lambda x: jax.nn.gelu(x, approximate=False),
  "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),
}


def _check_activation(name: str) -> None:
  if name not in ACTIVATIONS:
    raise ValueError(f"hidden_act={name!r}: known are {', '.join(ACTIVATIONS)}")


@dataclasses.dataclass(frozen=True)
class TextConfig:
  """Shape of a text tower; names and defaults of transformers' CLIPTextConfig.

  `projection_dim` is 0 where there is no projection to the embedding that images share.
  """

  vocab_size: int = 49408
  hidden_size: int = 512
  intermediate_size: int = 2048
  num_hidden_layers: int = 12
  num_attention_heads: int = 8
  max_position_embeddings: int = 77
  hidden_act: str = "quick_gelu"
  layer_norm_eps: float = 1e-5
  projection_dim: int = 0
  eos_token_id: int = 49407
  dtype: str = "float32"

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
  dtype: str = "float32"

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
  eos_token_id=2,
)
TINY_VISION = VisionConfig(
  hidden_size=64,
  intermediate_size=128,
  projection_dim=64,
  num_hidden_layers=2,
  num_attention_heads=2,
)

TEXT_PRESETS: dict[str, TextConfig] = {
  # OpenCLIP ViT-H/14 without its last layer.
  "sd21": TextConfig(
    hidden_size=1024,
    intermediate_size=4096,
    num_hidden_layers=23,
    num_attention_heads=16,
    hidden_act="gelu",
  ),
  "vit_l_14": TextConfig(
    hidden_size=768, intermediate_size=3072, num_attention_heads=12, projection_dim=768
  ),
  "vit_b_32": TextConfig(projection_dim=512),
  "tiny": TINY_TEXT,
}
VISION_PRESETS: dict[str, VisionConfig] = {
  # OpenCLIP's, the image encoder of SVD.
  "vit_h_14": VisionConfig(
    hidden_size=1280,
    intermediate_size=5120,
    projection_dim=1024,
    num_hidden_layers=32,
    num_attention_heads=16,
    patch_size=14,
    hidden_act="gelu",
  ),
  "vit_l_14": VisionConfig(
    hidden_size=1024,
    intermediate_size=4096,
    projection_dim=768,
    num_hidden_layers=24,
    num_attention_heads=16,
    patch_size=14,
  ),
  "vit_b_32": VisionConfig(),
  "tiny": TINY_VISION,
}


class CLIPText(nnx.Module):
  """Text tower: token ids (B, L) -> hidden states (B, L, C) of the last layer, normalised."""

  def __init__(self, config: TextConfig, rngs: Keys):
    self.config = config
    width = config.hidden_size
    self.token_embedding = Embedding(config.vocab_size, width, rngs=rngs)
    self.position_embedding = Embedding(config.max_position_embeddings, width, rngs=rngs)
    self.layers = _layers(config, causal=True, rngs=rngs)
    self.final_norm = LayerNorm(width, eps=config.layer_norm_eps)
    self.projection = (
      Dense(width, config.projection_dim, bias=False, rngs=rngs) if config.projection_dim else None
    )

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

  def embed(self, tokens_BL: jax.Array) -> jax.Array:
    """The state at each text's end token, float32: projected (B, X), or (B, C) without projection.

    Where a text has no end token, it is the state at its first one.

    Raises:
      ValueError: more tokens than positions.
    """
    is_end_BL = tokens_BL
    if self.config.eos_token_id != _LARGEST_IS_END:
      is_end_BL = (tokens_BL == self.config.eos_token_id).astype(jnp.int32)
    end_B1 = jnp.argmax(is_end_BL, -1, keepdims=True)  # the first of the largest
    at_end_BL = jnp.arange(tokens_BL.shape[1])[None] == end_B1
    pooled_BC = jnp.where(at_end_BL[..., None], self(tokens_BL), 0.0).sum(1)
    if self.projection is None:
      return pooled_BC
    return self.projection(pooled_BC.astype(self.config.dtype)).astype(jnp.float32)


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
    patches_BLC = self.patch_embedding(x_BHWC[:, None].astype(self.config.dtype))
    patches_BLC = patches_BLC.reshape(x_BHWC.shape[0], -1, self.config.hidden_size)
    patches_BLC = patches_BLC.astype(jnp.float32)
    # The class token goes in through its position's vector: in front of the patches is a zero row.
    positions_LC = self.position_embedding(jnp.arange(patches_BLC.shape[1] + 1))
    positions_LC = positions_LC.at[0].add(self.class_embedding[...])
    h = self.pre_norm(jnp.pad(patches_BLC, ((0, 0), (1, 0), (0, 0))) + positions_LC[None])
    for layer in self.layers:
      h = layer(h)
    h = self.post_norm(h[:, 0]).astype(self.config.dtype)
    return self.projection(h).astype(jnp.float32)


class Layer(nnx.Module):
  """Pre-norm transformer layer: float32 (B, L, C) -> (B, L, C)."""

  def __init__(self, config: TextConfig | VisionConfig, *, causal: bool, rngs: Keys):
    width = config.hidden_size
    self.norm1 = LayerNorm(width, eps=config.layer_norm_eps)
    self.attn = Attention(width, config.num_attention_heads, bias=True, causal=causal, rngs=rngs)
    self.norm2 = LayerNorm(width, eps=config.layer_norm_eps)
    self.fc1 = Dense(width, config.intermediate_size, rngs=rngs)
    self.fc2 = Dense(config.intermediate_size, width, rngs=rngs)
    self.hidden_act, self.dtype = config.hidden_act, config.dtype

  def __call__(self, x_BLC: jax.Array) -> jax.Array:
    """Runs the layer."""
    x_BLC += self.attn(self.norm1(x_BLC).astype(self.dtype)).astype(x_BLC.dtype)
    h = ACTIVATIONS[self.hidden_act](self.fc1(self.norm2(x_BLC).astype(self.dtype)))
    return x_BLC + self.fc2(h).astype(x_BLC.dtype)


def describe_text(config: TextConfig) -> params.Network[CLIPText]:
  """The text tower of `config` without values."""
  return params.network(lambda rngs: CLIPText(config, rngs))


def describe_vision(config: VisionConfig) -> params.Network[CLIPVision]:
  """The image tower of `config` without values."""
  return params.network(lambda rngs: CLIPVision(config, rngs))


def _layers(config: TextConfig | VisionConfig, *, causal: bool, rngs: Keys) -> nnx.List:
  return nnx.List(Layer(config, causal=causal, rngs=rngs) for _ in range(config.num_hidden_layers))
