"""Runs the studies of `plan.toml`, and writes their page.

  python -m benchmarks.studies.run [--study=NAME ...] [--out=DIR] [--report] [--list]

Run it again and it goes on with the unit that is due: what is finished is never done again, and a
training run that was interrupted goes on from its newest checkpoint. It stops by itself before the
unit that would go beyond the budget of CPU seconds in the plan, and says what is missing. Rows of
another plan in `--out` are refused.

Exit codes: 0 done; 2 bad plan or flag, or rows of another plan; 3 out of budget; 130 interrupted.
"""

import argparse
from collections.abc import Callable, Sequence
import os
import sys
from typing import Any, Protocol

from benchmarks.studies import ledger as ledgers
from benchmarks.studies import plan as plans
from benchmarks.studies import plan_checks
from benchmarks.studies import units as pieces
from vidjax import errors, storage
from vidjax.observe import console

OUT = "runs/studies"
RESULTS = "benchmarks/results"
REAL = "../shared/data/videos"  # real videos, where this folder exists
OUT_OF_BUDGET = 3


class Worker(Protocol):
  """What does the work of units."""

  def __call__(self, unit: pieces.Unit, done: dict[str, dict[str, Any]], /) -> dict[str, Any]:
    """Does a unit; `done` are the rows so far. The result is what its row keeps."""
    ...


def main(argv: Sequence[str] | None = None) -> int:
  """Runs or reports; returns the exit code."""
  parser = argparse.ArgumentParser(description="Runs the studies of a plan.")
  parser.add_argument("--plan", default=str(plans.FILE), help="another plan than plan.toml")
  parser.add_argument("--study", action="append", default=[], help="one study; may be repeated")
  parser.add_argument("--out", default=OUT, help="folder of all that is made")
  parser.add_argument("--report", action="store_true", help="only write the page, from the rows")
  parser.add_argument("--list", action="store_true", help="only list units, costs, what is done")
  parser.add_argument("--results", default=RESULTS, help="folder of the page")
  parser.add_argument("--real", default=REAL, help="folder of real videos")
  args = parser.parse_args(argv)

  plan = plans.load(args.plan)
  plan_checks.check(plan, args.plan)
  for name in args.study:
    if name not in plan.studies:
      raise errors.UserError(f"--study={name}: choose from {', '.join(plan.studies)}")
  left_out = {s: f for s in plan.studies if (f := _absent(plan, s, args.real))}
  for study, folder in left_out.items():
    console.line(f"{study} is left out: there is no folder {folder}")
  possible = [study for study in plan.studies if study not in left_out]
  studies = [study for study in possible if study in (args.study or possible)]
  due = pieces.units(plan, studies)
  ledger = ledgers.Ledger(args.out)
  ledger.check({unit.name: unit.digest for unit in due})
  if args.list:
    _list(plan, studies, due, ledger)
    return 0
  if not args.report:
    os.makedirs(args.out, exist_ok=True)
    code = work(due, ledger, plan.cpu_seconds, worker(plan, args.out, args.real))
    if code:
      return code
  from benchmarks.studies import report

  path = report.write(plan, possible, left_out, ledger, args.results)
  console.line(f"written: {path}")
  return 0


def work(due: Sequence[pieces.Unit], ledger: ledgers.Ledger, budget: float, do: Worker) -> int:
  """Does the units that are not done, in their order.

  Args:
    due: all units that are wanted.
    ledger: of what is done.
    budget: CPU seconds that all rows of the ledger may cost together.
    do: does one.

  Returns:
    0, or `OUT_OF_BUDGET`.
  """
  todo = [unit for unit in due if unit.name not in ledger.done]
  console.line(
    f"{len(due) - len(todo)} of {len(due)} units are done; the others are expected to take"
    f" {sum(unit.cpu_seconds for unit in todo) / 3600:.2f} CPU hours"
  )
  for number, unit in enumerate(todo):
    spent = ledger.cpu_seconds
    if spent + unit.cpu_seconds > budget:
      console.line(
        f"stopped: {spent:.0f} of {budget:.0f} CPU seconds are spent, and {unit.name} is expected"
        f" to take {unit.cpu_seconds:.0f}; {len(todo) - number} units are missing:"
      )
      for missing in todo[number:]:
        console.line(f"  {missing.name}")
      return OUT_OF_BUDGET
    console.line(f"[{number + 1}/{len(todo)}] {unit.name} ({spent:.0f} CPU seconds so far)")
    with ledger.unit(unit.name, unit.digest, **unit.notes) as kept:
      kept["result"] = do(unit, ledger.done)
  return 0


def worker(plan: plans.Plan, out: str, real: str) -> Worker:
  """What does the units of a plan, with compiled programs and windows kept from one to the next."""
  _prepare(out)
  from benchmarks.studies import scoring, training

  commands = training.Commands(plan, out, real)
  scorer = scoring.Scorer(commands)
  flops: dict[str, int] = {}

  def train(unit: pieces.Unit, done: dict[str, dict[str, Any]]) -> dict[str, Any]:
    assert unit.seed is not None
    if unit.stage not in flops:
      same = [
        row
        for row in done.values()
        if row.get("stage") == unit.stage and row["kind"] == "train" and row["hash"] == unit.digest
      ]
      known = same[0]["result"]["step_flops"] if same else commands.step_flops(unit.stage)
      flops[unit.stage] = known
    return commands.train(unit.stage, unit.seed, flops[unit.stage])

  def score(unit: pieces.Unit, done: dict[str, dict[str, Any]]) -> dict[str, Any]:
    del done
    assert unit.seed is not None
    return scorer.score(unit.study, unit.arm, unit.stage, unit.seed)

  kinds: dict[str, Callable[..., dict[str, Any]]] = {
    "make": lambda unit, done: commands.make(unit.material),
    "train": train,
    "score": score,
    "reference": lambda unit, done: scorer.reference(unit.study),
  }
  return lambda unit, done: kinds[unit.kind](unit, done)


def _prepare(out: str) -> None:
  """The settings that commands are run with, for this process, too: before it compiles anything."""
  import jax

  from vidjax import compiling

  compiling.use_cache(os.path.abspath(os.path.join(out, ".jax_cache")))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)
  jax.config.update("jax_platforms", os.environ.setdefault("JAX_PLATFORMS", "cpu"))
  os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=1")


def _absent(plan: plans.Plan, study: str, real: str) -> str:
  """A folder that a study needs and that is not there; "" if all are."""
  for folder in plan.folders(study):
    path = folder.replace("{real}", real)
    if not storage.Path(path).is_dir():
      return path
  return ""


def _list(
  plan: plans.Plan,
  studies: Sequence[str],
  due: Sequence[pieces.Unit],
  ledger: ledgers.Ledger,
) -> None:
  for unit in due:
    row = ledger.done.get(unit.name)
    spent = f"took {row['cpu_seconds']:.0f}" if row else "to do"
    console.line(f"{unit.name:48} {unit.cpu_seconds:6.0f} CPU s expected, {spent}")
  for study in studies:
    console.line(f"{study}: {pieces.expected(plan, [study]) / 3600:.2f} CPU hours by itself")
  total = pieces.expected(plan, studies)
  console.line(
    f"all: {len(due)} units, {total:.0f} CPU seconds ({total / 3600:.2f} hours) expected, budget"
    f" {plan.cpu_seconds:.0f}; spent {ledger.cpu_seconds:.0f}"
  )


if __name__ == "__main__":
  sys.exit(errors.run_main(main))
