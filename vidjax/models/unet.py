"""The denoising UNet: one model for images and videos, for every conditioning.

Names of spatial parameters are equal with and without temporal layers, so an image model starts a
video model by name; new layers start as the identity. Every parameter of the temporal layers
"conv1d" has "temporal" in its name: `optimizer.train_only=("*temporal*",)` trains them alone. SVD's
need "*time_pos_embed*" and "*time_mixer*" beside it.

Sources: SVD (arXiv 2311.15127), appendix D.2; Stable Diffusion 2.1; for PixelDance, Emu Video and
Gen-1 see `vidjax.models.factorized`.

B batch, T frames, H W latent height and width, C channels, E channels of the time embedding,
V numbers of the condition vector, L context tokens, X channels of a context.
"""

from flax import nnx
import jax
import jax.numpy as jnp

from vidjax.models.blocks import Contexts
from vidjax.models.config import UNetConfig
from vidjax.models.levels import DownBlock, MidBlock, UpBlock, temporal_conv
from vidjax.nn.conv import Conv
from vidjax.nn.embed import EmbeddingMLP, MaskEmbedding, embed_vector, sinusoid
from vidjax.nn.init import Keys
from vidjax.nn.mix import ImageOnly, then_over_time
from vidjax.nn.norm import GroupNorm
from vidjax.parallel import plan

PRESETS: dict[str, UNetConfig] = {
  "svd": UNetConfig(),
  "svd_t2v": UNetConfig(in_channels=4),
  "svd_interpolation": UNetConfig(in_channels=9),
  "sd21": UNetConfig(in_channels=4, temporal="none", vector_size=0),
  "pixeldance": UNetConfig(  # noisy latents, latents of first and last frame
    in_channels=8, temporal="conv1d", conv1d_outside_resblocks=True, vector_size=0
  ),
  "emu_video": UNetConfig(  # noisy latents, latents of the first frame, which frames are given
    in_channels=17,
    out_channels=8,
    block_out_channels=(384, 768, 1536, 1536),
    num_attention_heads=(6, 12, 24, 24),
    layers_per_block=(3, 4, 4, 4),
    transformer_layers_per_block=(2, 2, 2, 2),
    cross_attention_dims=(768, 2048),  # CLIP, T5-XL
    temporal="conv1d",
    conv1d_outside_resblocks=True,
    vector_size=0,
  ),
  "gen1": UNetConfig(  # noisy latents, latents of the depth, embedding of its blur
    in_channels=12, temporal="conv1d", learned_positions=16, vector_size=0
  ),
  "tiny": UNetConfig(
    in_channels=16,  # the tiny autoencoder has eight channels
    out_channels=8,
    block_out_channels=(64, 64),  # two channels in each of the 32 groups: norms keep some means
    num_attention_heads=(4, 4),
    attention=(False, True),
    layers_per_block=(1, 1),
    transformer_layers_per_block=(1, 1),
    cross_attention_dims=(64,),
    vector_embed_dim=32,
  ),
}


