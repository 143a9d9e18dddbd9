"""Says where the time of a run went, over all its attempts: what trained it, and what did not.

  vidjax goodput --workdir=DIR [--json]

Reads `goodput.jsonl`, which training writes as it goes; also while it still runs.

    steps      training that counts: goodput is its share of the whole
    wasted     steps that were done again, since the next attempt began before them, and what a
               killed process had of the step it was in
    data_wait  the loop waited for a batch
    init, compile, restore, save, samples, profile, end       what else an attempt does
    idle       between the last sign of an attempt and the start of the next

Within an attempt time is measured by a clock that does not jump; between attempts there is only the
wall clock, and a gap that it makes negative is none.
Exit codes: 0 done; 2 bad flag, or no ledger in DIR.
"""

import dataclasses
import datetime
import itertools
import json
import time
from typing import Any

from absl import flags

from vidjax import command, storage
from vidjax.observe import console, goodput, journal

# As they are shown; what a newer version adds comes after them.
CLASSES = (
  *("steps", "wasted", "data_wait", "init", "compile", "restore", "save", "samples", "profile"),
  *("end", "idle"),
)
# A run that is alive was heard of this many seconds ago, also where its lines are uploaded.
_RECENT = 2 * goodput.TICK_SECONDS + journal.UPLOAD_SECONDS


@dataclasses.dataclass
class Attempt:
  """What is known of one attempt.

  Attributes:
    number: from 1.
    began, ended: wall clock of its first and last sign, seconds since 1970.
    outcome: "done", the name of what was raised, "killed" or "running".
    phase: what it was doing when it was last heard of; None outside of all phases.
    from_step: the step of the state that it began with; None if it did not get there.
    last_step: the last that it completed; None if it completed none.
    wasted_steps: how many of its steps were done again later.
    seconds: by class; "idle" is the time before it.
  """

  number: int
  began: float
  ended: float
  outcome: str | None = None
  phase: str | None = None
  from_step: int | None = None
  last_step: int | None = None
  wasted_steps: int = 0
  seconds: dict[str, float] = dataclasses.field(default_factory=dict)

  def add(self, name: str, seconds: float) -> None:
    """Adds to a class; what is taken from one may leave no less than nothing."""
    self.seconds[name] = max(0.0, self.seconds.get(name, 0.0) + seconds)


@dataclasses.dataclass
class _Stretch:
  """Steps `first` to `last` of an attempt, which nothing has undone so far."""

  attempt: Attempt
  first: int
  last: int
  seconds: float


@dataclasses.dataclass(frozen=True)
class Report:
  """The times of a run.

  Attributes:
    attempts: in order.
    seconds: by class, over all attempts.
    wall: all of them, seconds.
  """

  attempts: list[Attempt]
  seconds: dict[str, float]
  wall: float

  @property
  def goodput(self) -> float:
    """Share of the time that was spent on steps that count."""
    return self.seconds.get("steps", 0.0) / self.wall if self.wall else 0.0

  def to_json(self) -> dict[str, Any]:
    """As `--json` prints it; times are in seconds, shares between 0 and 1."""
    return {
      "attempts": [dataclasses.asdict(attempt) for attempt in self.attempts],
      "seconds": self.seconds,
      "wall_seconds": self.wall,
      "goodput": self.goodput,
      "badput": {
        name: seconds / self.wall for name, seconds in self.seconds.items() if name != "steps"
      },
      "wasted_steps": sum(attempt.wasted_steps for attempt in self.attempts),
    }


def read(workdir: storage.PathLike) -> Report:
  """Reads the ledger of a run.

  Raises:
    FileNotFoundError: there is none.
    ValueError: a line other than the last is broken; the message names it.
  """
  path = storage.Path(workdir) / goodput.NAME
  if not path.exists():
    raise FileNotFoundError(
      f"--workdir={workdir}: there is no {goodput.NAME} in it; training writes it as it begins"
    )
  rows = []
  for number, row in journal.read(path):
    if "clock" not in row:
      raise ValueError(f"{path} line {number} was written by another version: take it out")
    rows.append(row)
  if not rows:
    raise FileNotFoundError(f"--workdir={workdir}: {goodput.NAME} has no whole line yet")
  return summarize(rows, time.time())


