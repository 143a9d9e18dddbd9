"""Configuration: a Python file per experiment -> `ml_collections.ConfigDict` -> frozen dataclasses.

A config file holds only what differs from the defaults below. Loading checks every key and type:
an unknown key is an error that names the nearest known one. Nothing in `vidjax` reads a ConfigDict.

The flag form is `--config=FILE[:variant,variant...]` with overrides `--config.a.b=value`; where a
tuple of names is wanted, `--config.a.b=x,y` gives one.
"""

import ast
from collections.abc import Mapping, Sequence
import dataclasses
import difflib
import importlib.util
import types
import typing
from typing import Any, TypeVar

from vidjax import redaction, storage
from vidjax.conditioning.modes import MODES
from vidjax.data.config import DataConfig
from vidjax.diffusion.process import DiffusionConfig
from vidjax.parallel.mesh import MeshConfig

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class EncodersConfig:
  """Frozen encoders: a folder in diffusers/transformers layout, `random:tiny`, or "" for none.

  `dtype` is that of their products and convolutions in training; the results are float32.
  """

  vae: str = ""
  text: str = ""
  image: str = ""
  dtype: str = "float32"


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """The network: a preset of `vidjax.models.unet`, and fields of its config that differ."""

  preset: str = "svd"
  overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  dtype: str = "bfloat16"  # compute; weights, optimizer and diffusion math stay float32


@dataclasses.dataclass(frozen=True)
class AutoencoderConfig:
  """Training an AutoencoderKL (only where `task = "autoencoder"`)."""

  preset: str = "kl_f8"
  kl_weight: float = 1e-6  # LDM (2112.10752) App. G


@dataclasses.dataclass(frozen=True)
class ConditioningConfig:
  """How a batch becomes a `Condition` (`vidjax.conditioning.svd`)."""

  mode: str = "text_to_video"  # a name in `vidjax.conditioning.modes.MODES`
  dropout: float = 0.15  # share of samples trained without condition, for guidance
  noise_aug_mean: float = -3.0  # ln sigma of the noise on given frames, SVD App. D.4
  noise_aug_std: float = 0.5
  # motion_bucket_id = clip(motion_score * this, 0, 255); SVD does not publish its map
  motion_bucket_scale: float = 16.0


OPTIMIZERS = ("adamw", "adafactor", "lion", "muon", "sgd")
SCHEDULES = ("constant", "cosine", "linear", "rsqrt")


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
  """How weights are updated, averaged and left alone; progress is counted in samples."""

  name: str = "adamw"  # of `OPTIMIZERS`; see `vidjax.optim.optimizer`
  learning_rate: float = 1e-4
  schedule: str = "constant"  # of `SCHEDULES`, after the warm-up; see `vidjax.optim.schedules`
  warmup_samples: int = 0
  decay_samples: int = 0  # length of the decay after the warm-up; 0: until total_samples
  final_fraction: float = 0.0  # of learning_rate, what a decay ends at
  b1: float | None = None  # decay of the first moment; None: what is usual for `name`
  b2: float | None = None  # of the second moment, likewise
  weight_decay: float = 0.01  # of matrices and kernels only
  clip_norm: float = 1.0  # global gradient norm; 0: no clipping
  ema_decays: tuple[float, ...] = (0.9999,)  # one average of the weights each; the first is used
  ema_every_steps: int = 1
  train_only: tuple[str, ...] = ()  # patterns (fnmatch) of parameter names; empty: all are trained
  freeze: tuple[str, ...] = ()  # patterns of those that are not, after train_only

  def __post_init__(self) -> None:
    _check_choice("optimizer.name", self.name, OPTIMIZERS)
    _check_choice("optimizer.schedule", self.schedule, SCHEDULES)
    _check_positive("optimizer.ema_every_steps", self.ema_every_steps)
    _check_not_negative(self, "optimizer", "warmup_samples", "decay_samples", "clip_norm")
    decays = self.ema_decays
    if len(set(decays)) < len(decays) or not all(0.0 < decay < 1.0 for decay in decays):
      raise ValueError(
        f"config key 'optimizer.ema_decays' takes different numbers between 0 and 1, got {decays}"
      )
    if self.decay_samples and self.schedule not in ("cosine", "linear"):
      raise ValueError(
        f"optimizer.decay_samples={self.decay_samples} has no meaning with optimizer.schedule="
        f"{self.schedule!r}: leave it out, or choose cosine or linear"
      )
    if self.schedule == "rsqrt" and not self.warmup_samples:
      raise ValueError(
        "optimizer.schedule='rsqrt' falls from the end of the warm-up on: set"
        " optimizer.warmup_samples"
      )


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
  """When state is saved, and which steps stay."""

  every_steps: int = 1000
  keep: int = 3  # newest steps that stay
  milestone_every_steps: int = 0  # steps that stay for ever; 0: none
  local_folder: str = ""  # on a RAM disk, for copies between checkpoints (`checkpoint.local`)
  local_every_steps: int = 0  # 0: none

  def __post_init__(self) -> None:
    for key in ("every_steps", "keep"):
      _check_positive(f"checkpoint.{key}", getattr(self, key))
    _check_not_negative(self, "checkpoint", "milestone_every_steps", "local_every_steps")
    if self.milestone_every_steps % self.every_steps:
      raise ValueError(
        f"checkpoint.milestone_every_steps={self.milestone_every_steps} must be a multiple of"
        f" checkpoint.every_steps={self.every_steps}"
      )
    if bool(self.local_folder) != bool(self.local_every_steps):
      raise ValueError(
        "checkpoint.local_folder and checkpoint.local_every_steps go together: set both or none"
      )
    if not storage.is_local(self.local_folder):
      raise ValueError(
        f"checkpoint.local_folder={self.local_folder!r} is no folder of this machine: name one on"
        " a RAM disk, as /dev/shm/vidjax"
      )


