"""Model folders in the layout of diffusers and transformers: writing.

Where diffusers has a pipeline for the model, its `from_pretrained` loads the folder; read by
`vidjax.interop.diffusers`.
"""

from collections.abc import Mapping
import dataclasses

import numpy as np

from vidjax import storage
from vidjax.encoders import clip, tokenizers, vae
from vidjax.encoders.frozen import Encoder
from vidjax.interop import card, configs, diffusers, names, safetensors, temporal_vae
from vidjax.interop.safetensors import MAX_SHARD_BYTES
from vidjax.interop.temporal_vae import Weights
from vidjax.models.unet import UNetConfig

VIDEO_PIPELINE = "StableVideoDiffusionPipeline"

# What turns an image in [0, 1] into the image tower's input; resizing is done before, as in SVD.
_IMAGE_PROCESSOR = {
  "image_processor_type": "CLIPImageProcessor",
  "crop_size": {"height": 224, "width": 224},
  "do_center_crop": True,
  "do_convert_rgb": True,
  "do_normalize": True,
  "do_rescale": True,
  "do_resize": True,
  "image_mean": list(clip.PIXEL_MEAN),
  "image_std": list(clip.PIXEL_STD),
  "resample": 3,
  "rescale_factor": 1 / 255,
  "size": {"shortest_edge": 224},
}


@dataclasses.dataclass(frozen=True)
class Generation:
  """What the model was trained to make: defaults of pipelines, and lines of the card.

  Attributes:
    num_frames: T.
    height: pixels.
    width: pixels.
    fps: frames per second.
  """

  num_frames: int
  height: int
  width: int
  fps: float


def export_pipeline(
  out_dir: storage.PathLike,
  unet_config: UNetConfig,
  unet_params: Weights,
  encoders: Mapping[str, Encoder],
  generation: Generation,
  *,
  tokenizer: tokenizers.Tokenizer | None = None,
  about: Mapping[str, str] | None = None,
  max_shard_bytes: int = MAX_SHARD_BYTES,
) -> str | None:
  """Writes a whole model.

  An image-to-video model with its image encoder becomes a StableVideoDiffusionPipeline; an image
  autoencoder becomes one with a temporal decoder where its shape allows that, and stays an
  AutoencoderKL where not, which the pipeline takes, too. Other models are written part by part.

  Args:
    out_dir: folder to write; files of the same names are replaced.
    unet_config: shape of the UNet.
    unet_params: its parameters by flat name.
    encoders: "vae", and "image" or "text".
    generation: what the model makes.
    tokenizer: of the text encoder.
    about: further rows of the model card, e.g. `{"Trained for": "480 clips"}`.
    max_shard_bytes: larger weight files are split.

  Returns:
    The diffusers pipeline class that loads the folder, or None.

  Raises:
    ValueError: diffusers has no class for a part of the model.
  """
  root = storage.Path(out_dir)
  pipeline = pipeline_class(unet_config, encoders)
  vae_encoder = encoders["vae"]
  vae_config, vae_params = vae_encoder.config, vae_encoder.params
  if pipeline == VIDEO_PIPELINE and temporal_vae.fits(vae_config):
    vae_config, vae_params = temporal_vae.from_image_vae(vae_config, vae_params)

  sample_size = min(generation.height, generation.width) // vae_config.downsampling
  unet_json = write_unet(
    root / "unet", unet_config, unet_params, generation.num_frames, sample_size, max_shard_bytes
  )
  sample_size *= vae_config.downsampling
  vae_json = write_vae(root / "vae", vae_config, vae_params, sample_size)
  parts = {
    "unet": ["diffusers", unet_json["_class_name"]],
    "vae": ["diffusers", vae_json["_class_name"]],
    "scheduler": ["diffusers", configs.EULER_SCHEDULER["_class_name"]],
  }
  storage.write_json(root / "scheduler" / "scheduler_config.json", configs.EULER_SCHEDULER)
  if "image" in encoders:
    write_image(root / "image_encoder", encoders["image"].config, encoders["image"].params)
    storage.write_json(root / "feature_extractor" / "preprocessor_config.json", _IMAGE_PROCESSOR)
    parts["image_encoder"] = ["transformers", "CLIPVisionModelWithProjection"]
    parts["feature_extractor"] = ["transformers", "CLIPImageProcessor"]
  if "text" in encoders:
    write_text(root / "text_encoder", encoders["text"].config, encoders["text"].params, tokenizer)
    parts["text_encoder"] = ["transformers", "CLIPTextModel"]
  if tokenizer is not None:
    tokenizers.save(tokenizer, root / "tokenizer")
  index = {"_class_name": pipeline or "DiffusionPipeline", **dict(sorted(parts.items()))}
  storage.write_json(root / "model_index.json", index)

  rows = {
    "Parameters of the UNet": f"{sum(np.size(v) for v in unet_params.values()):,}",
    "Frames": str(generation.num_frames),
    "Size": f"{generation.width}x{generation.height}",
    "Frames per second": f"{generation.fps:g}",
    **(about or {}),
  }
  text = card.model_card(
    pipeline, {k: v[1] for k, v in sorted(parts.items())}, rows, generation.fps
  )
  storage.write_text(root / "README.md", text)
  return pipeline


