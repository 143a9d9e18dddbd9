"""The page of the studies: verdicts, figures, costs. Written from the rows of a ledger alone."""

from collections.abc import Mapping, Sequence
import dataclasses
import importlib.metadata
import json
import os
import platform
from typing import Any

import numpy as np

from benchmarks.studies import charts, statistics
from benchmarks.studies import ledger as ledgers
from benchmarks.studies import plan as plans
from benchmarks.studies import units as pieces
from vidjax import storage

PAGE, FOLDER = "studies.md", "studies"
COMMAND = "python -m benchmarks.studies.run"
_MAX_BYTES = 30_000  # of a file of curves


@dataclasses.dataclass(frozen=True)
class Judged:
  """A measure with what came of it.

  Attributes:
    measure: as planned.
    effect: over seeds; positive is what the paper says.
    relative: the effect as a share of the other arm's mean; None for ranks.
  """

  measure: plans.Measure
  effect: statistics.Effect
  relative: float | None


@dataclasses.dataclass(frozen=True)
class Outcome:
  """A study that is finished.

  Attributes:
    name: of the study.
    judged: its measures.
    rows: (arm, seed) -> result.
  """

  name: str
  judged: tuple[Judged, ...]
  rows: Mapping[tuple[str, int], Mapping[str, Any]]

  @property
  def decision(self) -> str:
    """Of the primary measures together."""
    primary = [j.effect.decision for j in self.judged if j.measure.primary]
    return statistics.together(primary)


def judge(plan: plans.Plan, name: str, done: Mapping[str, Mapping[str, Any]]) -> Outcome | None:
  """The outcome of a study; None while an arm of a seed is missing."""
  study = plan.studies[name]
  rows = {}
  for arm in study.requests:
    for seed in study.seeds:
      row = done.get(pieces.score_name(name, arm, seed))
      if row is None:
        return None
      rows[arm, seed] = row["result"]
  judged = tuple(_judged(study, measure, rows) for measure in study.measures)
  return Outcome(name, judged, rows)


def write(
  plan: plans.Plan,
  studies: Sequence[str],
  left_out: Mapping[str, str],
  ledger: ledgers.Ledger,
  results: str,
) -> storage.Path:
  """Writes the page, the curves and the charts.

  Args:
    plan: the plan.
    studies: names of those that are shown.
    left_out: name -> folder that is not there.
    ledger: of what is done.
    results: folder to write to.

  Returns:
    Path of the page.
  """
  done = _of_plan(plan, studies, ledger)
  outcomes = {name: judge(plan, name, done) for name in studies}
  folder = storage.Path(results) / FOLDER
  for name, outcome in outcomes.items():
    if outcome is not None:
      text = json.dumps(_curves(plan, outcome, done), separators=(",", ":")) + "\n"
      assert len(text) < _MAX_BYTES, f"curves of {name} take {len(text)} bytes"
      storage.write_text(folder / f"{name}.json", text)
      storage.write_text(folder / f"{name}.svg", _chart(plan.studies[name], outcome))
  page = storage.Path(results) / PAGE
  parts = [*_head(ledger), *_verdicts(plan, outcomes, left_out)]
  for name, outcome in outcomes.items():
    parts += _section(plan, name, outcome, done)
  parts += _costs(plan, studies, done, ledger.cpu_seconds)
  storage.write_text(page, "\n".join(parts) + "\n")
  return page


def _judged(
  study: plans.Study, measure: plans.Measure, rows: Mapping[tuple[str, int], Mapping[str, Any]]
) -> Judged:
  if measure.rule == "rank":
    rises = measure.better == "rises"
    values = []
    for seed in study.seeds:
      measured_VN = np.array([rows[arm, seed]["clips"][measure.name] for arm in study.requests])
      values.append(statistics.rank_correlation(study.values, measured_VN, rises=rises))
    return Judged(measure, statistics.effect(values), None)
  preferred, other = (
    [rows[arm, seed][measure.name] for seed in study.seeds] for arm in measure.compare
  )
  differences = statistics.paired(preferred, other, lower_is_better=measure.better == "lower")
  found, scale = statistics.effect(differences), abs(float(np.mean(other)))
  return Judged(measure, found, found.value / scale if scale else None)