@dataclasses.dataclass(frozen=True)
class GuardConfig:
  """Which steps are skipped (`vidjax.optim.guard`), and what follows (`vidjax.recovery`)."""

  spike_sigmas: float = 8.0  # deviations above the mean that are a spike; 0: none is
  window: int = 100  # steps over which means are taken, and skipped steps are counted
  max_skips: int = 10  # skipped steps within `window` that are borne; with one more, it goes back
  max_rollbacks: int = 3  # to the same checkpoint; then the run gives up

  def __post_init__(self) -> None:
    _check_not_negative(self, "guard", "spike_sigmas", "max_skips", "max_rollbacks")
    _check_positive("guard.window", self.window)


@dataclasses.dataclass(frozen=True)
class DeadlinesConfig:
  """Seconds until what hangs is ended with exit code 6 (`vidjax.observe.watchdog`); 0: never."""

  step: float = 900.0  # from one step to the next
  data: float = 1800.0  # a batch; longer than the loader's own attempts (data.timeout_s) together
  compile: float = 7200.0
  save: float = 1800.0
  restore: float = 3600.0
  barrier: float = 600.0  # until the slowest process is there
  grace: float = 25.0  # from the first SIGTERM to the end, the state saved or not

  def __post_init__(self) -> None:
    _check_not_negative(self, "deadlines", *(field.name for field in dataclasses.fields(self)))


@dataclasses.dataclass(frozen=True)
class ProfileConfig:
  """Which steps are traced (`vidjax.observe.profiler`), beside those that a person asks for."""

  at_steps: tuple[int, ...] = ()  # the first step of each trace
  num_steps: int = 3  # steps in a trace


@dataclasses.dataclass(frozen=True)
class WandbConfig:
  """A copy of the metrics on Weights & Biases; none where `project` is empty."""

  project: str = ""
  mode: str = ""  # online or offline; "": the environment variable WANDB_MODE decides


