"""The page: one HTML file that holds all it shows and asks nobody for anything."""

from collections.abc import Callable, Mapping, Sequence
import itertools
import json
from typing import Any

from etils import epath
import jinja2
from markupsafe import Markup

from vidjax import charts, goodput
from vidjax.checkpoint import layout
from vidjax.checkpoint.warm_start import COLUMNS, WarmStart
from vidjax.errors import CheckpointError
from vidjax.reporting import curves, data_mix, gallery, health, settings
from vidjax.reporting.run import Run

_MAX_ROWS = 40  # of tables that grow with the run: its newest ones
_MAX_CLIPS = 200  # rejected ones that are named
_PACKAGE = "vidjax.reporting"


def render(run: Run, others: Sequence[Run] = ()) -> str:
  """The page of a run, with `others` beside it."""
  folder = epath.resource_path(_PACKAGE)
  # Keys of files may be missing: they were written by other versions, or by hand.
  environment = jinja2.Environment(
    autoescape=True, undefined=jinja2.ChainableUndefined, trim_blocks=True, lstrip_blocks=True
  )
  environment.filters |= {
    "figure": _of_number(charts.figure),
    "duration": _of_number(health.duration),
    "moment": _of_number(health.moment),
    "size": _of_number(_size),
    "tail": lambda items: list(items)[-_MAX_ROWS:],
  }
  verdict, made = health.judge(run), curves.of(run, others)
  return environment.from_string((folder / "page.html.j2").read_text()).render(
    run=run,
    others=others,
    verdict=verdict,
    judged=[(run, verdict), *((other, health.judge(other)) for other in others)],
    style=Markup((folder / "page.css").read_text()),
    script=Markup((folder / "page.js").read_text()),
    data=_embedded(to_json(run, verdict, made)),
    charts=[
      (group, [(chart, _scales(chart, run)) for chart in members])
      for group, members in itertools.groupby(made, lambda chart: chart.group)
    ],
    facts=_facts(run, verdict),
    gallery=gallery.gallery(run),
    times=_times(run),
    ends=[event for event in run.supervisor if event["event"] != "start"],
    mix=_mix(run),
    init=_init(run),
    config=_config(run, others),
    versions=_versions(run),
    programs=(run.facts or {}).get("programs") or [],
    max_rows=_MAX_ROWS,
    max_clips=_MAX_CLIPS,
    max_steps=gallery.MAX_STEPS,
    columns=COLUMNS,
  )


def to_json(run: Run, verdict: health.Verdict, made: Sequence[curves.Chart]) -> dict[str, Any]:
  """The figures of the page, as it holds them for whoever wants them back."""
  return {
    "name": run.name,
    "read_at": run.now,
    "state": verdict.state,
    "level": verdict.level,
    "line": verdict.line,
    "findings": [[finding.level, finding.text] for finding in verdict.findings],
    "step": verdict.step,
    "total_steps": verdict.total,
    "seconds_per_step": verdict.seconds_per_step,
    "seconds_left": verdict.seconds_left,
    "rows": len(run.rows),
    "last_row": run.rows[-1] if run.rows else None,
    "goodput": run.times.to_json() if run.times else None,
    "charts": [chart.to_json() for chart in made],
  }


def _embedded(value: Any) -> Markup:
  """JSON that ends no script element, whatever texts are in it."""
  text = json.dumps(value, allow_nan=False, separators=(",", ":"))
  return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def _scales(chart: curves.Chart, run: Run) -> list[tuple[str, Markup]]:
  """The chart on each axis that it can have, the one shown first in front."""
  if chart.constant is not None:
    return []
  linear = ("linear", curves.drawn(chart, run, log=False))
  if not chart.positive:
    return [linear]
  log = ("log", curves.drawn(chart, run, log=True))
  return [log, linear] if chart.log else [linear, log]


def _facts(run: Run, verdict: health.Verdict) -> list[tuple[str, str]]:
  """Name and text of the figures at the top."""
  facts = []
  last = run.rows[-1] if run.rows else {}
  if isinstance(last.get("loss"), (int, float)):
    facts.append(("loss", charts.figure(last["loss"])))
  if last.get("samples"):
    facts.append(("samples", f"{last['samples']:,}"))
  if verdict.seconds_per_step:
    facts.append(("s a step", charts.figure(verdict.seconds_per_step)))
  if last.get("clips_per_second"):
    facts.append(("clips/s", charts.figure(last["clips_per_second"])))
  if last.get("mfu"):
    facts.append(("MFU", f"{last['mfu']:.1%}"))
  if run.times:
    facts.append(("goodput", f"{run.times.goodput:.1%}"))
    facts.append(("time in all", health.duration(run.times.wall)))
    facts.append(("attempts", str(len(run.times.attempts))))
  if last.get("skipped_steps") is not None:
    facts.append(("skipped steps", str(last["skipped_steps"])))
  return facts


