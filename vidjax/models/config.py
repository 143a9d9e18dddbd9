"""The shape of a UNet."""

import dataclasses

from vidjax.parallel import remat

# Kinds of temporal layers, see `UNetConfig.temporal`.
TEMPORAL = ("none", "resblock", "conv1d")


@dataclasses.dataclass(frozen=True)
class UNetConfig:
  """Shape of a UNet. Tuples have one entry for each resolution level, finest first.

  Attributes:
    in_channels: channels of the input, those of the condition included.
    out_channels: channels of the prediction.
    block_out_channels: width of each level; multiples of 32.
    num_attention_heads: heads of each level, also where it has no attention.
    attention: whether the level has transformers. The middle always has one, of the last level's
      heads and depth.
    layers_per_block: residual blocks of each level on the way down; one more on the way up.
    transformer_layers_per_block: depth of each transformer of the level.
    cross_attention_dims: channels of each context; one cross-attention for each.
    temporal: "resblock" for SVD's temporal layers, blended with the spatial ones by learned
      factors; "conv1d" for a convolution along time after each spatial one and attention along time
      after each spatial transformer block (PixelDance, Emu Video, Gen-1); "none" for an image
      model.
    conv1d_outside_resblocks: with "conv1d", convolve along time also after the first and the last
      convolution and after those that change the resolution, not in residual blocks only.
    learned_positions: with "conv1d", the most frames that a table of learned positions covers; 0
      for sinusoids and an MLP, which know no limit.
    vector_size: numbers in the condition vector (fps_id, motion_bucket_id, noise_aug_strength); 0
      for none.
    vector_embed_dim: channels of the sinusoid of each number.
    mask_embedding: latent (height, width) of a learned stand-in for the latents of frames that are
      not given; () for none. With it the input is noisy latents, latents of the condition, and one
      channel that is 1 where a frame is given; the model makes this height and width only.
    remat: what the backward pass finds stored of the residual blocks and transformers of each
      level, by the names in `vidjax.parallel.remat`: one entry for each level, or one for all. The
      middle takes the last level's.
    dtype: of the computation; parameters and statistics are float32.

  Raises:
    ValueError: fields contradict each other; the message names the config key.
  """

  in_channels: int = 8
  out_channels: int = 4
  block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
  num_attention_heads: tuple[int, ...] = (5, 10, 20, 20)
  attention: tuple[bool, ...] = (True, True, True, False)
  layers_per_block: tuple[int, ...] = (2, 2, 2, 2)
  transformer_layers_per_block: tuple[int, ...] = (1, 1, 1, 1)
  cross_attention_dims: tuple[int, ...] = (1024,)
  temporal: str = "resblock"
  conv1d_outside_resblocks: bool = False
  learned_positions: int = 0
  vector_size: int = 3
  vector_embed_dim: int = 256
  mask_embedding: tuple[int, ...] = ()
  remat: tuple[str, ...] = ("none",)
  dtype: str = "float32"

  def __post_init__(self):
    levels = len(self.block_out_channels)
    per_level = (
      "num_attention_heads",
      "attention",
      "layers_per_block",
      "transformer_layers_per_block",
    )
    for field in per_level:
      if len(getattr(self, field)) != levels:
        raise ValueError(
          f"model.{field}={getattr(self, field)} needs one entry for each of the {levels} levels"
          f" of model.block_out_channels={self.block_out_channels}"
        )
    remat.check(self.remat, levels)
    if self.temporal not in TEMPORAL:
      raise ValueError(f"model.temporal={self.temporal!r}: use one of {', '.join(TEMPORAL)}")
    if self.temporal == "resblock" and (self.conv1d_outside_resblocks or self.learned_positions):
      raise ValueError(
        "model.conv1d_outside_resblocks and model.learned_positions go with"
        " model.temporal='conv1d', not 'resblock'"
      )
    if self.mask_embedding and (
      len(self.mask_embedding) != 2 or self.in_channels != 2 * self.out_channels + 1
    ):
      raise ValueError(
        f"model.mask_embedding={self.mask_embedding} is (height, width) of latents, and goes with"
        f" model.in_channels = 2 x model.out_channels + 1 = {2 * self.out_channels + 1}, not"
        f" {self.in_channels}"
      )
    if self.dtype not in ("float32", "bfloat16"):
      raise ValueError(f"model.dtype={self.dtype!r}: use 'float32' or 'bfloat16'")
