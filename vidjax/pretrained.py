"""What `--model` and `init_from` take: anything that holds a model, read into one form.

Kinds: a training workdir (its newest good step), one of its checkpoint steps, a directory that
`vidjax export` wrote, a pipeline or a single UNet in the layout of diffusers, a `.safetensors` file
in Stability's layout.
"""

from collections.abc import Mapping
import dataclasses
from typing import Any

import jax

from vidjax import autoencoding, checkpoint, denoising, lazy, storage
from vidjax import config as configs
from vidjax import state as states
from vidjax.checkpoint import layout
from vidjax.conditioning.modes import MODES
from vidjax.diffusion.process import DiffusionConfig
from vidjax.interop import configs as json_configs
from vidjax.interop import diffusers, layouts, schedulers, stability
from vidjax.models import unet
from vidjax.optim import freezing, packing

NOTE = "vidjax.json"  # what `vidjax export` says of the model that a directory holds

# What the released models make; their files do not say it.
_SVD_DATA = {"num_frames": 14, "fps": 7.0, "height": 576, "width": 1024}


@dataclasses.dataclass(frozen=True)
class Pretrained:
  """A model's weights, and the config that they were trained with.

  Attributes:
    config: training config; of files from elsewhere, what they say.
    params: float32 arrays by flat name, most of them read when they are used.
    origin: where they come from, e.g. `DIR, step 1200, ema`.
    data: fingerprint of the training data (`vidjax.data.fingerprint`); empty if nobody knows.
    knows_noise: whether `config.diffusion` is that of the model. Not so for an image model that
      comes without a word about it: it is good to start a stage from, and cannot sample.
  """

  config: configs.TrainConfig
  params: lazy.Weights
  origin: str
  data: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  knows_noise: bool = True


def load(
  model: str,
  weights: str = "ema",
  *,
  wanted: Mapping[str, jax.ShapeDtypeStruct] | None = None,
) -> Pretrained:
  """Opens the model in `model`.

  Args:
    model: see the module's text.
    weights: "ema", "ema:DECAY" or "raw", of a training workdir (`checkpoint.restore_params`); of a
      run that made no averages, "ema" is as "raw". Others hold one kind.
    wanted: shapes and shardings of the model that will take the weights; those of a checkpoint are
      read straight into them, where the shapes agree. Files need no such hint (`lazy.place`).

  Raises:
    ValueError: `model` is none of these kinds, or has no such weights.
    CheckpointError: it is a workdir without a complete checkpoint, or its files do not fit.
  """
  checkpoint.check_which(weights)
  root = storage.Path(model)
  is_step = root.name.isdigit() and root.parent.name == "checkpoints"
  workdir = root.parent.parent if is_step else root
  if (workdir / "config.json").exists() and (workdir / "checkpoints").exists():
    return _workdir(root, workdir, weights, wanted)
  if ":" in weights:
    raise ValueError(f"--params={weights}: {model!r} is no training workdir and holds one kind")
  if layouts.is_file(root):
    return _single_file(root)
  if (root / f"{stability.STEM}.safetensors").exists() and (root / NOTE).exists():
    return _single_file(root / f"{stability.STEM}.safetensors")
  if (root / "model_index.json").exists():
    return _pipeline_folder(root)
  if (root / "config.json").exists() and _is_unet(storage.read_json(root / "config.json")):
    return _unet_folder(root)
  raise ValueError(
    f"{model!r} is not a model: expected a training workdir (config.json and checkpoints/), one"
    " of its checkpoints/STEP, a directory with model_index.json, a unet/ folder of one, or a"
    " .safetensors file in Stability's layout"
  )


def _workdir(
  root: storage.Path,
  workdir: storage.Path,
  weights: str,
  wanted: Mapping[str, jax.ShapeDtypeStruct] | None,
) -> Pretrained:
  config = configs.load(str(workdir / "config.json"))
  if weights == "ema" and not config.optimizer.ema_decays:
    weights = "raw"
  step = layout.find_step(root)
  make = autoencoding.make_vae if config.task == "autoencoder" else denoising.make_unet
  abstract = make(config).abstract
  if wanted is None:
    packed: dict[str, Any] = dict(checkpoint.open_params(step, weights))
    for joined in packed.keys() & {packing.VECTORS, packing.MATRICES}:
      packed[joined] = packed[joined][()]  # many small parameters: read once
  else:
    in_place = {
      name: leaf.sharding
      for name, leaf in wanted.items()
      if name in abstract and abstract[name].shape == leaf.shape and leaf.sharding is not None
    }
    packed = checkpoint.restore_params(step, weights, in_place)
  trained = freezing.trained_names(config.optimizer, abstract)
  params = states.by_name(packed, abstract, trained)
  data = layout.read_record(step).position.get("data", {})
  return Pretrained(config, params, f"{step}, {weights}", data)


