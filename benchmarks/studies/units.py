"""Which units a study consists of, in the order in which they are done.

A unit is one command that makes something shared, one training run of one stage and seed, or one
scoring of one arm and seed. Units of several studies that are the same have the same name, and are
done once.
"""

from collections.abc import Sequence
import dataclasses

from benchmarks.studies import plan as plans


@dataclasses.dataclass(frozen=True)
class Unit:
  """One piece of work.

  Attributes:
    name: unlike that of any other unit of the plan.
    kind: "make", "train", "score" or "reference".
    digest: hash of all that the plan says of what it depends on.
    cpu_seconds: what it is expected to cost.
    material: of "make".
    stage: of "train", and of "score" the one whose model is scored.
    study: of "score" and "reference".
    arm: of "score".
    seed: of "train" and "score".
  """

  name: str
  kind: str
  digest: str
  cpu_seconds: float
  material: str = ""
  stage: str = ""
  study: str = ""
  arm: str = ""
  seed: int | None = None

  @property
  def notes(self) -> dict[str, object]:
    """What its line says of it."""
    of = {"kind": self.kind, "material": self.material, "stage": self.stage}
    of |= {"study": self.study, "arm": self.arm, "seed": self.seed}
    return {key: value for key, value in of.items() if value not in ("", None)}


def units(plan: plans.Plan, studies: Sequence[str]) -> list[Unit]:
  """Units of these studies: what is shared first, then seed by seed, so that pairs come together.

  Args:
    plan: the plan.
    studies: names.
  """
  found: dict[str, Unit] = {}
  for study in studies:
    of = plan.studies[study]
    cost, digest = of.evaluation.cpu_seconds, plans.digest(plan.describe_study(study))
    stages = {s: plans.digest(plan.describe_stage(s)) for s in plan.stages_of(study)}
    needed = plan.data[of.evaluation.data].needs
    needed += tuple(m for stage in stages for m in plan.needs_of_stage(stage))
    for material in plan.materials_of(needed):
      unit = _make(plan, material)
      found.setdefault(unit.name, unit)
    if of.kind == "requests":
      name = f"reference/{study}"
      found[name] = Unit(name, "reference", digest, cost, study=study)
    for seed in of.seeds:
      for stage, own in stages.items():
        name = train_name(stage, seed)
        unit = Unit(name, "train", own, plan.stages[stage].cpu_seconds, stage=stage, seed=seed)
        found.setdefault(name, unit)
      for arm in of.requests:
        name, stage = score_name(study, arm, seed), of.stage_of(arm)
        unit = Unit(name, "score", digest, cost, stage=stage, study=study, arm=arm, seed=seed)
        found[name] = unit
  return list(found.values())


def expected(plan: plans.Plan, studies: Sequence[str]) -> float:
  """CPU seconds that these studies are expected to cost together."""
  return sum(unit.cpu_seconds for unit in units(plan, studies))


def score_name(study: str, arm: str, seed: int) -> str:
  """Name of the unit that scores an arm."""
  return f"score/{study}/{arm}/{seed}"


def train_name(stage: str, seed: int) -> str:
  """Name of the unit that trains a stage."""
  return f"train/{stage}/{seed}"


def _make(plan: plans.Plan, material: str) -> Unit:
  digest = plans.digest(plan.describe_material(material))
  cost = plan.materials[material].cpu_seconds
  return Unit(f"make/{material}", "make", digest, cost, material=material)