def _head(ledger: ledgers.Ledger) -> list[str]:
  rows = [row for row in ledger.rows if row["state"] == ledgers.DONE]
  dates = sorted({row["ended"][:10] for row in rows}) or ["-"]
  span = " to ".join(dict.fromkeys((dates[0], dates[-1])))
  return [
    "# Does each stage of SVD's recipe earn its place?",
    "",
    f"    {COMMAND}",
    "",
    f"{span}; {os.cpu_count()} cores of {_processor()}; jax"
    f" {importlib.metadata.version('jax')}. Models of a few hundred thousand weights on made-up"
    " clips of 64 pixels: what is found here is found at this scale. The plan, with the rule of"
    " each decision, was fixed before the first result"
    " ([plan.toml](../studies/plan.toml), [guide](../studies/README.md)).",
    "",
  ]


def _verdicts(
  plan: plans.Plan, outcomes: Mapping[str, Outcome | None], left_out: Mapping[str, str]
) -> list[str]:
  lines = [
    "## Verdicts",
    "",
    "An effect is positive where it is what the paper says; the interval is 95 %, Student's over"
    " seeds. Measures in bold decide.",
    "",
    "| study | measure | effect | 95 % interval | relative | seeds | decision |",
    "| --- | --- | --- | --- | --- | --- | --- |",
  ]
  against = []
  for name, outcome in outcomes.items():
    if outcome is None:
      lines.append(f"| {name} | | | | | | not measured yet |")
      continue
    for i, of in enumerate(outcome.judged):
      label = _label(of.measure)
      lines.append(
        f"| {f'**{name}**: {outcome.decision}' if i == 0 else ''} |"
        f" {f'**{label}**' if of.measure.primary else label} | {of.effect.value:+.4g} |"
        f" {of.effect.low:+.4g} to {of.effect.high:+.4g} |"
        f" {'' if of.relative is None else f'{of.relative:+.1%}'} | {len(of.effect.seeds)} |"
        f" {of.effect.decision} |"
      )
      if of.effect.decision == statistics.CONTRADICTS:
        against.append(
          f"- **{name}**, {label}: this contradicts the paper at this scale"
          f" ({plan.studies[name].claim})"
        )
  for name, folder in left_out.items():
    lines.append(f"| {name} | | | | | | left out: no folder {os.path.basename(folder)} |")
  return [*lines, "", *(["What contradicts the paper:", "", *against, ""] if against else [])]


def _section(
  plan: plans.Plan, name: str, outcome: Outcome | None, done: Mapping[str, Mapping[str, Any]]
) -> list[str]:
  study = plan.studies[name]
  lines = [
    f"## {name}",
    "",
    f"{study.question} The paper ({study.source}): {study.claim}",
    "",
    f"Measured: {study.metric} {study.why}",
    "",
  ]
  if outcome is None:
    return [*lines, "Not measured yet.", ""]
  names = [measure.name for measure in study.measures]
  lines += [
    f"| arm | {' | '.join(dict.fromkeys(names))} |{' training GFLOPs |' if study.equal else ''}",
    f"| --- |{' --- |' * len(dict.fromkeys(names))}{' --- |' if study.equal else ''}",
  ]
  for arm in study.requests:
    means = [
      np.mean([outcome.rows[arm, seed][measure] for seed in study.seeds])
      for measure in dict.fromkeys(names)
    ]
    cost = f" {_flops(plan, study, arm, done) / 1e9:,.0f} |" if study.equal else ""
    lines.append(f"| {arm} |" + "".join(f" {mean:.4g} |" for mean in means) + cost)
  lines += ["", f"![{name}]({FOLDER}/{name}.svg)", ""]
  if reference := done.get(f"reference/{name}"):
    of = reference["result"]
    lines += [
      "How well motion is measured: true motion of the held-out windows against measured motion"
      f" has a rank correlation of {of['real_rank_correlation']:.2f}, and of"
      f" {of['reconstructed_rank_correlation']:.2f} after the autoencoder"
      f" ({of['reconstructed_psnr']:.1f} dB).",
      "",
    ]
  return lines


def _of_plan(
  plan: plans.Plan, studies: Sequence[str], ledger: ledgers.Ledger
) -> dict[str, dict[str, Any]]:
  """Rows of this plan alone: what another one has left is as if it were not there."""
  done = ledger.done
  due = pieces.units(plan, studies)
  return {
    unit.name: done[unit.name]
    for unit in due
    if unit.name in done and done[unit.name]["hash"] == unit.digest
  }


