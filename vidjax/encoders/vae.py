"""The KL autoencoder of latent diffusion, for images or with a temporal decoder.

Source: latent diffusion (arXiv 2112.10752), section 3.1; the temporal decoder is SVD's (2311.15127,
generative-models' `temporal_ae.py`). Layout and epsilons are those of diffusers' AutoencoderKL and
AutoencoderKLTemporalDecoder.

B batch, T frames, H W pixel and h w latent height and width, C channels, Z latent channels.
"""

import dataclasses

from flax import nnx
import jax
import jax.numpy as jnp

from vidjax.nn import params
from vidjax.nn.attention import Attention
from vidjax.nn.conv import Conv, TemporalConv
from vidjax.nn.init import Keys
from vidjax.nn.mix import AlphaBlender, then_over_time
from vidjax.nn.norm import GROUPS, GroupNorm
from vidjax.nn.resample import Downsample, Upsample
from vidjax.nn.resblock import ResBlock
from vidjax.parallel import plan

_EPS, _TEMPORAL_EPS = 1e-6, 1e-5


@dataclasses.dataclass(frozen=True)
class VAEConfig:
  """Shape of an autoencoder.

  Attributes:
    block_out_channels: width of each resolution level, finest first; multiples of the groups.
    norm_groups: groups of the group norms; 32 in a temporal decoder.
    layers_per_block: residual blocks of a level in the encoder; one more in the decoder.
    latent_channels: Z.
    scaling_factor: what latents are multiplied with before diffusion, for unit variance.
    mid_attention: self-attention at the coarsest level.
    use_quant_conv: 1x1 convolution after the encoder.
    use_post_quant_conv: 1x1 convolution before the decoder. The temporal decoder of SVD has none.
    temporal_decoder: convolve over time in the decoder.
    dtype: of the computation; parameters and statistics are float32.
  """

  block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
  norm_groups: int = GROUPS
  layers_per_block: int = 2
  latent_channels: int = 4
  scaling_factor: float = 0.18215
  mid_attention: bool = True
  use_quant_conv: bool = True
  use_post_quant_conv: bool = True
  temporal_decoder: bool = False
  dtype: str = "float32"

  def __post_init__(self):
    if self.temporal_decoder and (self.use_post_quant_conv or not self.use_quant_conv):
      raise ValueError("a temporal decoder goes with use_quant_conv and no use_post_quant_conv")
    if self.temporal_decoder and (self.layers_per_block != 2 or not self.mid_attention):
      raise ValueError("a temporal decoder goes with layers_per_block=2 and mid_attention")
    if self.temporal_decoder and self.norm_groups != GROUPS:
      raise ValueError(f"a temporal decoder goes with norm_groups={GROUPS}")

  @property
  def downsampling(self) -> int:
    """Pixels per latent, in height and in width."""
    return 2 ** (len(self.block_out_channels) - 1)


# Autoencoders to train. Without `post_quant_conv`, so that they can be exported with SVD.
PRESETS: dict[str, VAEConfig] = {
  "kl_f8": VAEConfig(use_post_quant_conv=False),
  "tiny": VAEConfig(
    block_out_channels=(16, 32, 64, 64),
    norm_groups=8,
    layers_per_block=1,
    latent_channels=8,  # at a few dozen positions a frame, four do not hold a picture
    use_post_quant_conv=False,
  ),
}


