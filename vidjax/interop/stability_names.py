"""Our names and those of Stability's code bases, see `names`: the second layout, both directions.

UNet and autoencoder are those of latent diffusion and of generative-models (`openaimodel.py`,
`video_model.py`, `temporal_ae.py`), where blocks are numbered through all levels and so depend on
the model's shape; the CLIP towers are OpenCLIP's, with queries, keys and values in one tensor.
"""

from vidjax.encoders.clip import TextConfig, VisionConfig
from vidjax.encoders.vae import VAEConfig
from vidjax.interop.names import NONE, TRANSFORMER, Rules, Table
from vidjax.models.unet import UNetConfig

# Layers of a residual block in the UNet, spatial or over time.
_UNET_BLOCK: Rules = tuple(
  (rf"(\.resnets\.\d+\.\w+)\.{ours}\.", rf"\1.{theirs}.")
  for ours, theirs in (
    ("norm1", "in_layers.0"),
    ("conv1", "in_layers.2"),
    ("time_emb_proj", "emb_layers.1"),
    ("norm2", "out_layers.0"),
    ("conv2", "out_layers.3"),
    ("conv_shortcut", "skip_connection"),
  )
)
_UNET_ENDS: Rules = (
  (r"^time_embedding\.", "time_embed."),
  (r"^add_embedding\.", "label_emb.0."),
  (r"^conv_in\.", "input_blocks.0.0."),
  (r"^conv_norm_out\.", "out.0."),
  (r"^conv_out\.", "out.2."),
  (r"\.linear_1\.", ".0."),
  (r"\.linear_2\.", ".2."),
)
_MIDDLE: Rules = (
  (r"^mid_block\.resnets\.0\.", "middle_block.0."),
  (r"^mid_block\.attentions\.0\.", "middle_block.1."),
  (r"^mid_block\.resnets\.1\.", "middle_block.2."),
)
_OVER_TIME: Rules = (
  (r"\.temporal_blocks\.", ".time_stack."),
  (r"\.spatial\.", "."),
  (r"\.temporal\.", ".time_stack."),
)


def unet_table(config: UNetConfig) -> Table:
  """The names of a UNet of this shape below `model.diffusion_model.`.

  Raises:
    ValueError: the layout has no such model.
  """
  if len(config.cross_attention_dims) != 1:
    raise ValueError(
      f"model.cross_attention_dims={config.cross_attention_dims}: Stability's layout has one"
      " context only"
    )
  if config.temporal == "conv1d":
    raise ValueError(
      "model.temporal='conv1d': Stability's layout has no model with these temporal layers"
    )
  levels, layers = len(config.block_out_channels), config.layers_per_block
  blocks: list[tuple[str, str]] = []
  place = 1  # block 0 is the first convolution
  for level in range(levels):
    for i in range(layers[level]):
      blocks += _numbered("down", level, i, f"input_blocks.{place + i}")
    place += layers[level]
    blocks.append((rf"^down_blocks\.{level}\.downsample\.conv\.", f"input_blocks.{place}.0.op."))
    place += 1
  place = 0
  for level in range(levels):
    ours = levels - 1 - level  # the way up begins at the coarsest level
    for i in range(layers[ours] + 1):
      blocks += _numbered("up", level, i, f"output_blocks.{place + i}")
    place += layers[ours] + 1
    last = f"output_blocks.{place - 1}.{2 if config.attention[ours] else 1}."
    blocks.append((rf"^up_blocks\.{level}\.upsample\.", last))
  return Table((*_UNET_BLOCK, *_UNET_ENDS, *_MIDDLE, *blocks, *_OVER_TIME, *TRANSFORMER))


def _numbered(way: str, level: int, i: int, theirs: str) -> list[tuple[str, str]]:
  return [
    (rf"^{way}_blocks\.{level}\.resnets\.{i}\.", f"{theirs}.0."),
    (rf"^{way}_blocks\.{level}\.attentions\.{i}\.", f"{theirs}.1."),
  ]


