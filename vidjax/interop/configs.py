"""Our configs as the JSON of diffusers and transformers, and back."""

from collections.abc import Mapping
import dataclasses
from typing import Any

from vidjax.encoders import clip, t5
from vidjax.encoders.text import TextConfig
from vidjax.encoders.vae import VAEConfig
from vidjax.models.unet import UNetConfig

Json = dict[str, Any]

# What changes a UNet's result without changing its weights: other values are other models.
_UNET_FIXED: dict[str, tuple[Any, ...]] = {
  "norm_num_groups": (32,),
  "norm_eps": (1e-5,),
  "act_fn": ("silu",),
  "flip_sin_to_cos": (True,),
  "freq_shift": (0,),
  "center_input_sample": (False,),
  "downsample_padding": (1,),
  "mid_block_scale_factor": (1,),
  "only_cross_attention": (False,),
  "dual_cross_attention": (False,),
  "resnet_time_scale_shift": ("default",),
  "resnet_skip_time_act": (False,),
  "time_embedding_type": ("positional",),
  "attention_type": ("default",),
}

# diffusers' models do not know the learned stand-in for frames that are not given, and read no key
# that begins so. It says that a file with the stand-in belongs to the model.
_STAND_IN = "_mask_embedding"

VIDEO_UNET = "UNetSpatioTemporalConditionModel"
IMAGE_UNET = "UNet2DConditionModel"
IMAGE_VAE = "AutoencoderKL"
TEMPORAL_VAE = "AutoencoderKLTemporalDecoder"


def unet_to_json(config: UNetConfig, *, num_frames: int, sample_size: int) -> Json:
  """`unet/config.json`.

  Args:
    config: the model.
    num_frames: T that pipelines generate by default.
    sample_size: latent height and width that pipelines generate by default.

  Raises:
    ValueError: diffusers has no class for such a model.
  """
  if len(config.cross_attention_dims) != 1:
    raise ValueError(
      f"model.cross_attention_dims={config.cross_attention_dims}: diffusers has one context only"
    )
  if config.temporal == "conv1d":
    raise ValueError("model.temporal='conv1d': diffusers has no class with these temporal layers")
  video = config.temporal == "resblock"
  if video != bool(config.vector_size):
    raise ValueError(
      f"model.temporal={config.temporal!r} with model.vector_size={config.vector_size}: diffusers'"
      f" {VIDEO_UNET} needs the vector, its {IMAGE_UNET} has none"
    )
  if config.mask_embedding and not video:
    raise ValueError("model.mask_embedding is exported with model.temporal='resblock' only")
  suffix = "SpatioTemporal" if video else "2D"
  down = [("CrossAttn" if a else "") + "DownBlock" + suffix for a in config.attention]
  up = [("CrossAttn" if a else "") + "UpBlock" + suffix for a in reversed(config.attention)]
  common = {
    "in_channels": config.in_channels,
    "out_channels": config.out_channels,
    "sample_size": sample_size,
    "block_out_channels": list(config.block_out_channels),
    "down_block_types": down,
    "up_block_types": up,
    "layers_per_block": _shortest(config.layers_per_block),
    "transformer_layers_per_block": _shortest(config.transformer_layers_per_block),
    "cross_attention_dim": config.cross_attention_dims[0],
  }
  if video:
    return {
      "_class_name": VIDEO_UNET,
      **common,
      "num_attention_heads": list(config.num_attention_heads),
      "addition_time_embed_dim": config.vector_embed_dim,
      "projection_class_embeddings_input_dim": config.vector_size * config.vector_embed_dim,
      "num_frames": num_frames,
      **({_STAND_IN: list(config.mask_embedding)} if config.mask_embedding else {}),
    }
  return {
    "_class_name": IMAGE_UNET,
    **common,
    # Number of heads, in spite of its name: diffusers keeps it so for old configs.
    "attention_head_dim": list(config.num_attention_heads),
    "use_linear_projection": True,
    "norm_num_groups": 32,
    "norm_eps": 1e-5,
    "act_fn": "silu",
    "flip_sin_to_cos": True,
    "freq_shift": 0,
  }


