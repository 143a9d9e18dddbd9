"""Whether a run should go on: where it is, when it will end, and what is wrong, in one line.

The thresholds below are rules of thumb: they say where to look, and not what to do.
"""

from collections.abc import Sequence
import dataclasses
import datetime
import statistics
from typing import Any

from vidjax import charts
from vidjax.reporting.run import Run

_LEAST_ROWS = 20  # fewer say nothing about a trend
_RISES = 1.1  # mean loss now over the lowest one: worth a look
_DIVERGES = 2.0
_DEVIATIONS = 4.0  # by how many standard errors a rise has to be more than noise
_WAITS, _STARVES = 0.05, 0.3  # share of a step that waits for data
_SLOWER = 1.25  # time of a step now over the usual one
_SKIPPING = 0.05  # share of the latest steps that are skipped
_LITTLE_GOODPUT = 0.8
_LONG_ENOUGH_S = 3600.0  # for goodput to mean something
_ORDERLY = ("done", "running", "Preempted", "Interrupted")


@dataclasses.dataclass(frozen=True)
class Finding:
  """Something that is wrong; `level` is "bad" or "warn"."""

  level: str
  text: str


@dataclasses.dataclass(frozen=True)
class Verdict:
  """The answer.

  Attributes:
    state: running, done, stopped, failed or not begun.
    level: "good", "warn" or "bad".
    line: all of it, in one sentence or two.
    findings: what is wrong, the worst first.
    step, total: where it is; None where it is not known.
    seconds_per_step: on the wall clock, saves and samples included; None if it is not known.
    seconds_left: until the last step, at that pace; None unless it runs.
  """

  state: str
  level: str
  line: str
  findings: Sequence[Finding]
  step: int
  total: int | None
  seconds_per_step: float | None
  seconds_left: float | None


def judge(run: Run) -> Verdict:
  """Judges a run by what is in its workdir."""
  state, how = _state(run)
  findings = [*_endings(run, state, how), *_losses(run), *_steps(run), *_upkeep(run)]
  findings = sorted(findings, key=lambda finding: finding.level)  # "bad" before "warn"
  pace, total = _pace(run), run.total_steps
  left = None
  if state == "running" and pace is not None and total is not None:
    left = max(0, total - run.step) * pace
  return Verdict(
    state=state,
    level=findings[0].level if findings else "good",
    line=_line(run, state, how, pace, left, findings),
    findings=findings,
    step=run.step,
    total=total,
    seconds_per_step=pace,
    seconds_left=left,
  )


def duration(seconds: float) -> str:
  """Such as "42 s", "3 min", "5 h 12 min" or "3 d 4 h"."""
  minutes = round(seconds / 60)
  if seconds < 120:
    return f"{seconds:.0f} s"
  if minutes < 120:
    return f"{minutes} min"
  if minutes < 48 * 60:
    return f"{minutes // 60} h {minutes % 60} min"
  return f"{minutes // (24 * 60)} d {minutes // 60 % 24} h"


def moment(seconds: float) -> str:
  """A time of the wall clock, in UTC."""
  return f"{datetime.datetime.fromtimestamp(seconds, datetime.UTC):%Y-%m-%d %H:%M} UTC"


def _state(run: Run) -> tuple[str, str]:
  """The state, and how it came to it in words."""
  last = run.times.attempts[-1] if run.times else None
  end = next((e for e in reversed(run.supervisor) if e["event"] != "start"), None)
  if run.total_steps is not None and run.step >= run.total_steps:
    return "done", "all steps are done"
  if last is None:
    return ("unknown" if run.rows else "not begun"), "there is no ledger of its time"
  where = f" in {last.phase}" if last.phase else ""
  if last.outcome == "running":
    return "running", f"last heard of {duration(max(0.0, run.now - last.ended))} ago{where}"
  restarts = end is not None and end.get("decision") == "restart" and end["time"] >= last.began
  again = "; the supervisor starts it again" if restarts else ""
  if last.outcome == "done":
    return "stopped", f"the attempt ended before all steps were done{again}"
  if last.outcome in ("Preempted", "Interrupted"):
    return "stopped", f"{last.outcome.lower()}, state saved{again}"
  if last.outcome == "killed":
    ago = duration(max(0.0, run.now - last.ended))
    return "failed", f"killed, or silent for {ago}{where}{again}"
  if last.outcome == "hang":
    return "failed", f"it hung and was ended by its watchdog{again}"
  return "failed", f"it ended with {last.outcome}{again}"


