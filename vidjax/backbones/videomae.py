"""VideoMAE V2's giant vision transformer, whose features see motion where I3D's see frames.

Source: Wang et al. (arXiv 2303.16727), table 1; its fine-tuning code, `vit_giant_patch14_224`, as
content-debiased FVD takes it (Ge et al., arXiv 2404.12391): fine-tuned on Something-Something V2,
mean of the last layer's tokens.

B clips, T frames, H W pixels, N tokens, C channels.
"""

from collections.abc import Mapping
import dataclasses

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np

from vidjax.nn import params
from vidjax.nn.attention import Attention
from vidjax.nn.dense import Dense
from vidjax.nn.init import Keys
from vidjax.nn.norm import LayerNorm
from vidjax.nn.params import Params

_EPS = 1e-6


@dataclasses.dataclass(frozen=True)
class Config:
  """Shape of the network; that of the giant one by default.

  Attributes:
    width: C.
    layers: their number.
    heads: of each.
    hidden: channels of the feed-forwards, 48 / 11 of the width.
    patch: pixels of a token's side.
    tubelet: frames of a token.
    frames: of a clip.
    size: height and width of frames.
    classes: of the file's head, which is left out.
  """

  width: int = 1408
  layers: int = 40
  heads: int = 16
  hidden: int = 6144
  patch: int = 14
  tubelet: int = 2
  frames: int = 16
  size: int = 224
  classes: int = 174


class Layer(nnx.Module):
  """Pre-norm transformer layer: (B, N, C) -> (B, N, C)."""

  def __init__(self, config: Config, rngs: Keys):
    self.norm1 = LayerNorm(config.width, eps=_EPS)
    self.attn = Attention(config.width, config.heads, bias=True, rngs=rngs)
    self.norm2 = LayerNorm(config.width, eps=_EPS)
    self.fc1 = Dense(config.width, config.hidden, rngs=rngs)
    self.fc2 = Dense(config.hidden, config.width, rngs=rngs)

  def __call__(self, x_BNC: jax.Array) -> jax.Array:
    """Runs the layer."""
    x_BNC += self.attn(self.norm1(x_BNC))
    return x_BNC + self.fc2(jax.nn.gelu(self.fc1(self.norm2(x_BNC)), approximate=False))


class VideoMAE(nnx.Module):
  """Clips (B, T, H, W, 3) in [0, 1] -> features (B, C)."""

  def __init__(self, config: Config, rngs: Keys):
    self.config = config
    pixels = config.tubelet * config.patch**2 * 3
    self.patch_embedding = Dense(pixels, config.width, rngs=rngs)
    self.layers = nnx.List(Layer(config, rngs) for _ in range(config.layers))
    self.norm = LayerNorm(config.width, eps=_EPS)

  def __call__(self, x_BTHWC: jax.Array) -> jax.Array:
    """Mean over all tokens of the last layer, normalised.

    Raises:
      ValueError: clips of another length or size.
    """
    c = self.config
    if x_BTHWC.shape[1:4] != (c.frames, c.size, c.size):
      raise ValueError(
        f"clips of (frames, height, width) = {x_BTHWC.shape[1:4]}: VideoMAE takes"
        f" {(c.frames, c.size, c.size)}"
      )
    x_BNC = self.patch_embedding(_tubelets(x_BTHWC, c))
    x_BNC += jnp.asarray(_positions(x_BNC.shape[1], c.width))[None]
    for layer in self.layers:
      x_BNC = layer(x_BNC)
    return self.norm(jnp.mean(x_BNC, 1))


