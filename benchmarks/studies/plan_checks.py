"""What a plan of studies may get wrong: names that nothing has, arms that are not alike."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from benchmarks.studies import plan as plans
from vidjax import errors

KINDS = ("training", "requests")
DIRECTIONS = {"paired": ("lower", "higher"), "rank": ("rises", "falls")}


def check(plan: plans.Plan, path: str) -> None:
  """Refuses a plan that does not fit together.

  Raises:
    ValueError: says of `path` what is wrong.
  """
  for problem in problems(plan):
    raise errors.UserError(f"{path}: {problem}")


def problems(plan: plans.Plan) -> Iterator[str]:
  """What does not fit together, in words that name it."""
  for name, material in plan.materials.items():
    if bool(material.command) == bool(material.films):
      yield f"materials.{name}: give one of command and films"
    yield from _unknown(f"materials.{name}", material.needs, plan.materials)
    yield from _unknown(f"materials.{name}.data", filter(None, (material.data,)), plan.data)
  for name, data in plan.data.items():
    yield from _unknown(f"data.{name}.needs", data.needs, plan.materials)
  for name, stage in plan.stages.items():
    yield from _unknown(f"stages.{name}.data", (stage.data,), plan.data)
    yield from _unknown(f"stages.{name}.needs", stage.needs, plan.materials)
    yield from _unknown(f"stages.{name}.after", filter(None, (stage.after,)), plan.stages)
    if bool(stage.steps) == bool(stage.flops):
      yield f"stages.{name}: give one of steps and flops"
    yield from _unknown(f"stages.{name}.flops", filter(None, (stage.flops,)), plan.flops)
  for name, study in plan.studies.items():
    yield from _problems_of_study(plan, f"studies.{name}", study)


def _problems_of_study(plan: plans.Plan, name: str, study: plans.Study) -> Iterator[str]:
  if study.kind not in KINDS:
    yield f"{name}.kind={study.kind!r}: choose from {', '.join(KINDS)}"
    return
  yield from _unknown(f"{name}.evaluation.data", (study.evaluation.data,), plan.data)
  if study.evaluation.windows < 1 or study.evaluation.windows % plans.ROWS:
    yield f"{name}.evaluation.windows={study.evaluation.windows}: a multiple of {plans.ROWS}"
  ends = study.arms.values() if study.kind == "training" else (study.model,)
  yield from _unknown(f"{name}: stages", ends, plan.stages)
  if len(study.seeds) < 3 or len(set(study.seeds)) < len(study.seeds):
    yield f"{name}.seeds={study.seeds}: at least three different ones"
  if len(study.requests) < 2:
    yield f"{name}: fewer than two arms"
  if not any(measure.primary for measure in study.measures):
    yield f"{name}: no measure is primary"
  for measure in study.measures:
    of = f"{name}, measure {measure.name!r}"
    if measure.rule not in DIRECTIONS:
      yield f"{of}: rule={measure.rule!r}: choose from {', '.join(DIRECTIONS)}"
    elif measure.better not in DIRECTIONS[measure.rule]:
      yield f"{of}: better={measure.better!r}: choose from {', '.join(DIRECTIONS[measure.rule])}"
    elif measure.rule == "paired" and len(measure.compare) != 2:
      yield f"{of}: compare names two arms"
    elif measure.rule == "rank" and not study.varied:
      yield f"{of}: ranks need a field that is varied"
    yield from _unknown(of, measure.compare, study.requests)
  if study.kind == "training":
    yield from _unequal(plan, name, study)


def _unequal(plan: plans.Plan, name: str, study: plans.Study) -> Iterator[str]:
  """Arms that do not have alike what they should."""
  chains = {arm: [plan.stages[s] for s in plan.chain(end)] for arm, end in study.arms.items()}
  if study.equal == "flops":
    costs = {
      arm: round(sum(s.share * plan.flops[s.flops] if s.flops else 0.0 for s in chain), 3)
      for arm, chain in chains.items()
    }
  elif study.equal == "steps":
    costs = {arm: sum(s.steps for s in chain) for arm, chain in chains.items()}
  else:
    yield f"{name}.equal={study.equal!r}: choose from flops, steps"
    return
  if len({round(cost) for cost in costs.values()}) > 1 or not all(costs.values()):
    yield f"{name}: arms differ in {study.equal}: {costs}"


def _unknown(name: str, used: Iterable[str], known: Mapping[str, Any]) -> Iterator[str]:
  for one in used:
    if one not in known:
      yield f"{name}: {one!r} is not one of {', '.join(known)}"