def _pace(run: Run) -> float | None:
  """Seconds of the wall clock by step, over the newest half of the steps of the last attempt."""
  if not run.ledger:
    return None
  number = run.ledger[-1]["attempt"]
  begins = [
    i for i, row in enumerate(run.ledger) if row["attempt"] == number and row["event"] == "begin"
  ]
  ends = [
    (row["last_step"], row["ended"])
    for row in run.ledger[begins[-1] if begins else 0 :]
    if row["last_step"] is not None and row["attempt"] == number
  ]
  ends = ends[len(ends) // 2 :] if len(ends) > 3 else ends
  if len(ends) > 1 and ends[-1][0] > ends[0][0]:
    return (ends[-1][1] - ends[0][1]) / (ends[-1][0] - ends[0][0])
  return _usual(run.rows[-1:], "step_seconds")


def _endings(run: Run, state: str, how: str) -> list[Finding]:
  """What ended that should not have."""
  found = []
  if state == "failed":
    found.append(Finding("bad", f"it does not run any more: {how}"))
  if not run.rows and state != "running":
    found.append(Finding("bad", "it ended before the first row of metrics"))
  stops = [
    e for e in run.supervisor if e.get("decision") == "stop" and e.get("code") not in (75, 130)
  ]
  if stops and state != "done":
    found.append(Finding("bad", f"the supervisor gave up: {stops[-1].get('why')}"))
  if run.times:
    broken = [a.outcome or "" for a in run.times.attempts[:-1] if a.outcome not in _ORDERLY]
    if broken:
      causes = ", ".join(dict.fromkeys(broken))
      count = len(run.times.attempts) - 1
      found.append(
        Finding("warn", f"{len(broken)} of {count} earlier attempts ended badly ({causes})")
      )
  if run.hangs:
    found.append(Finding("warn", f"{_many(len(run.hangs), 'report')} of hangs"))
  return found


def _losses(run: Run) -> list[Finding]:
  """What the loss says."""
  found = []
  if run.rows and "loss" in run.rows[-1] and run.rows[-1]["loss"] is None:
    found.append(Finding("bad", f"the loss of step {run.rows[-1]['step']} is not finite"))
  losses = [row["loss"] for row in run.rows if isinstance(row.get("loss"), (int, float))]
  if len(losses) < _LEAST_ROWS:
    return found
  window = max(3, len(losses) // 10)
  means = charts.running_mean(losses)[window - 1 :]
  # Of the difference of two means; which of them is the lowest is chosen, so more is asked of it.
  error = statistics.stdev(losses[-len(losses) // 2 :]) * (2 / window) ** 0.5
  now, lowest, first = means[-1], min(means), means[0]
  rise = now - lowest
  text = f"the mean loss is {charts.figure(now)}, and was {charts.figure(lowest)}"
  if lowest > 0 and now > _DIVERGES * lowest and rise > _DEVIATIONS * error:
    found.append(Finding("bad", f"it diverges: {text}"))
  elif lowest > 0 and now > _RISES * lowest and rise > _DEVIATIONS * error:
    found.append(Finding("warn", f"the loss rises: {text}"))
  elif now >= first and len(losses) >= 5 * _LEAST_ROWS:
    found.append(Finding("warn", "the loss is no lower than at the beginning"))
  return found


def _steps(run: Run) -> list[Finding]:
  """Skipped, slow and starved steps."""
  found = []
  rows = run.rows
  recent = rows[-max(3, len(rows) // 10) :]
  skipped = rows[-1].get("skipped_steps") if rows else None
  if skipped:
    causes = ", ".join(
      f"{value} by {key.removeprefix('skipped_').replace('_', ' ')}"
      for key, value in rows[-1].items()
      if key.startswith("skipped_") and key != "skipped_steps" and value
    )
    steps = recent[-1]["step"] - recent[0]["step"]
    lately = skipped - (recent[0].get("skipped_steps") or 0)
    level = "bad" if steps and lately > _SKIPPING * steps else "warn"
    text = f"skipped: {_many(skipped, 'step')} ({causes})" + (
      f", {lately} of the last {steps}" if lately else ""
    )
    found.append(Finding(level, text))
  step, wait = _usual(recent, "step_seconds"), _mean(recent, "data_wait_seconds")
  if step and wait is not None and wait > _WAITS * step:
    level = "bad" if wait > _STARVES * step else "warn"
    share = min(1.0, wait / step)
    found.append(Finding(level, f"{share:.0%} of a step waits for data"))
  usual = _usual(rows, "step_seconds")
  if len(rows) >= _LEAST_ROWS and usual and step and step > _SLOWER * usual:
    found.append(Finding("warn", f"steps take {step / usual:.1f} times as long as usual"))
  return found


def _upkeep(run: Run) -> list[Finding]:
  """Checkpoints, data, time, files."""
  found = []
  every = ((run.config or {}).get("checkpoint") or {}).get("every_steps")
  complete = [one.step for one in run.checkpoints if one.state == "complete"]
  damaged = [one.step for one in run.checkpoints if one.state == "damaged"]
  if every and run.step > 1.5 * every and not complete:
    found.append(
      Finding("bad", "there is no complete checkpoint: what ends it now loses everything")
    )
  lost = max([len(damaged), *(row.get("damaged_checkpoints") or 0 for row in run.rows[-1:])])
  if lost:
    found.append(Finding("warn", f"damaged: {_many(lost, 'checkpoint')}"))
  if run.rollbacks:
    left_out = sum(entry.get("samples") or 0 for entry in run.rollbacks)
    went, gone = _many(len(run.rollbacks), "time"), _many(left_out, "sample")
    found.append(Finding("warn", f"it went back {went} and left out {gone}"))
  if run.rejected:
    found.append(Finding("warn", f"not readable: {_many(len(run.rejected), 'clip')}"))
  if run.times and run.times.wall > _LONG_ENOUGH_S and run.times.goodput < _LITTLE_GOODPUT:
    rest = {name: s for name, s in run.times.seconds.items() if name != "steps"}
    worst = max(rest, key=lambda name: rest[name])
    share = rest[worst] / run.times.wall
    found.append(
      Finding("warn", f"goodput is {run.times.goodput:.0%}; most is lost to {worst} ({share:.0%})")
    )
  found += [Finding("warn", remark) for remark in run.remarks if "has no end" not in remark]
  return found


def _line(
  run: Run,
  state: str,
  how: str,
  pace: float | None,
  left: float | None,
  findings: Sequence[Finding],
) -> str:
  total = run.total_steps
  begun = run.step or run.rows
  where = f"step {run.step:,}" + (f" of {total:,} ({run.step / total:.1%})" if total else "")
  parts = [where if begun else "no step yet"]
  clips = _usual(run.rows[-max(3, len(run.rows) // 10) :], "clips_per_second")
  if pace is not None and state == "running":
    parts.append(
      f"{charts.figure(pace)} s a step" + (f", {charts.figure(clips)} clips/s" if clips else "")
    )
  if left is not None and run.now is not None:
    parts.append(f"about {duration(left)} left, until {moment(run.now + left)}")
  if state in ("stopped", "failed", "not begun"):
    parts.append(how)
  bad = sum(finding.level == "bad" for finding in findings)
  if not findings:
    health = "Nothing is wrong"
  elif bad:
    health = f"Wrong: {findings[0].text}" + (
      f"; and {len(findings) - 1} more" if findings[1:] else ""
    )
  else:
    health = f"To look at: {findings[0].text}" + (
      f"; and {len(findings) - 1} more" if findings[1:] else ""
    )
  return f"{state.capitalize()}: {'; '.join(parts)}. {health}."


def _many(count: int, noun: str) -> str:
  """Such as "1 clip" or "3 clips"."""
  return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _usual(rows: Sequence[dict[str, Any]], key: str) -> float | None:
  values = [row[key] for row in rows if isinstance(row.get(key), (int, float))]
  return statistics.median(values) if values else None


def _mean(rows: Sequence[dict[str, Any]], key: str) -> float | None:
  values = [row[key] for row in rows if isinstance(row.get(key), (int, float))]
  return statistics.fmean(values) if values else None