class AutoencoderKL(nnx.Module):
  """Encodes frames to Gaussians over latents, and decodes latents.

  Pixels are in [-1, 1]. Latents here are raw: multiply them with `config.scaling_factor` for
  diffusion, and divide before `decode`.

  Args:
    config: shape of the autoencoder.
    rngs: source of the initial values.
  """

  def __init__(self, config: VAEConfig, rngs: Keys):
    self.config = config
    latents = config.latent_channels
    self.encoder = Encoder(config, rngs)
    self.quant_conv = (
      Conv(2 * latents, 2 * latents, 1, rngs=rngs) if config.use_quant_conv else None
    )
    self.post_quant_conv = (
      Conv(latents, latents, 1, rngs=rngs) if config.use_post_quant_conv else None
    )
    self.decoder = Decoder(config, rngs)

  def encode_moments(self, x_BTHWC: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and log-variance of the latents, two (B, T, h, w, Z) arrays in float32.

    Args:
      x_BTHWC: frames in [-1, 1], H and W multiples of `config.downsampling`.

    Raises:
      ValueError: the size does not fit.
    """
    factor = self.config.downsampling
    if x_BTHWC.shape[2] % factor or x_BTHWC.shape[3] % factor:
      raise ValueError(f"frames of {x_BTHWC.shape[2:4]} pixels: use multiples of {factor}")
    h = self.encoder(plan.split_frames(x_BTHWC.astype(self.config.dtype)))
    if self.quant_conv is not None:
      h = self.quant_conv(h)
    mean, log_var = jnp.split(plan.whole_frames(h).astype(jnp.float32), 2, axis=-1)
    return mean, jnp.clip(log_var, -30.0, 20.0)

  def encode_mode(self, x_BTHWC: jax.Array) -> jax.Array:
    """The most likely latents (B, T, h, w, Z)."""
    return self.encode_moments(x_BTHWC)[0]

  def encode_sample(self, x_BTHWC: jax.Array, keys_B: jax.Array) -> jax.Array:
    """Latents (B, T, h, w, Z) drawn with one key for each clip."""
    return draw(*self.encode_moments(x_BTHWC), keys_B)

  def decode(self, z_BThwZ: jax.Array) -> jax.Array:
    """Frames (B, T, H, W, 3) in about [-1, 1], float32, from raw latents."""
    h = plan.split_frames(z_BThwZ.astype(self.config.dtype))
    if self.post_quant_conv is not None:
      h = self.post_quant_conv(h)
    return plan.whole_frames(self.decoder(h)).astype(jnp.float32)


def draw(mean_BThwZ: jax.Array, log_var_BThwZ: jax.Array, keys_B: jax.Array) -> jax.Array:
  """Latents (B, T, h, w, Z) of the Gaussians that `encode_moments` gives, one key for each clip."""
  noise = jax.vmap(lambda key: jax.random.normal(key, mean_BThwZ.shape[1:]))(keys_B)
  return mean_BThwZ + jnp.exp(0.5 * log_var_BThwZ) * noise


def describe(config: VAEConfig) -> params.Network[AutoencoderKL]:
  """The autoencoder of `config` without values."""
  return params.network(lambda rngs: AutoencoderKL(config, rngs))


class Encoder(nnx.Module):
  """`x_BTHWC` in [-1, 1] to `h_BThwC` with C = 2Z, each frame for itself."""

  def __init__(self, config: VAEConfig, rngs: Keys):
    widths = config.block_out_channels
    self.conv_in = Conv(3, widths[0], rngs=rngs)
    down_blocks, width = [], widths[0]
    for level, level_width in enumerate(widths):
      ins = [width] + [level_width] * (config.layers_per_block - 1)
      down_blocks.append(
        DownLevel(config, ins, level_width, last=level == len(widths) - 1, rngs=rngs)
      )
      width = level_width
    self.down_blocks = nnx.List(down_blocks)
    self.mid_block = Mid(config, width, temporal=False, rngs=rngs)
    self.conv_norm_out = GroupNorm(width, eps=_EPS, groups=config.norm_groups)
    self.conv_out = Conv(width, 2 * config.latent_channels, rngs=rngs)

  def __call__(self, x_BTHWC: jax.Array) -> jax.Array:
    """Runs the encoder."""
    h = self.conv_in(x_BTHWC)
    for block in self.down_blocks:
      h = block(h)
    return self.conv_out(jax.nn.silu(self.conv_norm_out(self.mid_block(h))))


class Decoder(nnx.Module):
  """`z_BThwZ` to `x_BTHWC`; with time convolutions also across frames."""

  def __init__(self, config: VAEConfig, rngs: Keys):
    widths, temporal = config.block_out_channels, config.temporal_decoder
    width = widths[-1]
    self.conv_in = Conv(config.latent_channels, width, rngs=rngs)
    self.mid_block = Mid(config, width, temporal=temporal, rngs=rngs)
    up_blocks = []
    for level in reversed(range(len(widths))):
      ins = [width] + [widths[level]] * config.layers_per_block
      width = widths[level]
      up_blocks.append(UpLevel(config, ins, width, last=level == 0, rngs=rngs))
    self.up_blocks = nnx.List(up_blocks)
    self.conv_norm_out = GroupNorm(width, eps=_EPS, groups=config.norm_groups)
    self.conv_out = Conv(width, 3, rngs=rngs)
    self.time_conv_out = TemporalConv(3, 3, rngs=rngs) if temporal else None

  def __call__(self, z_BThwZ: jax.Array) -> jax.Array:
    """Runs the decoder."""
    h = self.mid_block(self.conv_in(z_BThwZ))
    for block in self.up_blocks:
      h = block(h)
    x_BTHWC = self.conv_out(jax.nn.silu(self.conv_norm_out(h)))
    return then_over_time(self.time_conv_out, x_BTHWC, image_only=False)


class DecoderResBlock(nnx.Module):
  """A spatial residual block, then maybe a temporal one: `x_BTHWC -> y_BTHWD`.

  The learned blend weighs the temporal branch, where that of the UNet weighs the spatial one.
  """

  def __init__(
    self,
    config: VAEConfig,
    in_channels: int,
    out_channels: int,
    *,
    temporal: bool,
    rngs: Keys,
  ):
    self.spatial = ResBlock(
      in_channels, out_channels, None, eps=_EPS, groups=config.norm_groups, rngs=rngs
    )
    self.temporal = (
      ResBlock(out_channels, out_channels, None, eps=_TEMPORAL_EPS, temporal=True, rngs=rngs)
      if temporal
      else None
    )
    self.time_mixer = AlphaBlender(0.0) if temporal else None

  def __call__(self, x_BTHWC: jax.Array) -> jax.Array:
    """Runs the block."""
    x_BTHWD = self.spatial(x_BTHWC)
    temporal, mixer = self.temporal, self.time_mixer
    if temporal is None or mixer is None:
      return x_BTHWD

    def blended(x_BTHWD: jax.Array) -> jax.Array:
      return mixer(temporal(x_BTHWD), x_BTHWD)

    return then_over_time(blended, x_BTHWD, image_only=False)


class DownLevel(nnx.Module):
  """Residual blocks of one level, then half the resolution."""

  def __init__(self, config: VAEConfig, ins: list[int], width: int, *, last: bool, rngs: Keys):
    self.resnets = nnx.List(
      ResBlock(c, width, None, eps=_EPS, groups=config.norm_groups, rngs=rngs) for c in ins
    )
    self.downsample = None if last else Downsample(width, symmetric=False, rngs=rngs)

  def __call__(self, x_BTHWC: jax.Array) -> jax.Array:
    """Runs the level."""
    for resnet in self.resnets:
      x_BTHWC = resnet(x_BTHWC)
    return x_BTHWC if self.downsample is None else self.downsample(x_BTHWC)


class UpLevel(nnx.Module):
  """Residual blocks of one level, then twice the resolution."""

  def __init__(self, config: VAEConfig, ins: list[int], width: int, *, last: bool, rngs: Keys):
    temporal = config.temporal_decoder
    self.resnets = nnx.List(
      DecoderResBlock(config, c, width, temporal=temporal, rngs=rngs) for c in ins
    )
    self.upsample = None if last else Upsample(width, rngs=rngs)

  def __call__(self, x_BTHWC: jax.Array) -> jax.Array:
    """Runs the level."""
    for resnet in self.resnets:
      x_BTHWC = resnet(x_BTHWC)
    return x_BTHWC if self.upsample is None else self.upsample(x_BTHWC)


class Mid(nnx.Module):
  """The coarsest level: a residual block, self-attention with one head, a residual block."""

  def __init__(self, config: VAEConfig, width: int, *, temporal: bool, rngs: Keys):
    self.resnets = nnx.List(
      DecoderResBlock(config, width, width, temporal=temporal, rngs=rngs) for _ in range(2)
    )
    self.attention = SelfAttention(config, width, rngs) if config.mid_attention else None

  def __call__(self, x_BTHWC: jax.Array) -> jax.Array:
    """Runs the level."""
    x_BTHWC = self.resnets[0](x_BTHWC)
    if self.attention is not None:
      x_BTHWC = self.attention(x_BTHWC)
    return self.resnets[1](x_BTHWC)


class SelfAttention(nnx.Module):
  """Residual attention of each position to all of its frame."""

  def __init__(self, config: VAEConfig, width: int, rngs: Keys):
    self.norm = GroupNorm(width, eps=_EPS, groups=config.norm_groups)
    self.attn = Attention(width, 1, bias=True, rngs=rngs)

  def __call__(self, x_BTHWC: jax.Array) -> jax.Array:
    """Adds what each position reads."""
    batch, frames, height, width, channels = x_BTHWC.shape
    h = self.norm(x_BTHWC).reshape(batch, frames, height * width, channels)
    return x_BTHWC + self.attn(h).reshape(x_BTHWC.shape)
