"""The plan of the studies, `plan.toml`: read, checked, hashed.

Everything that a number depends on stands in that file; the code reads it and repeats nothing of
it. The hash of a study covers what is said of it there, and the data, materials and stages that it
uses, but not what it is expected to cost: that may be measured again without a new study.
"""

from collections.abc import Mapping
import dataclasses
import hashlib
import json
import tomllib
from typing import Any

from vidjax import config as configs
from vidjax import errors, storage

FILE = storage.Path(__file__).parent / "plan.toml"
ROWS = 8  # windows or clips that go through a network at once
_COST = "cpu_seconds"  # of a unit; never part of a hash


@dataclasses.dataclass(frozen=True)
class Material:
  """What is made once and shared by all seeds: exactly one of `command` and `films`.

  Attributes:
    command: of `vidjax`, its flags with {out} and {real} in them.
    films: options of `benchmarks.studies.films.write`, for the video files that are made up.
    data: name of the data that the command reads, as flags; "" for none.
    needs: names of materials that come first.
    cpu_seconds: what it is expected to cost, of all cores together.
  """

  command: tuple[str, ...] = ()
  films: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  data: str = ""
  needs: tuple[str, ...] = ()
  cpu_seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class Data:
  """A data set: fields of `vidjax.data.config.DataConfig`, with {out} in its paths.

  Attributes:
    config: those fields.
    needs: materials that have to be there.
    folder: of the machine that has to be there, else what uses it is left out; "" for none.
  """

  config: Mapping[str, Any]
  needs: tuple[str, ...] = ()
  folder: str = ""


@dataclasses.dataclass(frozen=True)
class Stage:
  """One training run, for each seed; either `steps` or `flops` and `share` say how long.

  Attributes:
    config: as `vidjax train` takes it.
    data: name of its data.
    overrides: `a.b=value` each, after those that all stages share.
    after: stage of the same seed whose weights it starts from; "" for fresh ones.
    needs: names of materials that come first.
    steps: of training.
    flops: name of a budget.
    share: of that budget, which is spent here.
    cpu_seconds: what one seed is expected to cost.
  """

  config: str
  data: str
  overrides: tuple[str, ...] = ()
  after: str = ""
  needs: tuple[str, ...] = ()
  steps: int = 0
  flops: str = ""
  share: float = 1.0
  cpu_seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class Measure:
  """A number of each seed, and what the paper says of it.

  Attributes:
    name: of the number, as `scoring` gives it.
    better: "lower" or "higher" where arms are compared; "rises" or "falls" with the value asked
      for, where ranks are.
    rule: "paired" or "rank".
    compare: two arms, of which the paper prefers the first; for "paired".
    primary: whether it decides.
    unit: of the number, for reading.
  """

  name: str
  better: str
  rule: str
  compare: tuple[str, ...] = ()
  primary: bool = False
  unit: str = ""


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """What the models of a study are asked.

  Attributes:
    data: name of the data that windows come from.
    split: of the data.
    windows: real windows, a multiple of eight, and clips that are made for them.
    seed: of windows and clips.
    sigmas: noise levels of the held-out loss; none: there is no such loss.
    steps: of the sampler; 0 makes no clips.
    request: further fields of `vidjax.requests.Request`, of all arms.
    cpu_seconds: what one arm of one seed is expected to cost.
  """

  data: str
  split: str
  windows: int
  seed: int
  steps: int
  sigmas: tuple[float, ...] = ()
  request: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  cpu_seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class Study:
  """One question.

  Attributes:
    question: in a sentence.
    claim: what the paper says.
    source: where.
    metric: what the numbers are, and of how many clips.
    why: why these tell it at this scale.
    kind: "training" where arms are trained, "requests" where one model is asked in several ways.
    seeds: of training; the same ones pair the arms.
    equal: what arms have alike: "flops" or "steps"; "" for requests, whose model is the same.
    arms: name -> stage ("training"), or fields of a request ("requests").
    model: stage that requests go to.
    varied: field of a request, for "rank"; its `values` make the arms.
    values: of that field, in ascending order.
    evaluation: what is asked.
    measures: what is judged.
  """

  question: str
  claim: str
  source: str
  metric: str
  why: str
  kind: str
  seeds: tuple[int, ...]
  evaluation: Evaluation
  measures: tuple[Measure, ...]
  equal: str = ""
  arms: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  model: str = ""
  varied: str = ""
  values: tuple[float, ...] = ()

  def stage_of(self, arm: str) -> str:
    """The stage whose model an arm is scored with."""
    return self.arms[arm] if self.kind == "training" else self.model

  @property
  def requests(self) -> dict[str, dict[str, Any]]:
    """Arm -> what it is asked with; of trained arms, nothing of its own."""
    if self.varied:
      return {f"{value:g}": {self.varied: value} for value in self.values}
    if self.kind == "requests":
      return {arm: dict(fields) for arm, fields in self.arms.items()}
    return {arm: {} for arm in self.arms}