def _costs(
  plan: plans.Plan, studies: Sequence[str], done: Mapping[str, Mapping[str, Any]], spent: float
) -> list[str]:
  lines = [
    "## Costs",
    "",
    "CPU seconds of all cores.",
    "",
    "| study | expected | spent |",
    "| --- | --- | --- |",
  ]
  for name in studies:
    own = pieces.units(plan, [name])
    took = sum(done[unit.name]["cpu_seconds"] for unit in own if unit.name in done)
    lines.append(f"| {name} | {sum(u.cpu_seconds for u in own):.0f} | {took:.0f} |")
  expected = pieces.expected(plan, studies)
  lines.append(f"| all, what is shared once | {expected:.0f} | {spent:.0f} |")
  return lines


def _curves(
  plan: plans.Plan, outcome: Outcome, done: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
  """Figures behind the page."""
  study = plan.studies[outcome.name]
  arms: dict[str, Any] = {}
  for arm in study.requests:
    arms[arm] = {}
    for seed in study.seeds:
      row = outcome.rows[arm, seed]
      kept = {key: _rounded(value) for key, value in row.items() if key != "clips"}
      if study.kind == "training":
        kept["training"] = {
          stage: done[pieces.train_name(stage, seed)]["result"]["curve"][::2]
          for stage in plan.chain(study.arms[arm])
        }
      arms[arm][str(seed)] = kept
  return {
    "study": outcome.name,
    "plan": plans.digest(plan.describe_study(outcome.name)),
    "sigmas": list(study.evaluation.sigmas),
    "arms": arms,
    "effects": {
      _label(of.measure): _rounded([*of.effect.seeds, of.effect.low, of.effect.high])
      for of in outcome.judged
    },
  }


def _chart(study: plans.Study, outcome: Outcome) -> str:
  if study.evaluation.sigmas:
    ys = {
      arm: [outcome.rows[arm, seed]["loss_by_sigma"] for seed in study.seeds]
      for arm in study.requests
    }
    title = "held-out loss by noise level"
    return charts.lines(study.evaluation.sigmas, ys, title=title, x_label="sigma", evenly=True)
  if study.varied:
    measures = list(dict.fromkeys(of.measure.name for of in outcome.judged))[:1]
    ys = {
      measure: [
        [outcome.rows[arm, seed][measure] for arm in study.requests] for seed in study.seeds
      ]
      for measure in measures
    }
    return charts.lines(
      study.values, ys, title=f"{measures[0]} against what is asked for", x_label=study.varied
    )
  measure = next(of.measure.name for of in outcome.judged)
  ys = {
    arm: [outcome.rows[arm, seed]["frames"][measure] for seed in study.seeds]
    for arm in study.requests
  }
  count = len(next(iter(ys.values()))[0])
  return charts.lines(list(range(1, count + 1)), ys, title=f"{measure} by frame", x_label="frame")


def _flops(
  plan: plans.Plan, study: plans.Study, arm: str, done: Mapping[str, Mapping[str, Any]]
) -> float:
  """Training FLOPs that an arm of a seed took."""
  return sum(
    done[pieces.train_name(stage, study.seeds[0])]["result"]["flops"]
    for stage in plan.chain(study.arms[arm])
  )


def _label(measure: plans.Measure) -> str:
  if measure.rule == "rank":
    return f"{measure.name} {measure.better} (rank correlation)"
  unit = f", {measure.unit}" if measure.unit else ""
  return f"{measure.name}: {measure.compare[0]} against {measure.compare[1]}{unit}"


def _rounded(value: Any) -> Any:
  if isinstance(value, Mapping):
    return {key: _rounded(of) for key, of in value.items()}
  if isinstance(value, (list, tuple)):
    return [_rounded(of) for of in value]
  return float(f"{value:.5g}") if isinstance(value, float) else value


def _processor() -> str:
  """Its name, where Linux tells it."""
  info = storage.Path("/proc/cpuinfo")
  if info.exists():
    for line in storage.read_text(info).splitlines():
      if line.startswith("model name"):
        return line.partition(":")[2].strip()
  return platform.machine()
