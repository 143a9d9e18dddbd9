"""A training run as its workdir tells of it: one frozen value, read once.

Any file may be missing: a run that has just begun, or crashed before its first row, has few of
them.
"""

from collections.abc import Sequence
import dataclasses
import re
import time
from typing import Any

from vidjax import goodput, redaction, storage
from vidjax.checkpoint import layout
from vidjax.observe import goodput as ledger
from vidjax.observe import lease, watchdog
from vidjax.reporting.files import Reader, hidden

METRICS = "metrics.jsonl"
_SUPERVISOR = re.compile(r"supervisor(?:_(.+))?\.jsonl")
_STEP_FILE = re.compile(r"samples/(\d+)\.(mp4|png)")
_CHECKPOINT = re.compile(rf"{layout.FOLDER}/(\d+)/(.+)")
_KEPT = 4000  # letters of a text that may be long
_HANGS = 20  # reports that are read


@dataclasses.dataclass(frozen=True)
class Checkpoint:
  """A step on disk.

  Attributes:
    step: number of updates.
    state: "complete", "damaged", "left out" or "unfinished" (`layout.state_of`).
    pinned: whether it may not be removed.
    size: of all its files, bytes.
    why: what its mark says, if it is damaged or left out.
  """

  step: int
  state: str
  pinned: bool
  size: int
  why: str = ""


