"""Every scenario of the fault suite, round after round, each with a seed of its own.

  python -m benchmarks.fault_rounds --rounds=50 [--jobs=2] [--out=benchmarks/results/faults.jsonl]

A line of JSON is appended for each scenario that ended: round, seed, scenario, what was done, the
seconds, and the error if it failed. Run it again and it goes on with what has no line; a failure
stays in the file, and what was cut off within a scenario is done again. `--report` only counts.
Scenarios wait for deadlines much of their time, so that several go well side by side (`--jobs`).
"""

import collections
from concurrent import futures
import json
import multiprocessing
import os
import pathlib
import sys
import tempfile
import time

from absl import app, flags

ROOT = pathlib.Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests" / "faults"), str(ROOT / "tests")]

_ROUNDS = flags.DEFINE_integer("rounds", 50, "How many rounds there are to be in all.")
_JOBS = flags.DEFINE_integer("jobs", 1, "How many scenarios run side by side.")
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
    todo = [
      {"round": number, "scenario": name, "seed": 1000 * number + place}
      for number in range(1, _ROUNDS.value + 1)
      for place, name in enumerate(scenarios.SCENARIOS)
      if (number, name) not in done
    ]
    spawn = multiprocessing.get_context("spawn")
    with (
      tempfile.TemporaryDirectory() as references,
      futures.ProcessPoolExecutor(_JOBS.value, spawn) as pool,
    ):
      for future in futures.as_completed(pool.submit(one, row, references) for row in todo):
        rows.append(future.result())
        with out.open("a") as file:
          file.write(json.dumps(rows[-1]) + "\n")
        print(json.dumps(rows[-1]), flush=True)
  print(report(rows))


def one(row: dict, references: str) -> dict:
  """Runs a scenario; `row` with what was done, or how it failed.

  Undisturbed runs are kept in `references`, in a folder of this process.
  """
  import runs
  import scenarios

  began = time.monotonic()
  with tempfile.TemporaryDirectory() as folder:
    of_process = pathlib.Path(references) / str(os.getpid())
    case = scenarios.Case(row["seed"], pathlib.Path(folder), of_process)
    try:
      result = {"done": scenarios.SCENARIOS[row["scenario"]](case)}
    except Exception as error:
      result = {"failed": f"{type(error).__name__}: {error}"}
    finally:
      runs.kill_what_is_left()
  return row | result | {"seconds": round(time.monotonic() - began, 1)}


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