_VAE: Rules = (
  (r"^decoder\.time_conv_out\.", "decoder.conv_out.time_mix_conv."),
  (r"\.temporal\.norm1\.", ".time_stack.in_layers.0."),
  (r"\.temporal\.conv1\.", ".time_stack.in_layers.2."),
  (r"\.temporal\.norm2\.", ".time_stack.out_layers.0."),
  (r"\.temporal\.conv2\.", ".time_stack.out_layers.3."),
  (r"\.time_mixer\.", "."),
  (r"\.spatial\.", "."),
  (r"\.conv_shortcut\.", ".nin_shortcut."),
  (r"\.conv_norm_out\.", ".norm_out."),
  (r"\.mid_block\.resnets\.0\.", ".mid.block_1."),
  (r"\.mid_block\.resnets\.1\.", ".mid.block_2."),
  (r"\.mid_block\.attention\.norm\.", ".mid.attn_1.norm."),
  (r"\.mid_block\.attention\.attn\.to_(q|k|v)\.", r".mid.attn_1.\1."),
  (r"\.mid_block\.attention\.attn\.to_out\.", ".mid.attn_1.proj_out."),
  (r"^encoder\.down_blocks\.(\d+)\.resnets\.(\d+)\.", r"encoder.down.\1.block.\2."),
  (r"^encoder\.down_blocks\.(\d+)\.", r"encoder.down.\1."),
)


def vae_table(config: VAEConfig) -> Table:
  """The names of an autoencoder of this shape below `first_stage_model.`.

  Its decoder counts levels from the finest one, ours from the coarsest.
  """
  levels = len(config.block_out_channels)
  up: list[tuple[str, str]] = []
  for level in range(levels):
    theirs = f"decoder.up.{levels - 1 - level}"
    up += [
      (rf"^decoder\.up_blocks\.{level}\.resnets\.(\d+)\.", rf"{theirs}.block.\1."),
      (rf"^decoder\.up_blocks\.{level}\.", f"{theirs}."),
    ]
  return Table(
    (*_VAE, *up),
    ignored=r"^loss\.",
    convolutions=r"\.attention\.attn\.to_\w+\.kernel$",
  )


_CLIP: Rules = (
  (r"^layers\.", "transformer.resblocks."),
  (r"\.norm(1|2)\.", r".ln_\1."),
  *(
    (rf"\.attn\.to_{name}\.{ours}$", f".attn.in_proj_{theirs}[{part}/3]")
    for part, name in enumerate("qkv")
    for ours, theirs in (("kernel", "weight"), ("bias", "bias"))
  ),
  (r"\.to_out\.", ".out_proj."),
  (r"\.fc1\.", ".mlp.c_fc."),
  (r"\.fc2\.", ".mlp.c_proj."),
  (r"^position_embedding\.embedding$", "positional_embedding"),
)


def text_table(config: TextConfig) -> Table:
  """The names of OpenCLIP's text tower; its layers behind those of `config` are not read.

  Stable Diffusion 2.1 takes the output of the last layer but one.
  """
  behind = rf"^transformer\.resblocks\.(?!{_below(config.num_hidden_layers)}\.)\d+\."
  return Table(
    (*_CLIP, (r"^final_norm\.", "ln_final.")),
    ignored=rf"^text_projection$|^logit_scale$|(^|\.)attn_mask$|{behind}",
  )


def vision_table(config: VisionConfig) -> Table:
  """The names of OpenCLIP's image tower."""
  del config
  return Table(
    (
      *_CLIP,
      (r"^pre_norm\.", "ln_pre."),
      (r"^post_norm\.", "ln_post."),
      (r"^patch_embedding\.", "conv1."),
      (r"^projection\.kernel$", "proj"),
    ),
    ignored=NONE,
    untransposed=r"^projection\.kernel$",
  )


def _below(count: int) -> str:
  """A pattern of the numbers below `count`."""
  return f"(?:{'|'.join(map(str, range(count)))})"
