"""What an evaluation is: everything that its numbers depend on, in one frozen value with one hash.

Published numbers differ less by models than by what was compared: which videos, which of their
frames, how they were resized, how many samples, which copy of a network, N or N - 1. All of that is
a `Protocol`. The named ones are in `vidjax.evaluation.named`; others are read from a file.
"""

from collections.abc import Mapping
import dataclasses
from typing import Any

from vidjax import storage
from vidjax.evaluation.datasets.items import ClipRule
from vidjax.metrics.protocols import protocol_hash

PROMPTS = ("classname", "split", "sentence", "ours", "one_caption", "all_captions", "given")
CONDITIONS = ("text", "first_frame", "given")
SIZE_STEPS = ("resize", "short_side", "centre_crop")
KINDS = ("fvd", "fid", "is", "clipsim", "jedi")


@dataclasses.dataclass(frozen=True)
class SizeStep:
  """One step from the size of a clip to that at which it is handed to the networks.

  Attributes:
    kind: "resize" to height x width; "short_side" to `height` with the aspect kept (width is 0);
      "centre_crop".
    height: pixels.
    width: pixels.
    kernel: "bilinear" or "bicubic"; "" for a crop.
    antialias: whether the kernel widens with the scale, as PIL's and torchvision's do.
    rounded: whether the step ends in 8-bit levels, as a resize of a uint8 tensor does.
  """

  kind: str
  height: int
  width: int
  kernel: str = ""
  antialias: bool = False
  rounded: bool = False


@dataclasses.dataclass(frozen=True)
class RealSet:
  """The real side.

  Attributes:
    dataset: a name in `vidjax.evaluation.datasets`.
    split: of the data set: "train", "test" or "all"; "" where there are none.
    clip: which frames of a video.
    count: how many videos, drawn by a hash of `seed` and id; None takes all.
    seed: of the draw.
    size: steps after decoding.
  """

  dataset: str
  split: str
  clip: ClipRule
  count: int | None = None
  seed: int = 0
  size: tuple[SizeStep, ...] = ()


@dataclasses.dataclass(frozen=True)
class FakeSet:
  """The generated side.

  Attributes:
    count: number of samples; None is one for each real video, or for each caption.
    prompts: "classname" ("ApplyEyeMakeup"), "split" ("apply eye makeup"), "sentence" (a file of the
      user's), "ours" (our own sentences); "one_caption" of each video, drawn by `seed`;
      "all_captions"; "given" where only a folder of clips can be scored.
    condition: what a model is shown: "text", or the "first_frame" of the real clip; "given" as
      above.
    histogram: split whose numbers of videos in each class the samples follow; "" for captions;
      "uniform" for the same number of each.
    num_frames: of a clip.
    fps: at which a model is asked for it.
    guidance: scale that the source states; None where it states none.
    seed: of prompts and samples.
    size: steps after generation.
  """

  count: int | None
  prompts: str
  condition: str = "text"
  histogram: str = ""
  num_frames: int = 16
  fps: float | None = None
  guidance: float | None = None
  seed: int = 0
  size: tuple[SizeStep, ...] = ()


@dataclasses.dataclass(frozen=True)
class Metric:
  """One number, or a family of them from the same features.

  Attributes:
    kind: "fvd" and "fid" (with kernel distance, FVD-infinity and floor beside), "is", "clipsim",
      "jedi".
    backbone: a name in `vidjax.backbones`.
    tap: layer whose output is used.
    ddof: covariances are divided by N - ddof.
    count: of generated samples that it takes, drawn by id; None takes all.
    frames: of each video, spread evenly, for the networks that see pictures; None takes all.
    splits: of an inception score.
    eps: added to its probabilities.
    shuffle: seed that puts its samples in order before they are split; None leaves them.
  """

  kind: str
  backbone: str
  tap: str
  ddof: int = 0
  count: int | None = None
  frames: int | None = None
  splits: int = 1
  eps: float = 0.0
  shuffle: int | None = None

  @property
  def name(self) -> str:
    """Says what a reader has to know beside the value: "fvd/i3d-torchscript"."""
    parts = [self.kind, self.backbone.replace("/", "-")]
    if self.kind == "is":
      parts += [f"{self.count or 'all'}", f"{self.splits}split"]
    return "/".join(parts)


@dataclasses.dataclass(frozen=True)
class Protocol:
  """An evaluation.

  Attributes:
    name: under which results go.
    real: see `RealSet`.
    fake: see `FakeSet`.
    metrics: at least one.
    limit: at most so many real and generated samples: for a look, comparable with nothing else.
  """

  name: str
  real: RealSet
  fake: FakeSet
  metrics: tuple[Metric, ...]
  limit: int | None = None

  def as_dict(self) -> dict[str, Any]:
    """Plain values, as in a file."""
    return dataclasses.asdict(self)

  @property
  def hash(self) -> str:
    """16 hex digits that differ wherever any field differs."""
    return protocol_hash(self)