def _tubelets(x_BTHWC: jax.Array, config: Config) -> jax.Array:
  """Pixels of each token, (B, N, tubelet * patch * patch * 3); tokens by time, row and column."""
  batch, frames, height, width, colours = x_BTHWC.shape
  t, p = config.tubelet, config.patch
  parts = x_BTHWC.reshape(batch, frames // t, t, height // p, p, width // p, p, colours)
  return parts.transpose(0, 1, 3, 5, 2, 4, 6, 7).reshape(batch, -1, t * p * p * colours)


def _positions(tokens: int, width: int) -> np.ndarray:
  """Sines and cosines of the place of a token, as in Vaswani et al. (1706.03762) sec. 3.5."""
  channel = np.arange(width)
  angle = np.arange(tokens)[:, None] / 10000.0 ** (2 * (channel // 2) / width)
  return np.where(channel % 2, np.cos(angle), np.sin(angle)).astype(np.float32)


def describe(config: Config = Config()) -> params.Network[VideoMAE]:
  """The network without values."""
  return params.network(lambda rngs: VideoMAE(config, rngs))


# --- The published file ---------------------------------------------------------------------------


def published_shapes(config: Config) -> dict[str, tuple[int, ...]]:
  """Names and shapes of all tensors in the file of the fine-tuned network."""
  c, h = config.width, config.hidden
  shapes = {
    "patch_embed.proj.weight": (c, 3, config.tubelet, config.patch, config.patch),
    "patch_embed.proj.bias": (c,),
    "fc_norm.weight": (c,),
    "fc_norm.bias": (c,),
    "head.weight": (config.classes, c),
    "head.bias": (config.classes,),
  }
  of_layer = {
    "norm1.weight": (c,),
    "norm1.bias": (c,),
    "attn.q_bias": (c,),
    "attn.v_bias": (c,),
    "attn.qkv.weight": (3 * c, c),
    "attn.proj.weight": (c, c),
    "attn.proj.bias": (c,),
    "norm2.weight": (c,),
    "norm2.bias": (c,),
    "mlp.fc1.weight": (h, c),
    "mlp.fc1.bias": (h,),
    "mlp.fc2.weight": (c, h),
    "mlp.fc2.bias": (c,),
  }
  for i in range(config.layers):
    shapes |= {f"blocks.{i}.{name}": shape for name, shape in of_layer.items()}
  return shapes


def from_published(config: Config, tensors: Mapping[str, np.ndarray]) -> Params:
  """Parameters from the tensors of the file; keys have no bias there, and a bias of 0 here."""

  def norm(ours: str, theirs: str) -> Params:
    return {f"{ours}.scale": tensors[f"{theirs}.weight"], f"{ours}.bias": tensors[f"{theirs}.bias"]}

  def dense(ours: str, theirs: str) -> Params:
    kernel = np.ascontiguousarray(tensors[f"{theirs}.weight"].T)
    return {f"{ours}.kernel": kernel, f"{ours}.bias": tensors[f"{theirs}.bias"]}

  kernel_CtHWc = tensors["patch_embed.proj.weight"].transpose(2, 3, 4, 1, 0)
  values: Params = {
    "patch_embedding.kernel": kernel_CtHWc.reshape(-1, config.width),
    "patch_embedding.bias": tensors["patch_embed.proj.bias"],
    **norm("norm", "fc_norm"),
  }
  for i in range(config.layers):
    ours, theirs = f"layers.{i}", f"blocks.{i}"
    for layer in ("norm1", "norm2"):
      values |= norm(f"{ours}.{layer}", f"{theirs}.{layer}")
    for layer in ("fc1", "fc2"):
      values |= dense(f"{ours}.{layer}", f"{theirs}.mlp.{layer}")
    values |= dense(f"{ours}.attn.to_out", f"{theirs}.attn.proj")
    kernels = np.split(tensors[f"{theirs}.attn.qkv.weight"], 3)
    zero = np.zeros(config.width, np.float32)
    biases = (tensors[f"{theirs}.attn.q_bias"], zero, tensors[f"{theirs}.attn.v_bias"])
    for name, kernel, bias in zip(("to_q", "to_k", "to_v"), kernels, biases, strict=True):
      values[f"{ours}.attn.{name}.kernel"] = np.ascontiguousarray(kernel.T)
      values[f"{ours}.attn.{name}.bias"] = bias
  return {name: np.asarray(value, np.float32) for name, value in values.items()}