@dataclasses.dataclass(frozen=True)
class Run:
  """What the workdir of a run holds; times are seconds since 1970, texts have no secrets.

  Attributes:
    name: of the workdir.
    root: the workdir.
    now: when it was read.
    rows: of metrics, one for each step, ascending; the last one of a step wins.
    replaced: rows of steps that were logged again later.
    config, facts, init: of `config.json`, `run.json` and `init.json`; None without the file.
    ledger: lines of `goodput.jsonl`.
    times: what they add up to; None without any.
    supervisor: events of all tasks, by time; `task` is that of the line.
    hangs: name and text of each report of the watchdog.
    rollbacks: entries of `skipped_samples.json`.
    bundles: of steps to be replayed, without their configs; `verdict` is what `vidjax replay` said.
    rejected: clips that could not be read, with the error of each.
    checkpoints: by step.
    samples: (step, suffix -> file name) of clips made while training, by step.
    remarks: what could not be read.
  """

  name: str
  root: storage.Path
  now: float
  rows: Sequence[dict[str, Any]]
  replaced: int
  config: dict[str, Any] | None
  facts: dict[str, Any] | None
  init: dict[str, Any] | None
  ledger: Sequence[dict[str, Any]]
  times: goodput.Report | None
  supervisor: Sequence[dict[str, Any]]
  hangs: Sequence[tuple[str, str]]
  rollbacks: Sequence[dict[str, Any]]
  bundles: Sequence[dict[str, Any]]
  rejected: dict[str, str]
  checkpoints: Sequence[Checkpoint]
  samples: Sequence[tuple[int, dict[str, str]]]
  remarks: Sequence[str]

  @property
  def total_steps(self) -> int | None:
    """As configured."""
    config = self.config or {}
    total, batch = config.get("total_samples"), config.get("batch_size")
    if not (isinstance(total, int) and isinstance(batch, int) and batch > 0):
      return None
    return -(-total // batch)

  @property
  def step(self) -> int:
    """The newest that is known of; 0 if none was completed."""
    done = [row["last_step"] or 0 for row in self.ledger[-100:]]
    began = [row["from_step"] or 0 for row in self.ledger[-100:]]
    logged = [row["step"] for row in self.rows[-1:]]
    return max([0, *done, *began, *logged])

  @property
  def attempt_starts(self) -> list[tuple[int, int]]:
    """(step, attempt) from which each attempt but the first went on, as far as it is known."""
    if self.times is not None:
      found = [(a.from_step, a.number) for a in self.times.attempts if a.from_step is not None]
    else:
      first: dict[int, int] = {}
      for row in self.rows:
        first.setdefault(row.get("attempt", 1), row["step"])
      found = [(step, number) for number, step in first.items()]
    return found[1:]


def read(workdir: storage.PathLike, flag: str = "workdir") -> Run:
  """Reads a workdir; one that is being trained in, too. `flag` is the one that named it.

  Raises:
    FileNotFoundError: training never began there.
  """
  root = storage.Path(workdir)
  files = Reader(root)
  known = (METRICS, "config.json", lease.FILE, ledger.NAME)
  if not {*known, "supervisor.jsonl"} & files.states.keys():
    raise FileNotFoundError(
      f"--{flag}={redaction.redact(str(workdir))}: no run began there: none of {', '.join(known)}"
      " is in it"
    )
  rows, now = files.rows(METRICS, "step"), time.time()
  by_step = {row["step"]: row for row in rows if isinstance(row["step"], int)}
  spans = [
    row
    for row in files.rows(ledger.NAME, "clock", "attempt", "event", "seconds", "began", "ended")
    if {"last_step", "first_step", "from_step", "outcome", "phase"} <= row.keys()
  ]
  return Run(
    name=root.name or str(root),
    root=root,
    now=now,
    rows=[by_step[step] for step in sorted(by_step)],
    replaced=len(rows) - len(by_step),
    config=files.object("config.json"),
    facts=files.object(lease.FILE),
    init=files.object("init.json"),
    ledger=spans,
    times=_times(files, spans, now),
    supervisor=_supervisor(files),
    hangs=_hangs(files),
    rollbacks=files.objects("skipped_samples.json"),
    bundles=_bundles(files),
    rejected=_rejected(files),
    checkpoints=_checkpoints(files),
    samples=_samples(files),
    remarks=files.remarks,
  )


def _times(files: Reader, spans: list[dict[str, Any]], now: float) -> goodput.Report | None:
  try:
    return goodput.summarize(spans, now) if spans else None
  except (TypeError, ValueError, AttributeError) as error:
    files.remarks.append(f"{ledger.NAME} does not add up: {error}")
    return None


def _supervisor(files: Reader) -> list[dict[str, Any]]:
  events = []
  for name in files.names("", ".jsonl"):
    if match := _SUPERVISOR.fullmatch(name):
      rows = files.rows(name, "event", "time")
      timed = [row for row in rows if isinstance(row["time"], (int, float))]
      events += [hidden("", row) | {"task": match[1] or "0"} for row in timed]
  return sorted(events, key=lambda event: event["time"])


def _hangs(files: Reader) -> list[tuple[str, str]]:
  names = files.names(watchdog.FOLDER, ".txt")[-_HANGS:]
  texts = [(name.rpartition("/")[2], files.text(name)) for name in names]
  return [(name, text[:_KEPT]) for name, text in texts if text]


def _bundles(files: Reader) -> list[dict[str, Any]]:
  found = []
  for name in files.names("replay", ".json"):
    bundle = None if name.endswith(".verdict.json") else files.object(name)
    if bundle is not None:
      bundle.pop("config", None)
      verdict = files.object(f"{name.removesuffix('.json')}.verdict.json")
      found.append(bundle | {"verdict": verdict})
  return found


def _rejected(files: Reader) -> dict[str, str]:
  found: dict[str, str] = {}
  for name in files.names("", ".json"):
    if name.startswith("rejected_clips"):
      found |= {clip: str(error) for clip, error in (files.object(name) or {}).items()}
  return found


def _checkpoints(files: Reader) -> list[Checkpoint]:
  inside: dict[int, dict[str, int]] = {}
  for name, state in files.states.items():
    if match := _CHECKPOINT.fullmatch(name):
      inside.setdefault(int(match[1]), {})[match[2]] = max(state.size, 0)
  found = []
  for step, sizes in sorted(inside.items()):
    state, mark = layout.state_of(sizes)
    why = (files.text(f"{layout.FOLDER}/{step}/{mark}") or "") if mark else ""
    pinned = layout.has_pin(sizes)
    found.append(Checkpoint(step, state, pinned, sum(sizes.values()), why.strip()[:_KEPT]))
  return found


def _samples(files: Reader) -> list[tuple[int, dict[str, str]]]:
  found: dict[int, dict[str, str]] = {}
  for name in files.states:
    if match := _STEP_FILE.fullmatch(name):
      found.setdefault(int(match[1]), {})[match[2]] = name
  return sorted(found.items())