def _pipeline_folder(root: storage.Path) -> Pretrained:
  unet_config, params = diffusers.open_unet(root / "unet")
  encoders = {
    kind: str(root / folder)
    for kind, folder in diffusers.FOLDERS.items()
    if kind != "unet" and (root / folder).exists()
  }
  note = storage.read_json(root / NOTE) if (root / NOTE).exists() else {}
  path = root / "scheduler" / "scheduler_config.json"
  scheduler = storage.read_json(path) if path.exists() else None
  diffusion = _diffusion(note, scheduler, unet_config)
  data = _data_of_folder(root / "unet", unet_config)
  if unet_config.mask_embedding and "vae" in encoders:  # learned for one height and width
    factor = layouts.open_network("vae", encoders["vae"])[0].downsampling
    height, width = unet_config.mask_embedding
    data |= {"height": factor * height, "width": factor * width}
  return Pretrained(
    _config(unet_config, encoders, note, data, diffusion),
    params,
    _origin(root, diffusers.dtypes(root / "unet", "unet")),
    note.get("data", {}),
    knows_noise=diffusion is not None,
  )


def _unet_folder(root: storage.Path) -> Pretrained:
  """A UNet by itself: something to start from, with no encoders to sample with."""
  unet_config, params = diffusers.open_unet(root)
  diffusion = _diffusion({}, None, unet_config)
  config = _config(unet_config, {}, {}, _data_of_folder(root, unet_config), diffusion)
  origin = _origin(root, diffusers.dtypes(root, "unet"))
  return Pretrained(config, params, origin, knows_noise=diffusion is not None)


def _single_file(path: storage.Path) -> Pretrained:
  file = stability.open_file(path)
  origin = _origin(path, file.dtypes)
  if "unet" not in file.kinds and file.note.get("config", {}).get("task") == "autoencoder":
    config = configs.from_dict(configs.TrainConfig, file.note["config"])
    return Pretrained(config, file.open("vae")[1], origin, file.note.get("data", {}))
  unet_config, params = file.open("unet")
  encoders = {kind: str(path) for kind in file.kinds if kind != "unet"}
  video = unet_config.temporal != "none"
  made = _SVD_DATA if video else {"num_frames": 1}
  diffusion = _diffusion(file.note, None, unet_config)
  config = _config(unet_config, encoders, file.note, made, diffusion)
  return Pretrained(
    config, params, origin, file.note.get("data", {}), knows_noise=diffusion is not None
  )


def _config(
  unet_config: unet.UNetConfig,
  encoders: Mapping[str, str],
  note: Mapping[str, Any],
  data: Mapping[str, Any],
  diffusion: DiffusionConfig | None,
) -> configs.TrainConfig:
  """The training config in an export's note; else one that says as much as the files do."""
  values = dict(note.get("config", {}))
  values["model"] = {
    "preset": "svd",
    "dtype": values.get("model", {}).get("dtype", "float32"),
    "overrides": {
      name: value for name, value in dataclasses.asdict(unet_config).items() if name != "dtype"
    },
  }
  values["encoders"] = {kind: encoders.get(kind, "") for kind in ("vae", "text", "image")}
  if "conditioning" not in values:
    values["conditioning"] = {"mode": _mode(unet_config)}
  values.setdefault("data", {"path": "none", **data})
  values.setdefault("total_samples", 1)
  if diffusion is not None:
    values["diffusion"] = diffusion
  return configs.from_dict(configs.TrainConfig, values)


def _data_of_folder(folder: storage.Path, config: unet.UNetConfig) -> dict[str, Any]:
  """What a model in the layout of diffusers makes by default."""
  values = storage.read_json(folder / "config.json")
  if config.temporal != "none":
    return {**_SVD_DATA, "num_frames": values.get("num_frames") or _SVD_DATA["num_frames"]}
  side = 8 * (values.get("sample_size") or 64)
  return {"num_frames": 1, "height": side, "width": side}


def _diffusion(
  note: Mapping[str, Any], scheduler: Mapping[str, Any] | None, config: unet.UNetConfig
) -> DiffusionConfig | None:
  """What a model knows of noise: as an export notes it, else as its scheduler says.

  Of a model that comes without a word about it, only SVD's process is known. An export notes a
  process also for a model of which nobody knew it: then it has no scheduler either.
  """
  if scheduler is not None:
    read = schedulers.from_json(scheduler)
    noted = note.get("config", {}).get("diffusion")
    return configs.from_dict(DiffusionConfig, noted, "diffusion") if noted and read else read
  if note.get("knows_noise"):
    noted = note.get("config", {}).get("diffusion", {})
    return configs.from_dict(DiffusionConfig, noted, "diffusion")
  if "knows_noise" in note:
    return None
  return DiffusionConfig() if config.temporal != "none" else None


def _is_unet(values: Any) -> bool:
  classes = (json_configs.VIDEO_UNET, json_configs.IMAGE_UNET)
  return isinstance(values, dict) and values.get("_class_name") in classes


def _origin(path: storage.Path, dtypes: str) -> str:
  return f"{path}, {dtypes}" if dtypes else str(path)


def _mode(config: unet.UNetConfig) -> str:
  if config.temporal == "none":
    return "text_to_image"
  if config.in_channels == 2 * config.out_channels + 1:
    return "interpolation"
  if config.in_channels == config.out_channels:
    return "text_to_video"
  return "multi_view" if config.vector_size == MODES["multi_view"].vector_size else "image_to_video"
