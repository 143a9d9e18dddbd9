"""What `--model` and `init_from` take: any directory that holds a model, read into one form.

Kinds: a training workdir (its newest good step), one of its checkpoint steps, a directory in the
diffusers layout (what `vidjax export` writes).
"""

import dataclasses

import numpy as np

from vidjax import autoencoding, checkpoint, denoising, storage
from vidjax import config as configs
from vidjax import state as states
from vidjax.checkpoint import layout
from vidjax.interop import diffusers
from vidjax.models import unet
from vidjax.optim import optimizer as optimizers

WEIGHTS = ("ema", "raw")


@dataclasses.dataclass(frozen=True)
class Pretrained:
  """A model's weights on the host, and the config that they were trained with.

  Attributes:
    config: training config; of an exported directory, what its files say.
    params: float32 arrays by flat name.
    origin: where they come from, e.g. `DIR, step 1200, ema`.
  """

  config: configs.TrainConfig
  params: dict[str, np.ndarray]
  origin: str


def load(model: str, weights: str = "ema") -> Pretrained:
  """Reads the model in directory `model`.

  Args:
    model: see the module's text.
    weights: "ema" or "raw", of a training workdir; an exported directory holds one kind.

  Raises:
    ValueError: the directory is none of these kinds.
    CheckpointError: it is a workdir without a complete checkpoint, or its files do not fit.
  """
  if weights not in WEIGHTS:
    raise ValueError(f"--params={weights!r}: choose ema or raw")
  root = storage.Path(model)
  if (root / "model_index.json").exists():
    return _exported(root)
  is_step = root.name.isdigit() and root.parent.name == "checkpoints"
  workdir = root.parent.parent if is_step else root
  if not (workdir / "config.json").exists() or not (workdir / "checkpoints").exists():
    raise ValueError(
      f"{model!r} is not a model: expected a training workdir (config.json and checkpoints/), one"
      " of its checkpoints/STEP, or a directory with model_index.json"
    )
  config = configs.load(str(workdir / "config.json"))
  step = layout.find_step(root)
  packed = checkpoint.restore_params(step, weights)
  make = autoencoding.make_vae if config.task == "autoencoder" else denoising.make_unet
  abstract = make(config).abstract
  trained = optimizers.trained_names(config.optimizer, abstract)
  return Pretrained(config, states.by_name(packed, abstract, trained), f"{step}, {weights}")


def _exported(root: storage.Path) -> Pretrained:
  unet_config, params = diffusers.load_unet(root / "unet")
  note = root / "vidjax.json"
  values = storage.read_json(note)["config"] if note.exists() else {}
  values["model"] = {
    "preset": "svd",
    "dtype": values.get("model", {}).get("dtype", "float32"),
    "overrides": {
      name: value for name, value in dataclasses.asdict(unet_config).items() if name != "dtype"
    },
  }
  values["encoders"] = {
    kind: str(root / folder) if (root / folder).exists() else ""
    for kind, folder in (("vae", "vae"), ("text", "text_encoder"), ("image", "image_encoder"))
  }
  if "conditioning" not in values:
    values["conditioning"] = {"mode": _mode(unet_config)}
  values.setdefault("data", {"path": "none"})
  values.setdefault("total_samples", 1)
  return Pretrained(configs.from_dict(configs.TrainConfig, values), params, str(root))


def _mode(config: unet.UNetConfig) -> str:
  if config.temporal == "none":
    return "text_to_image"
  return "image_to_video" if config.in_channels > config.out_channels else "text_to_video"