def unet_from_json(values: Mapping[str, Any], where: str) -> UNetConfig:
  """The model that `unet/config.json` at `where` describes.

  Raises:
    ValueError: it is a model that this code does not have; the message names file and key.
  """
  known = (VIDEO_UNET, IMAGE_UNET)
  _require(values, where, {"_class_name": known, **_UNET_FIXED})
  video = values["_class_name"] == VIDEO_UNET
  levels = len(values["block_out_channels"])
  heads = values.get("num_attention_heads") or values.get("attention_head_dim", 8)
  embed = values.get("addition_time_embed_dim") or 256
  return UNetConfig(
    in_channels=values["in_channels"],
    out_channels=values["out_channels"],
    block_out_channels=tuple(values["block_out_channels"]),
    num_attention_heads=tuple(_per_level(heads, levels)),
    attention=tuple(block.startswith("CrossAttn") for block in values["down_block_types"]),
    layers_per_block=tuple(_per_level(values.get("layers_per_block", 2), levels)),
    transformer_layers_per_block=tuple(
      _per_level(values.get("transformer_layers_per_block", 1), levels)
    ),
    cross_attention_dims=(_uniform(values, where, "cross_attention_dim", 1024),),
    temporal="resblock" if video else "none",
    vector_size=values.get("projection_class_embeddings_input_dim", 768) // embed if video else 0,
    vector_embed_dim=embed,
    mask_embedding=tuple(values.get(_STAND_IN, ())),
  )


def vae_to_json(config: VAEConfig, *, sample_size: int) -> Json:
  """`vae/config.json`; `sample_size` in pixels."""
  levels = len(config.block_out_channels)
  common = {
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": config.latent_channels,
    "layers_per_block": config.layers_per_block,
    "block_out_channels": list(config.block_out_channels),
    "down_block_types": ["DownEncoderBlock2D"] * levels,
    "sample_size": sample_size,
    "scaling_factor": config.scaling_factor,
    "force_upcast": True,
  }
  if config.temporal_decoder:
    return {"_class_name": TEMPORAL_VAE, **common}
  return {
    "_class_name": IMAGE_VAE,
    **common,
    "up_block_types": ["UpDecoderBlock2D"] * levels,
    "norm_num_groups": config.norm_groups,
    "act_fn": "silu",
    "use_quant_conv": config.use_quant_conv,
    "use_post_quant_conv": config.use_post_quant_conv,
    "mid_block_add_attention": config.mid_attention,
  }


def vae_from_json(values: Mapping[str, Any], where: str) -> VAEConfig:
  """The autoencoder that `vae/config.json` at `where` describes.

  Raises:
    ValueError: it is one that this code does not have; the message names file and key.
  """
  known = (IMAGE_VAE, TEMPORAL_VAE)
  _require(
    values,
    where,
    {
      "_class_name": known,
      "act_fn": ("silu",),
      "shift_factor": (None, 0, 0.0),
      "latents_mean": (None,),
    },
  )
  temporal = values["_class_name"] == TEMPORAL_VAE
  return VAEConfig(
    block_out_channels=tuple(values["block_out_channels"]),
    norm_groups=values.get("norm_num_groups", 32),
    layers_per_block=values.get("layers_per_block", 1),
    latent_channels=values.get("latent_channels", 4),
    scaling_factor=values.get("scaling_factor", 0.18215),
    mid_attention=values.get("mid_block_add_attention", True),
    use_quant_conv=values.get("use_quant_conv", True),
    use_post_quant_conv=not temporal and values.get("use_post_quant_conv", True),
    temporal_decoder=temporal,
  )


def text_to_json(config: TextConfig) -> Json:
  """`text_encoder/config.json`."""
  if isinstance(config, t5.T5Config):
    gated = config.feed_forward_proj == t5.GATED
    return {
      "architectures": ["T5EncoderModel"],
      "model_type": "t5",
      **_fields(config),
      "dense_act_fn": _T5_ACTIVATIONS[config.feed_forward_proj],
      "is_gated_act": gated,
      "eos_token_id": 1,
      "is_encoder_decoder": False,
      "use_cache": False,
      "tie_word_embeddings": not gated,  # concerns the decoder; version 1.1 does not
    }
  projected = config.projection_dim > 0
  fields = _fields(config)
  if not projected:
    del fields["projection_dim"]
  name = "CLIPTextModelWithProjection" if projected else "CLIPTextModel"
  return {"architectures": [name], "model_type": "clip_text_model", **fields}


