"""The page to look at after a run: what was found, what was dropped, and where the thresholds lie.

In the manner of Stable Video Diffusion's Table 1 and Figure 3. One file with everything inside:
pictures as data URIs, charts as SVG.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
import dataclasses
import itertools
import math
from typing import Any

from etils import epath
import jinja2

from data_pipelines import analyse, examples, ingest, select, tables, thresholds
from data_pipelines import config as config_lib

_BINS = 40
_CHART = (460, 120)  # width and height in pixels


def render(
  rows: Sequence[tables.Clip],
  rejects: Sequence[tables.Reject],
  shown: Sequence[analyse.Analysis],
  thumbnails: Sequence[tuple[str, tables.Clip, str]],
  costs: Sequence[tables.Cost],
  listing: ingest.Listing,
  config: config_lib.CurateConfig,
) -> str:
  """Renders the report.

  Args:
    rows: All clips with their verdict.
    rejects: Files that gave none.
    shown: Analyses of the sources to show one by one.
    thumbnails: (reason or "kept", clip, data URI) of some clips.
    costs: What the stages took.
    listing: What was in the folder.
    config: The thresholds in force.

  Returns:
    An HTML page.
  """
  template = epath.resource_path("data_pipelines") / "report.html.j2"
  environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
  by_source: dict[str, list[tables.Clip]] = {}
  for row in sorted(rows, key=lambda c: (c.source, c.cut_start_frame)):
    by_source.setdefault(row.source, []).append(row)
  kept = [row for row in rows if row.kept]
  return environment.from_string(template.read_text()).render(
    listing=listing,
    num_clips=len(rows),
    num_kept=len(kept),
    hours_kept=sum(row.seconds for row in kept) / 3600,
    seconds_kept=sum(row.seconds for row in kept),
    num_holdout=sum(bool(row.scores.get("holdout")) for row in kept),
    statistics=_statistics(rows, listing.num_files),
    verdicts=_verdicts(rows, thumbnails),
    costs=_costs(costs),
    core_hour_price=config.report.core_hour_price,
    rejects=sorted(rejects, key=lambda r: r.source),
    charts=_charts(rows, config),
    sources=[_source(a, by_source.get(a.source, [])) for a in shown if a.strip],
    num_sources=listing.num_files,
    settings=_settings(config),
  )


def _statistics(rows: Sequence[tables.Clip], num_files: int) -> list[tuple[str, list[str]]]:
  """The rows of Table 1 of Stable Video Diffusion, for all clips and for those that are kept."""
  parts = [list(rows), [row for row in rows if row.kept]]

  def of_each(value: Callable[[list[tables.Clip]], float], form: str) -> list[str]:
    return [form % value(part) if part else "–" for part in parts]

  return [
    ("clips", of_each(len, "%d")),
    ("length of a clip, mean, seconds", of_each(lambda p: _mean(c.seconds for c in p), "%.2f")),
    ("total length, hours", of_each(lambda p: sum(c.seconds for c in p) / 3600, "%.4g")),
    (
      "frames of a clip, mean",
      of_each(lambda p: _mean(c.end_frame - c.start_frame for c in p), "%.0f"),
    ),
    ("clips per file", of_each(lambda p: len(p) / max(num_files, 1), "%.2f")),
    (
      "with texts",
      of_each(lambda p: 100 * _mean(float(bool(c.captions)) for c in p), "%.0f %%"),
    ),
  ]


def _mean(values: Iterable[float]) -> float:
  values = list(values)
  return sum(values) / max(len(values), 1)


def _verdicts(
  rows: Sequence[tables.Clip], thumbnails: Sequence[tuple[str, tables.Clip, str]]
) -> list[dict[str, Any]]:
  """Each reason to drop clips, the most frequent first, after those that are kept."""
  counts = Counter(reason for row in rows for reason in row.drop_reasons)
  kept = sum(row.kept for row in rows)
  ordered = [(examples.KEPT, kept), *sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
  return [
    {
      "name": name,
      "count": count,
      "share": 100 * count / max(len(rows), 1),
      "examples": sorted(
        (
          (clip.source, clip.start_time_s, uri)
          for reason, clip, uri in thumbnails
          if reason == name
        ),
      ),
    }
    for name, count in ordered
  ]


def _costs(costs: Sequence[tables.Cost]) -> dict[str, Any]:
  """What each stage took, of the video that it saw and of all."""
  stages: dict[str, list[float]] = {}
  for cost in costs:
    totals = stages.setdefault(cost.stage, [0.0, 0.0])
    totals[0] += cost.cpu_s
    totals[1] += cost.video_s
  everything_s = stages.get("analyse", [0.0, 0.0])[1]
  cpu_s = sum(total for total, _ in stages.values())
  return {
    "stages": [
      {
        "name": name,
        "cpu_s": stage_cpu_s,
        "video_s": video_s,
        "speed": video_s / stage_cpu_s if stage_cpu_s else math.inf,
        "share": 100 * stage_cpu_s / max(cpu_s, 1e-9),
        # Later stages see less of it, so an hour of footage costs less there.
        "core_hours": stage_cpu_s / everything_s if everything_s else 0.0,
      }
      for name, (stage_cpu_s, video_s) in stages.items()
    ],
    "core_hours": cpu_s / everything_s if everything_s else 0.0,
  }


def _charts(rows: Sequence[tables.Clip], config: config_lib.CurateConfig) -> list[dict[str, Any]]:
  """A histogram for each score that any clip has."""
  seconds = [row.seconds for row in rows]
  charts = [_histogram("Length, seconds", seconds, config.select.min_seconds, log=False)]
  long = [row for row in rows if not select.is_short(row, config.select)]
  for stage in (thresholds.motion, thresholds.looks, thresholds.captions):
    rules = stage(config.select)
    limits = thresholds.limits(
      Counter(s for row in long for s in thresholds.steps(row, rules)), rules
    )
    for rule in rules:
      values = [v for row in rows if (v := thresholds.value(row, rule.score)) is not None]
      if values:
        limit, log = limits.get(rule.reason), rule.score == "motion_score"
        charts.append(_histogram(rule.title, values, limit, log=log, highest=rule.highest))
  return charts


def _histogram(
  title: str,
  values: Sequence[float],
  threshold: float | None,
  *,
  log: bool,
  highest: bool = False,
) -> dict[str, Any]:
  """Bars and a threshold in chart coordinates; a logarithmic axis for values that span decades.

  `highest` says that values above the threshold are dropped, not those below.
  """
  width, height = _CHART

  def scale(value: float) -> float:
    return math.log10(max(value, 1e-3)) if log else value

  line = None if threshold is None else scale(threshold)
  points = [scale(v) for v in values]
  marks = [*points, *([] if line is None else [line])] or [0.0]
  low = min(marks) if log or min(marks) < 0 else 0.0
  high = max(*marks, low + 1e-3)
  counts = Counter(min(int((p - low) / (high - low) * _BINS), _BINS - 1) for p in points)
  most = max(counts.values(), default=1)

  def is_dropped(point: float) -> bool:
    return line is not None and (point > line if highest else point < line)

  def label(position: float) -> str:
    value = low + (high - low) * position
    return f"{10**value if log else value:.3g}"

  return {
    "title": title,
    "width": width,
    "height": height,
    "bars": [
      {
        "x": b * width / _BINS,
        "y": height * (1 - count / most),
        "height": height * count / most,
        "width": width / _BINS - 1,
        "count": count,
        "dropped": is_dropped(low + (high - low) * (b + 0.5) / _BINS),
      }
      for b, count in sorted(counts.items())
    ],
    "threshold": None if threshold is None else f"{threshold:.3g}",
    "threshold_x": None if line is None else width * (line - low) / (high - low),
    "side": "above" if highest else "below",
    "ticks": [(width * p, label(p)) for p in (0.0, 0.25, 0.5, 0.75, 1.0)],
    "beyond": sum(is_dropped(point) for point in points),
    "total": len(values),
  }


def _source(analysis: analyse.Analysis, rows: Sequence[tables.Clip]) -> dict[str, Any]:
  seconds = max(analysis.seconds, 1e-6)
  most = max([*analysis.curve, 30.0])
  spans = len(analysis.curve) or 1
  points = [
    f"{100 * (i + 0.5) / spans:.2f},{40 - 38 * value / most:.2f}"
    for i, value in enumerate(analysis.curve)
  ]
  return {
    "name": analysis.source,
    "seconds": analysis.seconds,
    "reject": analysis.reject,
    "strip": analysis.strip,
    "curve": " ".join(points),
    "rows": rows,
    "info": rows[0] if rows else None,
    "spans": [
      {
        "left": 100 * row.start_time_s / seconds,
        "width": 100 * max(row.seconds, 0.0) / seconds,
        "kept": row.kept,
        "title": f"{row.start_time_s:.2f} to {row.end_time_s:.2f} s: "
        + ("kept" if row.kept else ", ".join(row.drop_reasons)),
      }
      for row in rows
    ],
    # Between two shots the boundary lies in the middle of what neither of them stores.
    "marks": [
      {
        "left": 50 * (before.end_time_s + after.start_time_s) / seconds,
        "kind": after.start_boundary,
      }
      for before, after in itertools.pairwise(rows)
    ],
  }


def _settings(config: config_lib.CurateConfig) -> list[tuple[str, str]]:
  return [
    (f"{section}.{key}", str(value))
    for section, values in dataclasses.asdict(config).items()
    for key, value in values.items()
  ]