@dataclasses.dataclass(frozen=True)
class TrainConfig:
  """One training stage."""

  task: str = "diffusion"  # or autoencoder
  seed: int = 0
  total_samples: int = 0  # clips (or images) seen when training ends
  batch_size: int = 1  # global
  accumulation_steps: int = 1  # parts of the batch that go through the network one by one
  rows_per_device: int = 0  # most rows that a device takes at once: more parts, if need be; 0: any
  log_every_steps: int = 100
  sample_every_steps: int = 0  # 0: never
  init_from: str = ""  # any directory that `--model` takes; EMA weights, no optimizer state
  compile_cache: str = ""  # folder for compiled programs, may be remote; "": JAX's own settings
  data: DataConfig = dataclasses.field(default_factory=DataConfig)
  encoders: EncodersConfig = dataclasses.field(default_factory=EncodersConfig)
  model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
  autoencoder: AutoencoderConfig = dataclasses.field(default_factory=AutoencoderConfig)
  diffusion: DiffusionConfig = dataclasses.field(default_factory=DiffusionConfig)
  conditioning: ConditioningConfig = dataclasses.field(default_factory=ConditioningConfig)
  optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
  checkpoint: CheckpointConfig = dataclasses.field(default_factory=CheckpointConfig)
  mesh: MeshConfig = dataclasses.field(default_factory=MeshConfig)
  guard: GuardConfig = dataclasses.field(default_factory=GuardConfig)
  deadlines: DeadlinesConfig = dataclasses.field(default_factory=DeadlinesConfig)
  profile: ProfileConfig = dataclasses.field(default_factory=ProfileConfig)
  wandb: WandbConfig = dataclasses.field(default_factory=WandbConfig)

  def __post_init__(self) -> None:
    _check_choice("task", self.task, ("diffusion", "autoencoder"))
    _check_choice("conditioning.mode", self.conditioning.mode, tuple(MODES))
    for key in ("total_samples", "batch_size", "accumulation_steps", "log_every_steps"):
      _check_positive(key, getattr(self, key))
    _check_not_negative(self, "", "rows_per_device")
    for key in ("num_frames", "fps", "height", "width"):
      _check_positive(f"data.{key}", getattr(self.data, key))
    mode = self.conditioning.mode
    if self.task == "diffusion" and self.data.num_frames < MODES[mode].min_frames:
      raise ValueError(
        f"data.num_frames={self.data.num_frames}: mode {mode!r} needs at least"
        f" {MODES[mode].min_frames}"
      )
    decays = self.optimizer.schedule in ("cosine", "linear") and not self.optimizer.decay_samples
    if decays and self.optimizer.warmup_samples >= self.total_samples:
      raise ValueError(
        f"optimizer.warmup_samples={self.optimizer.warmup_samples} leaves none of total_samples="
        f"{self.total_samples} to optimizer.schedule={self.optimizer.schedule!r}"
      )
    _check_positive("profile.num_steps", self.profile.num_steps)
    _check_choice("wandb.mode", self.wandb.mode, ("", "online", "offline"))
    _ = self.data.members  # refuses none, and both forms at once
    images = self.data.images
    if (images.every_steps or images.rows) and self.conditioning.mode != "text_to_video":
      raise ValueError(
        f"data.images: conditioning.mode={self.conditioning.mode!r} is not trained with pictures"
        " beside the videos, only 'text_to_video' is"
      )
    if images.rows >= self.batch_size:
      raise ValueError(
        f"data.images.rows={images.rows} leaves no video in batch_size={self.batch_size}"
      )

  @property
  def total_steps(self) -> int:
    """Updates until `total_samples` are seen; the last one may go past it."""
    return -(-self.total_samples // self.batch_size)


def load(flag: str, overrides: Sequence[str] = ()) -> TrainConfig:
  """Reads a training config.

  Args:
    flag: `FILE.py` or `FILE.py:variant,variant`, or a `config.json` that training wrote.
    overrides: `a.b=value` each, applied last.

  Raises:
    ValueError: file, variant, key or value is not right, or a secret; the message names it.
  """
  if flag.endswith(".json"):
    return from_dict(TrainConfig, storage.read_json(flag))
  config = from_dict(TrainConfig, apply_overrides(TrainConfig, load_file(flag), overrides))
  redaction.refuse(to_dict(config))  # it is stored in each run's folder and in checkpoints
  return config


def load_file(flag: str) -> dict[str, Any]:
  """Runs `get_config(variant)` of a config file; returns plain nested dicts."""
  path, _, variant = flag.partition(":")
  if path in ("gs", "s3"):  # the colon of a URL
    scheme, (path, _, variant) = path, flag[len(path) + 1 :].partition(":")
    path = f"{scheme}:{path}"
  if not storage.Path(path).is_file():
    raise ValueError(f"config file {path!r} does not exist: check --config")
  with storage.local_copy(path) as local:
    spec = importlib.util.spec_from_file_location("_vidjax_config", local)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
  if not hasattr(module, "get_config"):
    raise ValueError(f"config file {path!r} has no function get_config(variant)")
  return module.get_config(variant).to_dict()


def apply_overrides(cls: type, values: Mapping[str, Any], overrides: Sequence[str]) -> dict:
  """Sets `a.b=value` entries in nested dicts; the types come from the dataclass `cls`."""
  result = {k: dict(v) if isinstance(v, Mapping) else v for k, v in values.items()}
  for override in overrides:
    key, equals, text = override.partition("=")
    if not equals:
      raise ValueError(f"override {override!r}: write --config.{key}=VALUE")
    node, kind = result, cls
    *parents, leaf = key.split(".")
    for i, name in enumerate(parents):
      kind = _field_type(kind, name, ".".join(parents[:i]))
      if not dataclasses.is_dataclass(kind):
        if typing.get_origin(kind) is not Mapping:
          raise ValueError(f"config key {key!r}: {'.'.join(parents[: i + 1])} has no keys below it")
        kind = None
      node = node.setdefault(name, {})
    expected = Any if kind is None else _field_type(kind, leaf, ".".join(parents))
    node[leaf] = text if expected is str else _literal(text)
  return result


def from_dict(cls: type[T], values: Mapping[str, Any], prefix: str = "") -> T:
  """Builds the frozen dataclass `cls` from nested dicts, checking keys and types.

  Raises:
    ValueError: an unknown key (with the nearest known one) or a value of the wrong type.
  """
  kwargs = {}
  for key, value in values.items():
    kind = _field_type(cls, key, prefix)
    kwargs[key] = _convert(kind, value, f"{prefix}.{key}" if prefix else key)
  return cls(**kwargs)


def to_dict(config: Any) -> dict[str, Any]:
  """The resolved config as nested plain values; `from_dict` takes it back."""
  return dataclasses.asdict(config)


def _field_type(cls: Any, key: str, prefix: str) -> Any:
  hints = typing.get_type_hints(cls)
  if key not in hints:
    near = difflib.get_close_matches(key, hints, n=1, cutoff=0.5)
    name = f"{prefix}.{key}" if prefix else key
    hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(sorted(hints))}"
    raise ValueError(f"unknown config key {name!r}: {hint}")
  return hints[key]