def check(protocol: Protocol) -> None:
  """Refuses what cannot be run.

  Raises:
    ValueError: names the field, what it is and what it may be.
  """
  who = f"protocol {protocol.name!r}"
  _one_of(who, "fake.prompts", protocol.fake.prompts, PROMPTS)
  _one_of(who, "fake.condition", protocol.fake.condition, CONDITIONS)
  for side in ("real", "fake"):
    for step in getattr(protocol, side).size:
      _one_of(who, f"{side}.size.kind", step.kind, SIZE_STEPS)
      if step.kind != "centre_crop":
        _one_of(who, f"{side}.size.kernel", step.kernel, ("bilinear", "bicubic"))
        if step.kernel == "bicubic" and not step.antialias:
          raise ValueError(f"{who}: {side}.size.antialias=False is not there for bicubic")
  if not protocol.metrics:
    raise ValueError(f"{who}: metrics is empty, at least one is needed")
  for metric in protocol.metrics:
    _one_of(who, "metrics.kind", metric.kind, KINDS)
    _one_of(who, "metrics.ddof", metric.ddof, (0, 1))
    if any(
      metric.frames != other.frames
      for other in protocol.metrics
      if other.backbone == metric.backbone
    ):
      raise ValueError(
        f"{who}: metrics of {metric.backbone} differ in frames, one number is needed"
      )
  names = [metric.name for metric in protocol.metrics]
  if len(set(names)) < len(names):
    raise ValueError(f"{who}: two metrics have one name: {', '.join(names)}")
  for field in ("count", "num_frames"):
    value = getattr(protocol.fake, field)
    if value is not None and value < 1:
      raise ValueError(f"{who}: fake.{field}={value}, at least 1 is needed")
  if protocol.limit is not None and protocol.limit < 2:
    raise ValueError(f"{who}: limit={protocol.limit}, at least 2 samples are needed")


def read(path: storage.PathLike) -> Protocol:
  """Reads a protocol from a JSON file with the fields of `Protocol`.

  Raises:
    ValueError: there is no such file, or it is no protocol; names the field.
  """
  if not storage.Path(path).is_file():
    raise ValueError(f"{path}: there is no such file")
  found = _build(Protocol, storage.read_json(path), str(path))
  check(found)
  return found


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
  """Fields in which two protocols, as plain values, differ: "fake.count: 13320, not 2048"."""
  left, right = _flat(one), _flat(other)
  return [
    f"{name}: {left.get(name)!r}, not {right.get(name)!r}"
    for name in sorted(left.keys() | right.keys())
    if left.get(name) != right.get(name)
  ]


def _flat(value: Any, path: str = "") -> dict[str, Any]:
  if isinstance(value, Mapping):
    items = [(f"{path}.{key}" if path else str(key), child) for key, child in value.items()]
  elif isinstance(value, list | tuple):
    items = [(f"{path}[{i}]", child) for i, child in enumerate(value)]
  else:
    return {path: value}
  return {name: leaf for key, child in items for name, leaf in _flat(child, key).items()}


_PARTS: dict[str, type] = {"real": RealSet, "fake": FakeSet, "clip": ClipRule}
_LISTS: dict[str, type] = {"metrics": Metric, "size": SizeStep}


def _build(kind: type, values: Any, where: str) -> Any:
  """A dataclass of plain values, refusing fields that it does not know or that are missing."""
  if not isinstance(values, Mapping):
    raise ValueError(f"{where}: expected an object with fields, got {type(values).__name__}")
  fields = {field.name: field for field in dataclasses.fields(kind)}
  if unknown := sorted(values.keys() - fields.keys()):
    raise ValueError(f"{where}: unknown fields {unknown}; known are {', '.join(fields)}")
  needed = {n for n, f in fields.items() if f.default is dataclasses.MISSING}
  if missing := sorted(needed - values.keys()):
    raise ValueError(f"{where}: the fields {missing} are missing")
  built = {}
  for name, value in values.items():
    path = f"{where}: {name}" if ": " not in where else f"{where}.{name}"
    if name in _PARTS:
      built[name] = _build(_PARTS[name], value, path)
    elif name in _LISTS:
      if not isinstance(value, list):
        raise ValueError(f"{path}: expected a list, got {type(value).__name__}")
      built[name] = tuple(_build(_LISTS[name], child, path) for child in value)
    else:
      built[name] = _plain(value, str(fields[name].type), path)
  return kind(**built)


def _plain(value: Any, annotation: str, where: str) -> Any:
  """A number, text or null as its field has it."""
  allowed = annotation.replace("<class '", "").replace("'>", "").split(" | ")
  kind = "None" if value is None else type(value).__name__
  if isinstance(value, int) and kind == "int" and "float" in allowed and "int" not in allowed:
    return float(value)
  if kind not in allowed:
    raise ValueError(f"{where}: {value!r} is {kind}, expected {' or '.join(allowed)}")
  return value


def _one_of(who: str, field: str, value: Any, known: tuple[Any, ...]) -> None:
  if value not in known:
    raise ValueError(f"{who}: {field}={value!r}, known are {', '.join(map(str, known))}")