class UNet(nnx.Module):
  """Predicts from a noisy clip and its condition: `(x_BTHWC, ...) -> y_BTHWD`, D = out_channels.

  Args:
    config: shape of the model.
    rngs: source of the initial values. The output layer is zero at first, and so is the prediction.
  """

  def __init__(self, config: UNetConfig, rngs: Keys):
    self.config = config
    widths = config.block_out_channels
    embed_channels = 4 * widths[0]
    self.conv_in = Conv(config.in_channels, widths[0], rngs=rngs)
    self.temporal_conv_in = temporal_conv(config, widths[0], rngs)
    self.time_embedding = EmbeddingMLP(widths[0], embed_channels, rngs=rngs)
    vector_channels = config.vector_size * config.vector_embed_dim
    self.add_embedding = (
      # Zero at first, so that a model started from one without a vector computes what that did.
      EmbeddingMLP(vector_channels, embed_channels, zero_init=True, rngs=rngs)
      if vector_channels
      else None
    )

    down_blocks, skips, width = [], [widths[0]], widths[0]
    for level, level_width in enumerate(widths):
      layers = config.layers_per_block[level]
      ins = [width] + [level_width] * (layers - 1)
      has_end = level < len(widths) - 1
      down_blocks.append(DownBlock(config, level, ins, downsample=has_end, rngs=rngs))
      skips += [level_width] * (layers + has_end)
      width = level_width
    self.down_blocks = nnx.List(down_blocks)

    self.mid_block = MidBlock(config, rngs)

    up_blocks = []
    for level in reversed(range(len(widths))):
      ins = []
      for _ in range(config.layers_per_block[level] + 1):
        ins.append(width + skips.pop())
        width = widths[level]
      up_blocks.append(UpBlock(config, level, ins, upsample=level > 0, rngs=rngs))
    assert not skips
    self.up_blocks = nnx.List(up_blocks)

    self.conv_norm_out = GroupNorm(widths[0], eps=1e-5)
    self.conv_out = Conv(widths[0], config.out_channels, zero_init=True, rngs=rngs)
    self.temporal_conv_out = temporal_conv(config, config.out_channels, rngs)
    self.mask_embedding = (
      MaskEmbedding(config.mask_embedding, config.out_channels, rngs=rngs)
      if config.mask_embedding
      else None
    )

  def __call__(
    self,
    x_BTHWC: jax.Array,
    c_noise_B: jax.Array,
    contexts: Contexts,
    vector_BV: jax.Array | None = None,
    *,
    image_only: ImageOnly = False,
  ) -> jax.Array:
    """Runs the model.

    Args:
      x_BTHWC: scaled noisy latents, with the latents of the condition after them on C.
      c_noise_B: noise level as the preconditioning gives it, e.g. 0.25 ln sigma.
      contexts: tokens (B, L, X) for each cross-attention, the same for all frames of a clip.
      vector_BV: raw numbers of the condition vector; None for a model without.
      image_only: True skips all temporal layers, so that frames are independent images; (B,)
        booleans do so for the clips that they name, in one program with the others.

    Returns:
      y_BTHWD in float32.

    Raises:
      ValueError: the input or the condition does not fit the model's config.
    """
    config = self.config
    _check_inputs(config, x_BTHWC, contexts, vector_BV)
    dtype = jnp.dtype(config.dtype)
    contexts = tuple(context.astype(dtype) for context in contexts)

    # Embeddings.
    emb_BE = self.time_embedding(sinusoid(c_noise_B, config.block_out_channels[0]).astype(dtype))
    if self.add_embedding is not None:
      assert vector_BV is not None
      emb_BE += self.add_embedding(embed_vector(vector_BV, config.vector_embed_dim).astype(dtype))

    # Encoder.
    if self.mask_embedding is not None:
      x_BTHWC = self.mask_embedding(x_BTHWC)
    h = self.conv_in(plan.split_frames(x_BTHWC.astype(dtype)))
    h = then_over_time(self.temporal_conv_in, h, image_only=image_only)
    skips = [h]
    for block in self.down_blocks:
      h, outputs = block(h, emb_BE, contexts, image_only=image_only)
      skips += outputs

    # Decoder.
    h = self.mid_block(h, emb_BE, contexts, image_only=image_only)
    for block in self.up_blocks:
      taken = [skips.pop() for _ in block.resnets]
      size = skips[-1].shape[2:4] if skips else None
      h = block(h, taken, emb_BE, contexts, size, image_only=image_only)
    y_BTHWD = self.conv_out(jax.nn.silu(self.conv_norm_out(h)))
    y_BTHWD = then_over_time(self.temporal_conv_out, y_BTHWD, image_only=image_only)
    return plan.whole_frames(y_BTHWD).astype(jnp.float32)


def _check_inputs(
  config: UNetConfig, x_BTHWC: jax.Array, contexts: Contexts, vector_BV: jax.Array | None
) -> None:
  if x_BTHWC.ndim != 5 or x_BTHWC.shape[-1] != config.in_channels:
    raise ValueError(
      f"the UNet takes (B, T, H, W, {config.in_channels}), not {x_BTHWC.shape}:"
      " check model.in_channels against latents plus condition"
    )
  if config.mask_embedding and x_BTHWC.shape[2:4] != config.mask_embedding:
    raise ValueError(
      f"latents are {x_BTHWC.shape[2]}x{x_BTHWC.shape[3]}, model.mask_embedding is of"
      f" {'x'.join(map(str, config.mask_embedding))}: it is learned for one height and width"
    )
  widths = tuple(context.shape[-1] for context in contexts)
  if widths != config.cross_attention_dims:
    raise ValueError(
      f"contexts have widths {widths}, model.cross_attention_dims is {config.cross_attention_dims}"
    )
  size = 0 if vector_BV is None else vector_BV.shape[-1]
  if size != config.vector_size:
    raise ValueError(
      f"the condition vector has {size} numbers, model.vector_size is {config.vector_size}"
    )
