"""Whole models with all that belongs to them: weights, configs, model card.

In the layout of diffusers and transformers, whose `from_pretrained` loads the folder where there is
a pipeline for the model (read by `vidjax.interop.diffusers`); or as one file in Stability's layout
(`vidjax.interop.stability`).
"""

from collections.abc import Mapping
from typing import Any

from vidjax import storage
from vidjax.diffusion.process import DiffusionConfig
from vidjax.encoders import clip, tokenizers, vae
from vidjax.encoders import text as text_encoders
from vidjax.encoders.frozen import Encoder
from vidjax.interop import (
  card,
  configs,
  diffusers,
  names,
  parts,
  schedulers,
  stability,
  transfer,
)
from vidjax.interop.card import Generation
from vidjax.interop.safetensors import MAX_SHARD_BYTES
from vidjax.lazy import Weights
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


def export_pipeline(
  out_dir: storage.PathLike,
  unet_config: UNetConfig,
  unet_params: Weights,
  encoders: Mapping[str, Encoder],
  generation: Generation,
  *,
  diffusion: DiffusionConfig | None = DiffusionConfig(),  # noqa: B008 - frozen
  tokenizer: tokenizers.Tokenizer | None = None,
  about: card.About | None = None,
  max_shard_bytes: int = MAX_SHARD_BYTES,
) -> str | None:
  """Writes a whole model, one tensor at a time.

  An image-to-video model of SVD's process with its image encoder becomes a
  StableVideoDiffusionPipeline; an image
  autoencoder becomes one with a temporal decoder where its shape allows that, and stays an
  AutoencoderKL where not, which the pipeline takes, too. Other models are written part by part.

  Args:
    out_dir: folder to write; files of the same names are replaced.
    unet_config: shape of the UNet.
    unet_params: its parameters by flat name.
    encoders: "vae", and "image" or "text".
    generation: what the model makes.
    diffusion: what the model knows of noise, by default as SVD; None if nobody knows.
    tokenizer: of the text encoder.
    about: what the model card says besides.
    max_shard_bytes: larger weight files are split.

  Returns:
    The diffusers pipeline class that loads the folder, or None.

  Raises:
    ValueError: diffusers has no class for a part of the model.
  """
  root = storage.Path(out_dir)
  networks = parts.for_export(unet_config, unet_params, encoders)
  scheduler = schedulers.to_json(diffusion) if diffusion else {}
  continuous = scheduler.get("timestep_type") == "continuous"
  pipeline = VIDEO_PIPELINE if continuous and parts.makes_video_of_images(networks) else None
  vae_config, vae_params = networks["vae"]

  sample_size = min(generation.height, generation.width) // vae_config.downsampling
  unet_json = write_unet(
    root / "unet", unet_config, unet_params, generation.num_frames, sample_size, max_shard_bytes
  )
  sample_size *= vae_config.downsampling
  vae_json = write_vae(root / "vae", vae_config, vae_params, sample_size)
  classes = {
    "unet": ["diffusers", unet_json["_class_name"]],
    "vae": ["diffusers", vae_json["_class_name"]],
  }
  if scheduler:
    storage.write_json(root / "scheduler" / "scheduler_config.json", scheduler)
    classes["scheduler"] = ["diffusers", scheduler["_class_name"]]
  if "image" in networks:
    write_image(root / "image_encoder", *networks["image"])
    storage.write_json(root / "feature_extractor" / "preprocessor_config.json", _IMAGE_PROCESSOR)
    classes["image_encoder"] = ["transformers", "CLIPVisionModelWithProjection"]
    classes["feature_extractor"] = ["transformers", "CLIPImageProcessor"]
  if "text" in networks:
    text_json = write_text(root / "text_encoder", *networks["text"], tokenizer)
    classes["text_encoder"] = ["transformers", text_json["architectures"][0]]
  if tokenizer is not None:
    tokenizers.save(tokenizer, root / "tokenizer")
  index = {"_class_name": pipeline or "DiffusionPipeline", **dict(sorted(classes.items()))}
  storage.write_json(root / "model_index.json", index)

  folders = {kind: names[1] for kind, names in sorted(classes.items())}
  use = card.diffusers_use(pipeline, folders, generation, networks, continuous=continuous)
  text = card.model_card("diffusers", use, folders, generation, networks, about or card.About())
  storage.write_text(root / "README.md", text)
  return pipeline


def export_file(
  out_dir: storage.PathLike,
  unet_config: UNetConfig,
  unet_params: Weights,
  encoders: Mapping[str, Encoder],
  generation: Generation,
  note: Mapping[str, Any],
  *,
  tokenizer: tokenizers.Tokenizer | None = None,
  about: card.About | None = None,
) -> storage.Path:
  """Writes a whole model as `model.safetensors` in Stability's layout; returns its path.

  Args:
    out_dir: folder to write; files of the same names are replaced.
    unet_config: see `export_pipeline`, as are all that are not described here.
    unet_params: as there.
    encoders: as there.
    generation: as there.
    note: JSON values that the file's reader gets back.
    tokenizer: as there; written beside the file, which has no room for it.
    about: as there.

  Raises:
    ValueError: the layout has no such model.
  """
  root = storage.Path(out_dir)
  networks = parts.for_export(unet_config, unet_params, encoders)
  path = stability.write(root, networks, note)
  if tokenizer is not None:
    tokenizers.save(tokenizer, root / "tokenizer")
  use = card.stability_use(path.name, parts.makes_video_of_images(networks))
  about = about or card.About()
  contents = {path.name: "all networks"} | ({"tokenizer": "its tokenizer"} if tokenizer else {})
  text = card.model_card("generative-models", use, contents, generation, networks, about)
  storage.write_text(root / "README.md", text)
  return path


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
  common, apart = diffusers.split_unet(params)
  _write(folder, diffusers.DIFFUSERS_STEM, common, diffusers.unet_table(config), max_shard_bytes)
  if apart:
    _write(folder, diffusers.STAND_IN_STEM, apart, diffusers.unet_table(config))
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
  config: text_encoders.TextConfig,
  params: Weights,
  tokenizer: tokenizers.Tokenizer | None = None,
) -> configs.Json:
  """Writes config and weights of a text encoder, with the special ids of its tokenizer.

  Returns:
    The config as written.
  """
  _write(folder, diffusers.TRANSFORMERS_STEM, params, diffusers.text_table(config))
  values = configs.text_to_json(config)
  if tokenizer is not None:
    special = {"bos": tokenizer.begin, "eos": tokenizer.end, "pad": tokenizer.pad}
    values |= {f"{kind}_token_id": i for kind, i in special.items() if i is not None}
  storage.write_json(storage.Path(folder) / "config.json", values)
  return values


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
  """Writes parameters, which comes before the config: a folder with a config is complete."""
  transfer.write(folder, stem, [transfer.Written(table, params)], max_shard_bytes=max_shard_bytes)
