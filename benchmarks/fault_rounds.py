"""Every scenario of the fault suite, round after round, each with a seed of its own.

  python -m benchmarks.fault_rounds --rounds=50 [--out=benchmarks/results/faults.jsonl]

A line of JSON is appended for each scenario that ended: round, seed, scenario, what was done, the
seconds, and the error if it failed. Run it again and it goes on after the last line; a failure
stays in the file, and what was cut off within a scenario is done again. `--report` only counts.
"""

import collections
import json
import pathlib
import sys
import tempfile
import time

from absl import app, flags

ROOT = pathlib.Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests" / "faults"), str(ROOT / "tests")]

_ROUNDS = flags.DEFINE_integer("rounds", 50, "How many rounds there are to be in all.")
_OUT = flags.DEFINE_string("out", "benchmarks/results/faults.jsonl", "Where lines are appended.")
_REPORT = flags.DEFINE_bool("report", False, "Only prints what the file holds.")


def main(_: list[str]) -> None:
  import quick_programs
  import scenarios

  quick_programs.set_environment()

  out = pathlib.Path(_OUT.value)
  rows = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
  if not _REPORT.value:
    done = {(row["round"], row["scenario"]) for row in rows}
    with tempfile.TemporaryDirectory() as references:
      for number in range(1, _ROUNDS.value + 1):
        for place, name in enumerate(scenarios.SCENARIOS):
          if (number, name) not in done:
            seed = 1000 * number + place
            row = {"round": number, "scenario": name, "seed": seed}
            row |= one(scenarios.SCENARIOS[name], seed, pathlib.Path(references))
            rows.append(row)
            with out.open("a") as file:
              file.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)
  print(report(rows))


def one(scenario, seed: int, references: pathlib.Path) -> dict:
  """Runs a scenario; what was done, or how it failed."""
  import runs
  import scenarios

  began = time.monotonic()
  with tempfile.TemporaryDirectory() as folder:
    try:
      result = {"done": scenario(scenarios.Case(seed, pathlib.Path(folder), references))}
    except Exception as error:
      result = {"failed": f"{type(error).__name__}: {error}"}
    finally:
      runs.kill_what_is_left()
  return result | {"seconds": round(time.monotonic() - began, 1)}


def report(rows: list[dict]) -> str:
  """A table of how often each scenario was run, and how often it failed."""
  ran, failed = collections.Counter(), collections.Counter()
  for row in rows:
    ran[row["scenario"]] += 1
    failed[row["scenario"]] += "failed" in row
  lines = ["| Scenario | Times | Failed |", "| --- | --- | --- |"]
  lines += [f"| {name} | {ran[name]} | {failed[name]} |" for name in sorted(ran)]
  lines.append(f"| all | {ran.total()} | {failed.total()} |")
  return "\n".join(lines)


if __name__ == "__main__":
  app.run(main)
