"""Names and layouts of parameters here and in PyTorch: one table a model, for both directions.

A table rewrites our names into theirs; reading uses the same pairs the other way round. Layouts
follow from the kind of a parameter:

  here                                  PyTorch
  dense kernel (in, out)                Linear.weight (out, in)
  conv kernel (h, w, in, out)           Conv2d.weight (out, in, h, w)
  temporal kernel (3, in, out)          Conv3d.weight (out, in, 3, 1, 1)
  scale, embedding                      weight
  bias, mix_factor, class_embedding     the same name
"""

from collections.abc import Iterable
import dataclasses
import re

import numpy as np

Rules = tuple[tuple[str, str], ...]

NONE = r"(?!)"  # matches no name
_LEAVES: Rules = ((r"\.(kernel|scale|embedding)$", ".weight"),)


@dataclasses.dataclass(frozen=True)
class Table:
  """Names of one model.

  Attributes:
    rules: regular expressions on our names and what they become, applied in order. A result that
      ends in `[1/3]` is the second of three equal parts of a tensor, along its first dim.
    aliases: the same on their names, for older spellings of them in files.
    ignored: their names that hold no parameter of ours.
    convolutions: our names of dense kernels that they store as 1x1 convolutions.
    untransposed: our names of dense kernels that they store as (in, out), too.
  """

  rules: Rules
  aliases: Rules = ()
  ignored: str = r"(^|\.)position_ids$"
  convolutions: str = NONE
  untransposed: str = NONE

  def pairs(self, ours: Iterable[str]) -> dict[str, str]:
    """PyTorch's name of each of our names."""
    theirs = {name: _rewrite(name, (*self.rules, *_LEAVES)) for name in ours}
    assert len(set(theirs.values())) == len(theirs), "two parameters got one name"
    return theirs

  def modern(self, theirs: str) -> str:
    """The present spelling of a name in a file."""
    return _rewrite(theirs, self.aliases)


TRANSFORMER: Rules = (
  (r"\.blocks\.", ".transformer_blocks."),
  (r"\.temporal_blocks\.", ".temporal_transformer_blocks."),
  (r"\.cross\.0\.attn\.", ".attn2."),
  (r"\.cross\.0\.norm\.", ".norm2."),
  (r"\.to_out\.", ".to_out.0."),
  (r"\.(ff|ff_in)\.proj\.", r".\1.net.0.proj."),
  (r"\.(ff|ff_in)\.out\.", r".\1.net.2."),
)
_RESAMPLE: Rules = ((r"\.(up|down)sample\.", r".\1samplers.0."),)
_VIDEO_BLOCKS: Rules = (
  (r"\.spatial\.", ".spatial_res_block."),
  (r"\.temporal\.", ".temporal_res_block."),
)
_IMAGE_BLOCKS: Rules = ((r"\.spatial\.", "."),)

# diffusers' UNetSpatioTemporalConditionModel and UNet2DConditionModel.
VIDEO_UNET = Table((*_VIDEO_BLOCKS, *TRANSFORMER, *_RESAMPLE))
IMAGE_UNET = Table((*_IMAGE_BLOCKS, *TRANSFORMER, *_RESAMPLE))

_VAE: Rules = (
  *_RESAMPLE,
  (r"\.attention\.norm\.", ".attentions.0.group_norm."),
  (r"\.attention\.attn\.", ".attentions.0."),
  (r"\.to_out\.", ".to_out.0."),
)
_OLD_VAE_ATTENTION: Rules = (
  (r"\.attentions\.0\.query\.", ".attentions.0.to_q."),
  (r"\.attentions\.0\.key\.", ".attentions.0.to_k."),
  (r"\.attentions\.0\.value\.", ".attentions.0.to_v."),
  (r"\.attentions\.0\.proj_attn\.", ".attentions.0.to_out.0."),
)
# diffusers' AutoencoderKL and AutoencoderKLTemporalDecoder; the encoder is the same in both.
IMAGE_VAE = Table((*_IMAGE_BLOCKS, *_VAE), _OLD_VAE_ATTENTION)
TEMPORAL_VAE = Table(
  ((r"^(encoder\..*)\.spatial\.", r"\1."), *_VIDEO_BLOCKS, *_VAE), _OLD_VAE_ATTENTION
)

