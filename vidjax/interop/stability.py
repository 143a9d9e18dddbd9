"""Whole models in one file, in Stability's layout: reading and writing.

  model.diffusion_model.*                       UNet
  first_stage_model.*                           autoencoder
  conditioner.embedders.0.open_clip.model.visual.*   image tower of an image-to-video model
  conditioner.embedders.3.encoder.*             the encoder that its condition goes through
  cond_stage_model.model.*                      text tower of an image model
  conditioner.embedders.0.model.*               text tower of a video model

An image-to-video model has the encoder twice, and the convolution after it (`quant_conv`) only in
the condition's, for its first stage is of a class that has none; so encoder and `quant_conv` are
read from there. Files that this module writes hold the configs of all parts in their header; those
of others are understood by the shapes of their tensors (`stability_shapes`).
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import json
import re
from typing import Any

from vidjax import config as vidjax_config
from vidjax import storage
from vidjax.encoders import clip, vae
from vidjax.interop import names, safetensors, transfer
from vidjax.interop import stability_names as tables
from vidjax.interop import stability_shapes as shapes
from vidjax.interop.parts import Parts
from vidjax.lazy import LazyArray, Weights
from vidjax.models.unet import UNet, UNetConfig
from vidjax.nn import params

STEM = "model"  # of the file in an exported folder

_UNET = "model.diffusion_model."
_VAE = "first_stage_model."
_IMAGE = "conditioner.embedders.0.open_clip.model.visual."
_CONDITION_VAE = "conditioner.embedders.3.encoder."
_IMAGE_MODEL_TEXT, _VIDEO_MODEL_TEXT = "cond_stage_model.model.", "conditioner.embedders.0.model."
# What files hold besides: tables of noise levels, a second set of weights for training on, the text
# half of OpenCLIP beside the image tower, and the decoder of the condition's autoencoder.
_IGNORED = re.compile(
  r"^model_ema\.|^denoiser\.|^loss\.|^first_stage_model\.loss\."
  r"|^(betas|logvar|scale_factor|alphas_\w+|sqrt_\w+|log_one_\w+|posterior_\w+)$"
  r"|^conditioner\.embedders\.0\.open_clip\.model\.(?!visual\.)"
  r"|^conditioner\.embedders\.3\.encoder\.(decoder|post_quant_conv|loss)\."
)
_HEADER = "vidjax"  # our entry in the header

Tensors = Mapping[str, safetensors.Tensor]


@dataclasses.dataclass(frozen=True)
class _Kind:
  """One part of a model.

  Attributes:
    prefixes: where its tensors may be.
    config: class of its config.
    derive: the config from the shapes of its tensors.
    table: its names.
    abstract: shapes of its parameters.
  """

  prefixes: tuple[str, ...]
  config: type
  derive: Callable[[shapes.Shapes, str], Any]
  table: Callable[[Any], names.Table]
  abstract: Callable[[Any], Mapping[str, Any]]


_KINDS = {
  "unet": _Kind(
    (_UNET,),
    UNetConfig,
    shapes.unet_config,
    tables.unet_table,
    lambda config: params.network(lambda rngs: UNet(config, rngs)).abstract,
  ),
  "vae": _Kind(
    (_VAE,),
    vae.VAEConfig,
    shapes.vae_config,
    tables.vae_table,
    lambda config: vae.describe(config).abstract,
  ),
  "image": _Kind(
    (_IMAGE,),
    clip.VisionConfig,
    shapes.vision_config,
    tables.vision_table,
    lambda config: clip.describe_vision(config).abstract,
  ),
  "text": _Kind(
    (_IMAGE_MODEL_TEXT, _VIDEO_MODEL_TEXT),
    clip.TextConfig,
    shapes.text_config,
    tables.text_table,
    lambda config: clip.describe_text(config).abstract,
  ),
}


@dataclasses.dataclass(frozen=True)
class File:
  """A model in one file.

  Attributes:
    path: the file.
    tensors: by name.
    note: what `write` was told about the model; empty in a file of others.
    part_configs: what the header says about the shape of each part; empty in a file of others.
  """

  path: storage.Path
  tensors: Tensors
  note: Mapping[str, Any]
  part_configs: Mapping[str, Any]

  @property
  def kinds(self) -> list[str]:
    """The parts that are in it: some of "unet", "vae", "image", "text"."""
    return [kind for kind in _KINDS if self._tensors_of(kind)]

  @property
  def dtypes(self) -> str:
    """What to say if not all weights are float32, see `transfer.describe_dtypes`."""
    return transfer.describe_dtypes(self.tensors)

  def open(self, kind: str) -> tuple[Any, dict[str, LazyArray]]:
    """Config of one part, and its parameters by flat name, which are read when used.

    Raises:
      ValueError: the file has no such part, or one that this code does not have.
      CheckpointError: tensors do not fit the config.
    """
    what, where = _KINDS[kind], f"{self.path} ({kind})"
    tensors = self._tensors_of(kind)
    if not tensors:
      raise ValueError(f"{self.path} has no tensors {'* or '.join(what.prefixes)}*, so no {kind}")
    if kind in self.part_configs:
      config = vidjax_config.from_dict(what.config, self.part_configs[kind])
    else:
      config = what.derive({name: t.shape for name, t in tensors.items()}, where)
    return config, transfer.read(tensors, what.abstract(config), what.table(config), where)

  def _tensors_of(self, kind: str) -> dict[str, safetensors.Tensor]:
    """The tensors of one part, without their prefix."""
    found = next(filter(None, (self._below(prefix) for prefix in _KINDS[kind].prefixes)), {})
    if kind == "vae" and found and "quant_conv.weight" not in found:
      condition = self._below(_CONDITION_VAE)
      found |= {n: t for n, t in condition.items() if n.startswith(("encoder.", "quant_conv."))}
    return found

  def _below(self, prefix: str) -> dict[str, safetensors.Tensor]:
    return {
      name.removeprefix(prefix): tensor
      for name, tensor in self.tensors.items()
      if name.startswith(prefix) and not _IGNORED.search(name)
    }


def open_file(path: storage.PathLike) -> File:
  """Opens a model file: reads its header only.

  Raises:
    ValueError: it is not safetensors, or holds tensors of no model that this code has.
  """
  if not storage.Path(path).exists():
    raise ValueError(f"{path} does not exist")
  tensors, metadata = safetensors.read_file(path)
  if "encoder.conv_in.weight" in tensors:  # an autoencoder by itself, as they are also published
    tensors = {_VAE + name: tensor for name, tensor in tensors.items()}
  known = (*(p for kind in _KINDS.values() for p in kind.prefixes), _CONDITION_VAE)
  unknown = [n for n in sorted(tensors) if not n.startswith(known) and not _IGNORED.search(n)]
  if unknown:
    raise ValueError(
      f"{path} is not a model in Stability's layout: {len(unknown)} unknown tensors"
      f" ({', '.join(unknown[:3])}); known are {', '.join(f'{p}*' for p in known)}. For the layout"
      " of diffusers name its folder"
    )
  try:
    header = json.loads(metadata.get(_HEADER, "{}"))
    return File(storage.Path(path), tensors, header.get("note", {}), header.get("parts", {}))
  except (ValueError, AttributeError) as exc:
    raise ValueError(f"{path}: the entry {_HEADER!r} of its header is broken") from exc


def write(folder: storage.PathLike, parts: Parts, note: Mapping[str, Any]) -> storage.Path:
  """Writes a model as one file; returns its path.

  Args:
    folder: where `model.safetensors` is written.
    parts: config and parameters of the networks.
    note: JSON values about the model that its reader gets back.

  Raises:
    ValueError: the layout has no such model.
  """
  models = [model for kind in parts for model in _layout(kind, parts)]
  header = {
    "note": dict(note),
    "parts": {kind: dataclasses.asdict(config) for kind, (config, _) in parts.items()},
  }
  transfer.write(
    folder, STEM, models, max_shard_bytes=_ONE_FILE, metadata={_HEADER: json.dumps(header)}
  )
  return storage.Path(folder) / f"{STEM}.safetensors"


_ONE_FILE = 1 << 62  # bytes: never split


def _layout(kind: str, parts: Parts) -> Sequence[transfer.Written]:
  """Where the parameters of one part go; the encoder of a condition goes to two places."""
  config, weights = parts[kind]
  what = _KINDS[kind]
  if not isinstance(config, what.config):
    raise ValueError(
      f"Stability's layout has no {kind} of the kind {type(config).__name__}: export with"
      " --format=diffusers"
    )
  table = what.table(config)
  if kind == "text" and "unet" in parts and parts["unet"][0].temporal != "none":
    return [transfer.Written(table, weights, _VIDEO_MODEL_TEXT)]
  if kind != "vae" or "image" not in parts:
    return [transfer.Written(table, weights, what.prefixes[0])]
  condition = _starting(weights, "encoder.", "quant_conv.")
  first_stage = weights
  if config.temporal_decoder:
    first_stage = _starting(weights, "encoder.", "decoder.")
  return [
    transfer.Written(table, first_stage, _VAE),
    transfer.Written(table, condition, _CONDITION_VAE),
  ]


def _starting(weights: Weights, *prefixes: str) -> Weights:
  return {name: value for name, value in weights.items() if name.startswith(prefixes)}
