"""The shape of a model from the shapes of its tensors in Stability's layout.

Files of that layout come with a yaml that says what the tensors say, too, but for three numbers
that all of Stability's models share: heads are 64 wide, norms have 32 groups, numbers of the
condition vector become 256 channels. OpenCLIP's towers have no such rule: a list by width.
"""

from collections.abc import Mapping
import re
from typing import Any

from vidjax.encoders.clip import TextConfig, VisionConfig
from vidjax.encoders.vae import VAEConfig
from vidjax.models.unet import UNetConfig

Shapes = Mapping[str, tuple[int, ...]]

_HEAD_WIDTH = 64
_VECTOR_CHANNELS = 256
_HEADS = {1280: 16, 1408: 16, 1664: 16}  # ViT-H, ViT-g, ViT-bigG; the others' heads are 64 wide


def unet_config(shapes: Shapes, where: str) -> UNetConfig:
  """The UNet whose tensors, named without prefix, have these shapes.

  Raises:
    ValueError: a tensor that every such model has is not there, or it is another kind of model.
  """
  conv_in = _get(shapes, "input_blocks.0.0.weight", where)
  widths: list[int] = []
  layers: list[int] = []
  depths: list[int] = []  # of the transformers, 0 where a level has none
  fresh_level = True
  for block in range(1, _count(shapes, r"input_blocks\.(\d+)\.")):
    if f"input_blocks.{block}.0.op.weight" in shapes:
      fresh_level = True
      continue
    width = _get(shapes, f"input_blocks.{block}.0.in_layers.2.weight", where)[0]
    if fresh_level:
      widths.append(width)
      layers.append(0)
      depths.append(_count(shapes, rf"input_blocks\.{block}\.1\.transformer_blocks\.(\d+)\."))
    fresh_level = False
    layers[-1] += 1
  middle = _count(shapes, r"middle_block\.1\.transformer_blocks\.(\d+)\.")
  if depths[-1] not in (0, middle):
    raise ValueError(
      f"{where}: transformers of depth {middle} in the middle and {depths[-1]} before it are not"
      " supported, they need the same"
    )
  odd = [width for width in widths if width % _HEAD_WIDTH]
  if odd:
    raise ValueError(f"{where}: a UNet of width {odd[0]}, not of heads that are {_HEAD_WIDTH} wide")
  vector = shapes.get("label_emb.0.0.weight", (0, 0))[1]
  temporal = any(".time_stack." in name for name in shapes)
  return UNetConfig(
    in_channels=conv_in[1],
    out_channels=_get(shapes, "out.2.weight", where)[0],
    block_out_channels=tuple(widths),
    num_attention_heads=tuple(width // _HEAD_WIDTH for width in widths),
    attention=tuple(depth > 0 for depth in depths),
    layers_per_block=tuple(layers),
    transformer_layers_per_block=(*(depth or 1 for depth in depths[:-1]), middle),
    cross_attention_dims=(
      _get(shapes, "middle_block.1.transformer_blocks.0.attn2.to_k.weight", where)[1],
    ),
    temporal="resblock" if temporal else "none",
    vector_size=vector // _VECTOR_CHANNELS,
    vector_embed_dim=_VECTOR_CHANNELS,
  )


def vae_config(shapes: Shapes, where: str) -> VAEConfig:
  """The autoencoder whose tensors, named without prefix, have these shapes; see `unet_config`."""
  levels = _count(shapes, r"encoder\.down\.(\d+)\.")
  temporal = "decoder.conv_out.time_mix_conv.weight" in shapes
  return VAEConfig(
    block_out_channels=tuple(
      _get(shapes, f"encoder.down.{level}.block.0.conv1.weight", where)[0]
      for level in range(levels)
    ),
    layers_per_block=_count(shapes, r"encoder\.down\.0\.block\.(\d+)\."),
    latent_channels=_get(shapes, "decoder.conv_in.weight", where)[1],
    mid_attention="encoder.mid.attn_1.q.weight" in shapes,
    # A temporal decoder without it is refused later, by the name of the tensor that is missing.
    use_quant_conv=temporal or "quant_conv.weight" in shapes,
    use_post_quant_conv="post_quant_conv.weight" in shapes,
    temporal_decoder=temporal,
  )


def text_config(shapes: Shapes, where: str) -> TextConfig:
  """The text tower, without OpenCLIP's last layer, which Stable Diffusion 2.1 does not use."""
  vocabulary, width = _get(shapes, "token_embedding.weight", where)
  return TextConfig(
    vocab_size=vocabulary,
    max_position_embeddings=_get(shapes, "positional_embedding", where)[0],
    num_hidden_layers=_count(shapes, r"transformer\.resblocks\.(\d+)\.") - 1,
    **_tower(shapes, where, width),
  )


def vision_config(shapes: Shapes, where: str) -> VisionConfig:
  """The image tower; see `unet_config`."""
  width, _, patch, _ = _get(shapes, "conv1.weight", where)
  side = round((_get(shapes, "positional_embedding", where)[0] - 1) ** 0.5)
  return VisionConfig(
    projection_dim=_get(shapes, "proj", where)[1],
    num_hidden_layers=_count(shapes, r"transformer\.resblocks\.(\d+)\."),
    image_size=side * patch,
    patch_size=patch,
    **_tower(shapes, where, width),
  )


def _tower(shapes: Shapes, where: str, width: int) -> dict[str, Any]:
  return {
    "hidden_size": width,
    "intermediate_size": _get(shapes, "transformer.resblocks.0.mlp.c_fc.weight", where)[0],
    "num_attention_heads": _HEADS.get(width, width // _HEAD_WIDTH),
    "hidden_act": "gelu",
  }


def _count(shapes: Shapes, pattern: str) -> int:
  """One more than the largest number in the first group of `pattern`."""
  found = (re.match(pattern, name) for name in shapes)
  return 1 + max((int(match[1]) for match in found if match), default=-1)


def _get(shapes: Shapes, name: str, where: str) -> tuple[int, ...]:
  if name not in shapes:
    raise ValueError(f"{where} has no tensor {name}: it is cut down, or another kind of model")
  return shapes[name]