@dataclasses.dataclass(frozen=True)
class Plan:
  """All of it.

  Attributes:
    cpu_seconds: budget of all cores together; no unit is begun that would go beyond it.
    overrides: of all stages.
    flops: name -> training FLOPs of an arm.
    materials: by name.
    data: by name.
    stages: by name.
    studies: by name.
  """

  cpu_seconds: float
  overrides: tuple[str, ...]
  flops: Mapping[str, float]
  materials: Mapping[str, Material]
  data: Mapping[str, Data]
  stages: Mapping[str, Stage]
  studies: Mapping[str, Study]

  def chain(self, stage: str) -> tuple[str, ...]:
    """A stage and those that it starts from, the first one first."""
    before = self.stages[stage].after
    return (*(self.chain(before) if before else ()), stage)

  def materials_of(self, names: tuple[str, ...]) -> tuple[str, ...]:
    """These materials and what they need, in an order in which they can be made."""
    found: dict[str, None] = {}
    for name in names:
      material = self.materials[name]
      needed = (*material.needs, *(self.data[material.data].needs if material.data else ()))
      found |= dict.fromkeys(self.materials_of(needed))
      found[name] = None
    return tuple(found)

  def needs_of_stage(self, stage: str) -> tuple[str, ...]:
    """Materials that a stage alone needs, in order."""
    of = self.stages[stage]
    return self.materials_of((*of.needs, *self.data[of.data].needs))

  def folders(self, study: str) -> tuple[str, ...]:
    """Folders of the machine without which a study is left out."""
    names = {self.studies[study].evaluation.data}
    for stage in self.stages_of(study):
      names.add(self.stages[stage].data)
    return tuple(sorted({self.data[name].folder for name in names} - {""}))

  def stages_of(self, study: str) -> tuple[str, ...]:
    """All stages of a study, each once, in an order in which they can be trained."""
    of = self.studies[study]
    ends = of.arms.values() if of.kind == "training" else (of.model,)
    return tuple(dict.fromkeys(name for end in ends for name in self.chain(end)))

  def describe_material(self, name: str) -> dict[str, Any]:
    """All that a material depends on."""
    of = self.materials[name]
    parts = self.materials_of((name,))
    data = {of.data: self.data[of.data].config} if of.data else {}
    return {
      "materials": {part: _plain(self.materials[part]) for part in parts},
      "data": {
        part: self.data[self.materials[part].data].config
        for part in parts
        if self.materials[part].data
      }
      | data,
    }

  def describe_stage(self, stage: str) -> dict[str, Any]:
    """All that a training run depends on, but for its seed."""
    stages = [self.stages[name] for name in self.chain(stage)]
    needs = {m for name in self.chain(stage) for m in self.needs_of_stage(name)}
    return {
      "stages": [_plain(of) for of in stages],
      "overrides": list(self.overrides),
      "flops": {of.flops: self.flops[of.flops] for of in stages if of.flops},
      "data": {of.data: _plain(self.data[of.data]) for of in stages},
      "materials": {name: self.describe_material(name) for name in sorted(needs)},
    }

  def describe_study(self, study: str) -> dict[str, Any]:
    """All that the verdict of a study depends on."""
    of = self.studies[study]
    data = self.data[of.evaluation.data]
    return {
      "study": _plain(of),
      "stages": {name: self.describe_stage(name) for name in self.stages_of(study)},
      "data": _plain(data),
      "materials": {m: self.describe_material(m) for m in self.materials_of(data.needs)},
    }


def digest(description: Mapping[str, Any]) -> str:
  """16 hex digits that differ wherever a description does."""
  text = json.dumps(description, sort_keys=True, default=dict)
  return hashlib.sha256(text.encode()).hexdigest()[:16]


def load(path: storage.PathLike = FILE) -> Plan:
  """Reads a plan; `plan_checks.check` says whether it fits together.

  Raises:
    ValueError: what is wrong with it, by name.
  """
  try:
    values = tomllib.loads(storage.read_text(path))
  except tomllib.TOMLDecodeError as error:
    raise errors.UserError(f"{path} is no TOML: {error}") from error
  unknown = set(values) - {"budget", "training", "flops", *_TABLES}
  if unknown:
    raise errors.UserError(f"{path}: unknown tables {', '.join(sorted(unknown))}")
  tables = {
    name: {key: _parsed(kind, value, f"{name}.{key}") for key, value in values[name].items()}
    for name, kind in _TABLES.items()
  }
  plan = Plan(
    cpu_seconds=float(values["budget"][_COST]),
    overrides=tuple(values["training"]["overrides"]),
    flops=values["flops"],
    **tables,
  )
  return plan


_TABLES = {"materials": Material, "data": Data, "stages": Stage, "studies": Study}


def _parsed(kind: type, values: Mapping[str, Any], name: str) -> Any:
  if kind is Study:
    measures = tuple(
      configs.from_dict(Measure, m, f"{name}.measures[{i}]")
      for i, m in enumerate(values.get("measures", ()))
    )
    values = {**values, "measures": ()}
    return dataclasses.replace(_checked(kind, values, name), measures=measures)
  if kind is Data:
    of = {key: value for key, value in values.items() if key not in ("needs", "folder")}
    return Data(of, tuple(values.get("needs", ())), values.get("folder", ""))
  return _checked(kind, values, name)


def _checked(kind: type, values: Mapping[str, Any], name: str) -> Any:
  try:
    return configs.from_dict(kind, values, name)
  except TypeError as error:  # a field that is missing
    raise errors.UserError(f"{name}: {error}") from error


def _plain(value: Any) -> Any:
  """As JSON has it, without costs."""
  if dataclasses.is_dataclass(value) and not isinstance(value, type):
    fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    return {k: _plain(v) for k, v in fields.items() if k != _COST}
  if isinstance(value, Mapping):
    return {k: _plain(v) for k, v in value.items()}
  if isinstance(value, (list, tuple)):
    return [_plain(v) for v in value]
  return value