def _times(run: Run) -> dict[str, Any] | None:
  """Tables and bars of where the time went."""
  report = run.times
  if report is None or not report.wall:
    return None
  kinds = [name for name in goodput.CLASSES if name in report.seconds]
  kinds += [name for name in report.seconds if name not in kinds]
  attempts = [(f"attempt {a.number}", a.seconds) for a in report.attempts][-_MAX_ROWS:]
  rows = []
  for label, seconds in [("all attempts", report.seconds), *attempts]:
    wall = sum(seconds.values()) or 1.0
    parts = [seconds.get(kind, 0.0) for kind in kinds]
    rows.append(
      charts.Bar(
        label,
        tuple(100 * part / wall for part in parts),
        highlight=label == "all attempts",
        text=f"{parts[kinds.index('steps')] / wall:.1%}" if "steps" in kinds else "0.0%",
        notes=tuple(
          f"{kind}: {health.duration(part)}, {part / wall:.1%}"
          for kind, part in zip(kinds, parts, strict=True)
        ),
      )
    )
  return {
    "bars": charts.bars(rows),
    "kinds": [(kind, report.seconds[kind], report.seconds[kind] / report.wall) for kind in kinds],
    "attempts": goodput.attempts_table(report),
  }


def _mix(run: Run) -> data_mix.Mix | None:
  if run.config is None or not isinstance(run.config.get("data"), Mapping):
    return None
  samples = (run.rows[-1].get("samples") if run.rows else 0) or 0
  complete = [one.step for one in run.checkpoints if one.state == "complete"]
  fingerprint = None
  if complete:
    try:
      record = layout.read_record(run.root / layout.FOLDER / str(complete[-1]))
      fingerprint = record.position.get("data")
    except CheckpointError:  # it went meanwhile, or its format is another one: a column less
      fingerprint = None
  try:
    return data_mix.describe(run.config, samples, gaps=run.rollbacks, fingerprint=fingerprint)
  except (ValueError, TypeError, KeyError, AttributeError):  # of another version, or edited
    return None


def _init(run: Run) -> dict[str, Any] | None:
  """Where the weights came from, by blocks, in numbers of parameters."""
  if run.init is None:
    return None
  became = run.init.get("parameters") or {}
  by_kind = {kind: tuple(n for n, what in became.items() if what == kind) for kind in COLUMNS[1:]}
  rows = WarmStart(**by_kind).table(dict.fromkeys(became, 1))
  return {
    "source": str(run.init.get("source", "?")),
    "totals": [(kind, len(names)) for kind, names in by_kind.items()],
    "rows": rows,
  }


def _config(run: Run, others: Sequence[Run]) -> dict[str, Any] | None:
  if run.config is None:
    return None
  configs = [run.config, *(other.config or {} for other in others)]
  return {
    "all": settings.flat(run.config),
    "changed": settings.differences([settings.defaults(), run.config]),
    "between": settings.differences(configs) if others else [],
  }


def _versions(run: Run) -> list[tuple[str, str]]:
  facts = run.facts or {}
  rows = []
  for key in ("started", "command", "code_version", "python"):
    if value := facts.get(key):
      rows.append(
        (key.replace("_", " "), " ".join(value) if isinstance(value, list) else str(value))
      )
  if facts.get("device_kind"):
    rows.append(
      ("devices", f"{facts.get('devices')} x {facts['device_kind']} ({facts.get('platform')})")
    )
  if facts.get("processes"):
    rows.append(("processes", str(facts["processes"])))
  if isinstance(facts.get("mesh"), Mapping):
    rows.append(("mesh", ", ".join(f"{axis} {size}" for axis, size in facts["mesh"].items())))
  if isinstance(facts.get("process"), Mapping):
    rows.append(("host of process 0", str(facts["process"].get("host"))))
  rows += [(str(name), str(version)) for name, version in (facts.get("versions") or {}).items()]
  return rows


def _of_number(show: Callable[[float], str]) -> Callable[[Any], str]:
  """A filter for what may be no number, or missing."""
  return lambda value: show(value) if isinstance(value, (int, float)) else settings.ABSENT


def _size(count: float) -> str:
  """Bytes for reading."""
  for unit in ("B", "kB", "MB", "GB"):
    if count < 1000:
      return f"{count:.3g} {unit}"
    count /= 1000
  return f"{count:.3g} TB"