def pipeline_class(unet_config: UNetConfig, encoders: Mapping[str, Encoder]) -> str | None:
  """The diffusers pipeline that runs such a model, None if there is none."""
  if unet_config.temporal == "none" or "image" not in encoders:
    return None
  latents = encoders["vae"].config.latent_channels
  fits = (
    unet_config.in_channels == 2 * latents
    and unet_config.vector_size == 3
    and unet_config.cross_attention_dims == (encoders["image"].config.projection_dim,)
  )
  return VIDEO_PIPELINE if fits else None


def write_unet(
  folder: storage.PathLike,
  config: UNetConfig,
  params: Weights,
  num_frames: int,
  sample_size: int,
  max_shard_bytes: int = MAX_SHARD_BYTES,
) -> configs.Json:
  """Writes config and weights of a UNet; returns the config as written."""
  values = configs.unet_to_json(config, num_frames=num_frames, sample_size=sample_size)
  _write(folder, diffusers.DIFFUSERS_STEM, params, diffusers.unet_table(config), max_shard_bytes)
  storage.write_json(storage.Path(folder) / "config.json", values)
  return values


def write_vae(
  folder: storage.PathLike,
  config: vae.VAEConfig,
  params: Weights,
  sample_size: int,
) -> configs.Json:
  """Writes config and weights of an autoencoder; returns the config as written."""
  values = configs.vae_to_json(config, sample_size=sample_size)
  _write(folder, diffusers.DIFFUSERS_STEM, params, diffusers.vae_table(config))
  storage.write_json(storage.Path(folder) / "config.json", values)
  return values


def write_text(
  folder: storage.PathLike,
  config: clip.TextConfig,
  params: Weights,
  tokenizer: tokenizers.Tokenizer | None = None,
) -> None:
  """Writes config and weights of a CLIP text tower, with the special ids of its tokenizer."""
  _write(folder, diffusers.TRANSFORMERS_STEM, params, names.CLIP_TEXT)
  values = configs.text_to_json(config)
  if tokenizer is not None:
    special = {"bos": tokenizer.begin, "eos": tokenizer.end, "pad": tokenizer.pad}
    values |= {f"{kind}_token_id": index for kind, index in special.items()}
  storage.write_json(storage.Path(folder) / "config.json", values)


def write_image(folder: storage.PathLike, config: clip.VisionConfig, params: Weights) -> None:
  """Writes config and weights of a CLIP image tower."""
  _write(folder, diffusers.TRANSFORMERS_STEM, params, names.CLIP_VISION)
  storage.write_json(storage.Path(folder) / "config.json", configs.vision_to_json(config))


def _write(
  folder: storage.PathLike,
  stem: str,
  params: Weights,
  table: names.Table,
  max_shard_bytes: int = MAX_SHARD_BYTES,
) -> None:
  """Writes parameters as float32 in PyTorch's names and layout, one at a time.

  Weights before config: a folder with a config is complete.
  """
  ours = {theirs: name for name, theirs in table.pairs(params).items()}
  specs = {
    theirs: (np.dtype(np.float32), names.torch_shape(name, params[name].shape))
    for theirs, name in sorted(ours.items())
  }
  safetensors.write(
    folder,
    stem,
    specs,
    lambda theirs: names.to_torch(ours[theirs], np.asarray(params[ours[theirs]])),
    max_shard_bytes,
  )