def text_from_json(values: Mapping[str, Any], where: str) -> TextConfig:
  """The text encoder that a transformers `config.json` at `where` describes, without projection.

  Raises:
    ValueError: it is neither CLIP's nor T5's; the message names file and key.
  """
  model_type = values.get("model_type")
  if model_type == "t5":
    return _t5_from_json(values, where)
  if model_type not in _CLIP_TEXT:
    raise ValueError(f"{where}: model_type={model_type!r} is not a CLIP or T5 text encoder")
  return dataclasses.replace(clip_text_from_json(values, where), projection_dim=0)


def clip_text_from_json(values: Mapping[str, Any], where: str) -> clip.TextConfig:
  """CLIP's text tower with its projection, see `text_from_json`."""
  model_type = values.get("model_type")
  if model_type not in _CLIP_TEXT:
    raise ValueError(f"{where}: model_type={model_type!r} is not a CLIP text encoder")
  if model_type == "clip":
    values = {**values.get("text_config", {}), **_projection(values)}
  return clip.TextConfig(**_known(clip.TextConfig, {"projection_dim": 512, **values}))


def vision_to_json(config: clip.VisionConfig) -> Json:
  """`image_encoder/config.json`."""
  return {
    "architectures": ["CLIPVisionModelWithProjection"],
    "model_type": "clip_vision_model",
    **_fields(config),
  }


def vision_from_json(values: Mapping[str, Any], where: str) -> clip.VisionConfig:
  """The image tower that a transformers `config.json` at `where` describes.

  Raises:
    ValueError: it is not a CLIP image tower.
  """
  model_type = values.get("model_type")
  if model_type == "clip":
    values = {**values.get("vision_config", {}), **_projection(values)}
  elif model_type != "clip_vision_model":
    raise ValueError(f"{where}: model_type={model_type!r} is not a CLIP image encoder")
  return clip.VisionConfig(**_known(clip.VisionConfig, values))


_CLIP_TEXT = ("clip", "clip_text_model")
_T5_ACTIVATIONS = {"relu": "relu", t5.GATED: "gelu_new"}


def _t5_from_json(values: Mapping[str, Any], where: str) -> t5.T5Config:
  """T5's encoder; the config may be that of a whole T5."""
  _require(values, where, {"feed_forward_proj": t5.FEED_FORWARDS})
  config = t5.T5Config(**_known(t5.T5Config, values))
  # These follow from the first one, but where a file states them, transformers goes by them.
  gated = config.feed_forward_proj == t5.GATED
  activation = _T5_ACTIVATIONS[config.feed_forward_proj]
  _require(values, where, {"dense_act_fn": (activation,), "is_gated_act": (gated,)})
  return config


def _projection(values: Mapping[str, Any]) -> Json:
  """What a config of both towers says of the width that they share."""
  return {"projection_dim": values["projection_dim"]} if "projection_dim" in values else {}


def _fields(config: TextConfig | clip.VisionConfig) -> Json:
  """All fields but the dtype, by which transformers means that of the weights."""
  names = (field.name for field in dataclasses.fields(config))
  return {name: getattr(config, name) for name in names if name != "dtype"}


def _known(kind: type, values: Mapping[str, Any]) -> Json:
  """What `values` says of the fields of a config, see `_fields`; null takes the default."""
  return {
    field.name: values[field.name]
    for field in dataclasses.fields(kind)
    if field.name != "dtype" and values.get(field.name) is not None
  }


def _per_level(value: Any, levels: int) -> list[int]:
  return list(value) if isinstance(value, list | tuple) else [value] * levels


def _shortest(per_level: tuple[int, ...]) -> int | list[int]:
  """One number where all levels agree, as published configs have it."""
  return per_level[0] if len(set(per_level)) == 1 else list(per_level)


def _uniform(values: Mapping[str, Any], where: str, key: str, default: int) -> int:
  value = values.get(key, default)
  if not isinstance(value, list | tuple):
    return value
  if len(set(value)) != 1:
    raise ValueError(f"{where}: {key}={value} differs between levels, which is not supported")
  return value[0]


def _require(values: Mapping[str, Any], where: str, allowed: Mapping[str, tuple[Any, ...]]) -> None:
  for key, choices in allowed.items():
    value = values.get(key, choices[0] if key != "_class_name" else None)
    if value not in choices:
      raise ValueError(f"{where}: {key}={value!r} is not supported, only {choices}")