def summarize(rows: list[dict[str, Any]], now: float) -> Report:
  """Adds up the lines of a ledger (`vidjax.observe.goodput`).

  Args:
    rows: in the order of the file.
    now: wall clock, by which a silent attempt is told from one that runs.
  """
  attempts: list[Attempt] = []
  newest: dict[int, Attempt] = {}  # by number: a folder that was emptied in part may repeat one
  unfinished: dict[int, float] = {}  # by number: step time of which no step has come yet
  kept: list[_Stretch] = []
  for row in rows:
    number = row["attempt"]
    if row["event"] == "begin" or number not in newest:
      newest[number] = Attempt(number, row["began"], row["ended"])
      attempts.append(newest[number])
      unfinished[number] = 0.0
    attempt = newest[number]
    attempt.ended, attempt.phase, attempt.outcome = row["ended"], row["phase"], row["outcome"]
    for name, seconds in row["seconds"].items():
      attempt.add(name, seconds)
    unfinished[number] += row["seconds"].get("steps", 0.0)
    if row["last_step"] is not None:
      kept.append(_Stretch(attempt, row["first_step"], row["last_step"], unfinished[number]))
      unfinished[number], attempt.last_step = 0.0, row["last_step"]
    if row["from_step"] is not None:
      if attempt.from_step is None:
        attempt.from_step = row["from_step"]
      _undo(kept, row["from_step"])
  for attempt in attempts:
    if attempt.outcome is None:
      silent = attempt is not attempts[-1] or now - attempt.ended > _RECENT
      attempt.outcome = "killed" if silent else "running"
    if attempt.outcome == "killed" and attempt is newest[attempt.number]:
      attempt.add("steps", -unfinished[attempt.number])
      attempt.add("wasted", unfinished[attempt.number])
  for before, attempt in itertools.pairwise(attempts):
    attempt.add("idle", attempt.began - before.ended)
  totals: dict[str, float] = {}
  for attempt in attempts:
    attempt.seconds = {name: attempt.seconds[name] for name in _ordered(attempt.seconds)}
    for name, seconds in attempt.seconds.items():
      totals[name] = totals.get(name, 0.0) + seconds
  totals = {name: totals[name] for name in _ordered(totals)}
  return Report(attempts, totals, sum(totals.values()))


def _undo(kept: list[_Stretch], step: int) -> None:
  """Takes out the steps after `step`: a state from before them goes on."""
  while kept and kept[-1].last > step:
    stretch = kept.pop()
    lost = stretch.last - max(step, stretch.first - 1)
    count = stretch.last - stretch.first + 1
    seconds = stretch.seconds * lost / count
    stretch.attempt.wasted_steps += lost
    stretch.attempt.add("steps", -seconds)
    stretch.attempt.add("wasted", seconds)
    if lost < count:
      kept.append(_Stretch(stretch.attempt, stretch.first, step, stretch.seconds - seconds))


def _ordered(names: dict[str, float]) -> list[str]:
  """Names of classes with some time, as they are shown."""
  known = [name for name in CLASSES if names.get(name)]
  return known + sorted(name for name in names if names[name] and name not in CLASSES)


def attempts_table(report: Report) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
  """Header and rows for people: how each attempt went."""
  header = ("attempt", "began (UTC)", "outcome", "steps", "done again", "seconds", "goodput")
  rows = []
  for attempt in report.attempts:
    began = datetime.datetime.fromtimestamp(attempt.began, datetime.UTC)
    outcome = attempt.outcome or ""
    if outcome in ("killed", "running") and attempt.phase:
      outcome += f" in {attempt.phase}"
    steps = "none"
    if attempt.last_step is not None:
      first = "?" if attempt.from_step is None else attempt.from_step + 1
      steps = f"{first}-{attempt.last_step}"
    wall = sum(attempt.seconds.values())
    good = attempt.seconds.get("steps", 0.0)
    rows.append(
      (
        *(str(attempt.number), f"{began:%Y-%m-%d %H:%M:%S}", outcome, steps),
        *(str(attempt.wasted_steps), f"{wall:.1f}", _percent(good, wall)),
      )
    )
  return header, rows


def classes_table(report: Report) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
  """Header and rows for people: seconds and shares of each attempt by class, and of all."""
  by_name = [(str(attempt.number), attempt.seconds) for attempt in report.attempts]
  rows = []
  for name, seconds in [*by_name, ("all", report.seconds)]:
    wall = sum(seconds.values())
    for number, (kind, value) in enumerate(seconds.items()):
      rows.append(("" if number else name, kind, f"{value:.1f}", _percent(value, wall)))
  return ("attempt", "time", "seconds", "share"), rows


def _percent(seconds: float, wall: float) -> str:
  return f"{100 * seconds / wall if wall else 0:.1f} %"


def main() -> None:
  """The verb: see the module's text."""
  given = flags.FLAGS
  report = read(given.workdir)
  if given.json:
    console.line(json.dumps(report.to_json(), indent=2))
    return
  console.table("attempts", *attempts_table(report))
  console.table("where the time went", *classes_table(report))
  console.line(
    f"goodput {100 * report.goodput:.1f} %: {report.seconds.get('steps', 0.0):.1f} of"
    f" {report.wall:.1f} seconds were steps that count"
  )


def define_flags() -> None:
  """Defines the flags of the verb; only the process that runs it has them."""
  flags.DEFINE_string("workdir", None, "Folder of the run: local, gs:// or s3://.", required=True)
  flags.DEFINE_bool("json", False, "Print all figures as JSON.")


if __name__ == "__main__":
  define_flags()
  command.run(main)