def _convert(kind: Any, value: Any, name: str) -> Any:
  origin = typing.get_origin(kind)
  if dataclasses.is_dataclass(kind):
    if dataclasses.is_dataclass(value):
      return value
    if not isinstance(value, Mapping):
      raise ValueError(f"config key {name!r} has keys below it, got {value!r}")
    return from_dict(typing.cast(type, kind), value, name)
  if origin is tuple and typing.get_args(kind)[0] is str and isinstance(value, str):
    value = [part.strip() for part in value.split(",") if part.strip()]  # as a flag has it
  if origin is tuple and isinstance(value, (list, tuple)):
    item = typing.get_args(kind)[0]
    return tuple(_convert(item, v, f"{name}[{i}]") for i, v in enumerate(value))
  if kind is float and isinstance(value, int) and not isinstance(value, bool):
    return float(value)
  if kind is int and isinstance(value, float) and value.is_integer():
    return int(value)
  if origin in (types.UnionType, typing.Union):
    options = typing.get_args(kind)
    if value is None and type(None) in options:
      return None
    return _convert(next(o for o in options if o is not type(None)), value, name)
  if kind is Any:
    return value
  expected = origin or kind
  if not isinstance(value, expected) or (isinstance(value, bool) and kind is not bool):
    raise ValueError(
      f"config key {name!r} must be {getattr(expected, '__name__', expected)}, got {value!r}"
    )
  return value


def _literal(text: str) -> Any:
  try:
    return ast.literal_eval(text)
  except (ValueError, SyntaxError):
    return {"true": True, "false": False}.get(text.lower(), text)


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
  if value not in choices:
    near = difflib.get_close_matches(value, choices, n=1, cutoff=0.5)
    hint = f": did you mean {near[0]!r}?" if near else ""
    raise ValueError(
      f"config key {name!r} must be one of {', '.join(choices)}, got {value!r}{hint}"
    )


def _check_positive(name: str, value: float) -> None:
  if value <= 0:
    raise ValueError(f"config key {name!r} must be positive, got {value!r}")


def _check_not_negative(section: Any, name: str, *keys: str) -> None:
  for key in keys:
    if getattr(section, key) < 0:
      raise ValueError(f"config key {'.'.join(filter(None, (name, key)))!r} must not be negative")