_CLIP: Rules = (
  (r"^layers\.", "encoder.layers."),
  (r"\.norm(1|2)\.", r".layer_norm\1."),
  (r"\.attn\.to_(q|k|v)\.", r".self_attn.\1_proj."),
  (r"\.attn\.to_out\.", ".self_attn.out_proj."),
  (r"\.(fc1|fc2)\.", r".mlp.\1."),
  (r"^(\w+_embedding)", r"embeddings.\1"),
)
# transformers' CLIPTextModel or CLIPTextModelWithProjection, and CLIPVisionModelWithProjection. Its
# version 5 writes the text model without a prefix, older ones and all published weights have one.
CLIP_TEXT = Table(
  (
    *_CLIP,
    (r"^final_norm\.", "final_layer_norm."),
    (r"^projection\.", "text_projection."),
    (r"^(?!text_projection)", "text_model."),
  ),
  aliases=((r"^(?=embeddings\.|encoder\.|final_layer_norm\.)", "text_model."),),
  ignored=r"(^|\.)position_ids$|^text_projection\.|^logit_scale$|^vision_model\.|^visual_projection\.",
)
CLIP_VISION = Table(
  (
    *_CLIP,
    (r"^pre_norm\.", "pre_layrnorm."),  # sic
    (r"^post_norm\.", "post_layernorm."),
    (r"^projection\.", "visual_projection."),
    (r"^(?!visual_projection)", "vision_model."),
  ),
  ignored=r"(^|\.)position_ids$|^text_model\.|^text_projection\.|^logit_scale$",
)

_T5: Rules = (
  (r"^layers\.(\d+)\.(norm1|attn)\.", r"encoder.block.\1.layer.0.\2."),
  (r"^layers\.(\d+)\.(norm2|ff)\.", r"encoder.block.\1.layer.1.\2."),
  (r"\.norm[12]\.", ".layer_norm."),
  (r"\.attn\.to_(q|k|v)\.", r".SelfAttention.\1."),
  (r"\.attn\.to_out\.", ".SelfAttention.o."),
  (r"\.ff\.out\.", ".DenseReluDense.wo."),
  (r"^token_embedding\.", "shared."),
  (r"^position_bias\.", "encoder.block.0.layer.0.SelfAttention.relative_attention_bias."),
  (r"^final_norm\.", "encoder.final_layer_norm."),
)
# transformers' T5EncoderModel, with the feed-forward of the original T5 and with that of version
# 1.1; a file of a whole T5 has a decoder besides. The embedding has two names, of one tensor.
T5 = Table(
  (*_T5, (r"\.ff\.proj\.", ".DenseReluDense.wi.")),
  aliases=((r"^encoder\.embed_tokens\.", "shared."),),
  ignored=r"^decoder\.|^lm_head\.",
)
T5_GATED = dataclasses.replace(
  T5,
  rules=(
    *_T5,
    (r"\.ff\.gate\.", ".DenseReluDense.wi_0."),
    (r"\.ff\.proj\.", ".DenseReluDense.wi_1."),
  ),
)


def to_torch(name: str, array: np.ndarray) -> np.ndarray:
  """Our array of parameter `name` in PyTorch's layout."""
  if not name.endswith(".kernel"):
    return array
  if array.ndim == 2:
    return array.T
  if array.ndim == 3:
    return array.transpose(2, 1, 0)[..., None, None]
  return array.transpose(3, 2, 0, 1)


def torch_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
  """Shape in PyTorch's layout of our parameter `name`."""
  return to_torch(name, np.broadcast_to(np.float32(0), shape)).shape


def from_torch(name: str, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
  """PyTorch's array of our parameter `name` in our layout.

  Linear layers that files hold as 1x1 convolutions are accepted.

  Args:
    name: our name.
    array: PyTorch's values.
    shape: our shape.

  Raises:
    ValueError: the array has another shape.
  """
  wanted = torch_shape(name, shape)
  if array.shape != wanted and array.shape == wanted + (1,) * (array.ndim - len(wanted)):
    array = array.reshape(wanted)
  if array.shape != wanted:
    raise ValueError(f"shape {array.shape}, the config says {wanted}")
  if not name.endswith(".kernel"):
    return array
  if array.ndim == 2:
    return array.T
  if array.ndim == 5:
    return array[..., 0, 0].transpose(2, 1, 0)
  return array.transpose(2, 3, 1, 0)


def _rewrite(name: str, rules: Rules) -> str:
  for pattern, replacement in rules:
    name = re.sub(pattern, replacement, name)
  return name
