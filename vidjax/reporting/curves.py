"""The curves of a run: which there are, thinned so that no peak is lost, smoothed, drawn.

What is drawn is also in the page as JSON: points are rows of `metrics.jsonl`, unchanged; a smoothed
curve is the running mean of all rows, of which some are shown.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import itertools
import math
from typing import Any

from markupsafe import Markup

from vidjax import charts
from vidjax.diffusion.loss import LOG_SIGMA_EDGES
from vidjax.reporting.run import Run

MAX_POINTS = 600  # of a chart with one curve
_SMOOTH_POINTS = 200
_LEAST_POINTS = 60  # of each of many curves
_MAX_OTHERS = 40  # charts of numbers that are not known here
_COLOURS = 8

# Groups of charts: for each its charts, as key, title, unit. What a run does not have is not shown;
# a key that ends with "/" is one chart of all that begin so.
_GROUPS = {
  "Learning": (
    ("loss", "Loss", ""),
    ("loss_per_sigma_bin/", "Loss by noise level", "σ in the bin"),
    ("loss_videos", "Loss of the videos", ""),
    ("loss_images", "Loss of the pictures", ""),
    ("lr", "Learning rate", ""),
  ),
  "Speed": (
    ("clips_per_second", "Throughput", "clips/s"),
    ("step_seconds", "Time of a step", "s"),
    ("data_wait_seconds", "Wait for data", "s a step"),
    ("mfu", "Model FLOPs utilization", ""),
    ("tflops_per_device", "Speed of a device", "TFLOP/s"),
  ),
  "Norms": (
    ("grad_norm", "Gradient norm", ""),
    ("param_norm", "Weight norm", ""),
    ("update_norm", "Update norm", ""),
    ("grad_norm/", "Gradient norm by block", ""),
    ("param_norm/", "Weight norm by block", ""),
    ("update_norm/", "Update norm by block", ""),
  ),
  "Trouble": (
    ("skipped_", "Skipped steps by cause", "since the beginning"),
    ("damaged_checkpoints", "Damaged checkpoints", "in this attempt"),
    ("rejected_clips", "Rejected clips", "in this attempt"),
  ),
}
_NO_CURVES = ("attempt", "step", "samples", "skipped_steps")


@dataclasses.dataclass(frozen=True)
class Series:
  """One curve.

  Attributes:
    key: flat name in the metrics, as in TensorBoard.
    name: for the legend.
    colour: CSS class.
    points: (step, value) as drawn; a value of None is one that was not finite.
    smooth: (step, running mean) as drawn.
    last: newest value that is finite.
    rows: how many rows have the key.
    missing: in how many of them the value is not finite.
    run: name of the other run that it is of; empty for that of the page.
  """

  key: str
  name: str
  colour: str
  points: Sequence[tuple[int, float | None]]
  smooth: Sequence[tuple[int, float]]
  last: float
  rows: int
  missing: int
  run: str = ""


@dataclasses.dataclass(frozen=True)
class Chart:
  """Curves over one axis.

  Attributes:
    id: in the page.
    group: under which heading it stands.
    log: whether the axis is logarithmic at first.
    positive: whether it can be.
    low, high: (value, step) of the least and greatest value in all rows of this run.
    constant: the only value that these ever have, or None.
  """

  id: str
  group: str
  title: str
  unit: str
  series: Sequence[Series]
  log: bool
  positive: bool
  low: tuple[float, int]
  high: tuple[float, int]
  constant: float | None

  def to_json(self) -> dict[str, Any]:
    """As the page holds it."""
    series = [
      {"key": s.key, "name": s.name, "run": s.run, "points": s.points, "smooth": s.smooth}
      for s in self.series
    ]
    return {"id": self.id, "title": self.title, "unit": self.unit, "series": series}


def of(run: Run, others: Sequence[Run] = ()) -> list[Chart]:
  """The charts of a run; where one has one curve, those of other runs stand beside it."""
  columns, beside = _columns(run.rows), [_columns(other.rows) for other in others]
  made: list[tuple[str, str, str, dict[str, tuple[str, str]]]] = []
  used: set[str] = set(_NO_CURVES)
  planned = [(group, *chart) for group, charts_ in _GROUPS.items() for chart in charts_]
  known = {key for _, key, *_ in planned}
  for group, key, title, unit in planned:
    keys = [key]
    if key.endswith(("/", "_")):
      keys = [one for one in columns if one.startswith(key) and one not in {*known, *_NO_CURVES}]
    named = {one: _look(key, one, number) for number, one in enumerate(sorted(keys, key=_natural))}
    used.update(named)
    made.append((group, title, unit, named))
  rest = sorted(columns.keys() - used, key=_natural)
  few = len(rest) <= _MAX_OTHERS
  group = "Other numbers" if few else f"Other numbers: {_MAX_OTHERS} of {len(rest)}"
  made += [(group, key, "", {key: (key, "c0")}) for key in rest[:_MAX_OTHERS]]
  found = [_made(columns, beside, others, f"chart{i}", *one) for i, one in enumerate(made)]
  return [chart for chart in found if chart is not None]


def _made(
  columns: Mapping[str, Sequence[Any]],
  beside: Sequence[Mapping[str, Sequence[Any]]],
  others: Sequence[Run],
  id: str,
  group: str,
  title: str,
  unit: str,
  named: Mapping[str, tuple[str, str]],
) -> Chart | None:
  """A chart of the columns in `named`, each with its name and colour; None if there are none."""
  there = [key for key in named if key in columns]
  if not there:
    return None
  budget = max(_LEAST_POINTS, MAX_POINTS // len(there))
  series = [_series(key, columns[key], *named[key], budget) for key in there]
  if len(there) == 1:
    for number, (other, run) in enumerate(zip(beside, others, strict=True)):
      if there[0] in other:
        colour = f"c{1 + number % (_COLOURS - 1)} other"
        one = _series(there[0], other[there[0]], run.name, colour, budget)
        series.append(dataclasses.replace(one, run=run.name))
  values = [(v, step) for key in there for step, v in columns[key] if v is not None]
  low, high = min(values), max(values)
  shown = [v for one in series for _, v in one.points if v is not None]
  return Chart(
    id=id,
    group=group,
    title=title,
    unit=unit,
    series=series,
    log=charts.wants_log(shown),
    positive=min(shown) > 0,
    low=low,
    high=high,
    constant=low[0] if low[0] == high[0] else None,
  )


def _look(key: str, one: str, number: int) -> tuple[str, str]:
  """Name and colour of a column in the chart of `key`."""
  if key == "loss_per_sigma_bin/":
    names = sigma_bins()
    bin_number = int(one.removeprefix(key))
    return (names[bin_number] if bin_number < len(names) else one), f"s{bin_number % len(names)}"
  if one == key:
    return key, "c0"
  return one.removeprefix(key).replace("_", " " if key == "skipped_" else "_"), _colour(number)


def sigma_bins() -> list[str]:
  """Names of the bins of noise levels."""
  edges = [f"{math.exp(edge):.2g}" for edge in LOG_SIGMA_EDGES]
  inner = [f"{a} to {b}" for a, b in itertools.pairwise(edges)]
  return [f"below {edges[0]}", *inner, f"above {edges[-1]}"]


def thinned(
  points: Sequence[tuple[int, float | None]], most: int
) -> list[tuple[int, float | None]]:
  """At most about `most` of the points: of each stretch the least and the greatest value.

  The first and the last point stay, and of each stretch one point that is not finite.
  """
  if len(points) <= most:
    return list(points)
  stretches = max(1, (most - 2) // 3)
  kept = {0, len(points) - 1}
  for number in range(stretches):
    span = range(number * len(points) // stretches, (number + 1) * len(points) // stretches)
    finite = [(value, i) for i in span if (value := points[i][1]) is not None]
    if finite:
      kept |= {min(finite)[1], max(finite)[1]}
    kept |= set([i for i in span if points[i][1] is None][:1])
  return [points[i] for i in sorted(kept)]


def drawn(chart: Chart, run: Run, log: bool) -> Markup:
  """A chart as SVG, over steps and samples, with the beginning of each attempt."""
  several = sum(not one.run for one in chart.series) > 1
  lines = []
  for one in reversed(chart.series):
    raw = f"raw {one.colour}{' many' if several else ''}"
    lines += [
      charts.Line(*_unzip(one.points), raw),
      charts.Line(*_unzip(one.smooth), f"line {one.colour}"),
    ]
  ends = ", ".join(f"{one.name} {charts.figure(one.last)}" for one in chart.series)
  marks = [(float(step), f"attempt {number}") for step, number in run.attempt_starts]
  return charts.plot(
    lines,
    label=f"{chart.title} by step; at the end: {ends}",
    log=log,
    x_rows=(("steps", float), ("samples", samples_at(run))),
    marks=marks,
  )


def samples_at(run: Run):
  """Function from a step to the samples trained on by then; between two rows, in proportion."""
  known = [(0, 0), *((r["step"], r["samples"]) for r in run.rows if r.get("samples") is not None)]

  def at(step: float) -> float:
    for (a, low), (b, high) in itertools.pairwise(known):
      if a <= step <= b:
        return round(low + (high - low) * (step - a) / max(b - a, 1))
    return known[-1][1]

  return at


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[int, float | None]]]:
  """(step, value) of each number by its flat name; null is None."""
  found: dict[str, list[tuple[int, float | None]]] = {}
  for row in rows:
    for key, value in _flat("", row):
      found.setdefault(key, []).append((row["step"], value))
  return {key: points for key, points in found.items() if any(v is not None for _, v in points)}


def _flat(name: str, value: Any):
  if isinstance(value, Mapping):
    for key, inner in value.items():
      yield from _flat(f"{name}/{key}" if name else key, inner)
  elif isinstance(value, list):
    for number, inner in enumerate(value):
      yield from _flat(f"{name}/{number}", inner)
  elif value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)):
    finite = value is not None and math.isfinite(value)
    yield name, value if finite else None


def _series(
  key: str, points: Sequence[tuple[int, float | None]], name: str, colour: str, budget: int
) -> Series:
  finite = [(step, value) for step, value in points if value is not None]
  means = charts.running_mean([value for _, value in finite])
  smooth = list(zip([step for step, _ in finite], means, strict=True))
  some = [value for value in thinned(smooth, min(_SMOOTH_POINTS, budget)) if value[1] is not None]
  return Series(
    key=key,
    name=name,
    colour=colour,
    points=thinned(points, budget),
    smooth=[(step, value) for step, value in some if value is not None],
    last=finite[-1][1],
    rows=len(points),
    missing=len(points) - len(finite),
  )


def _unzip(points: Sequence[tuple[int, Any]]) -> tuple[list[int], list[Any]]:
  return [step for step, _ in points], [value for _, value in points]


def _colour(number: int) -> str:
  return f"c{number % _COLOURS}{' dashed' if number >= _COLOURS else ''}"


def _natural(key: str) -> list[tuple[int, str]]:
  """Orders `up_blocks.10` after `up_blocks.9`."""
  return [
    (int(part), "") if part.isdigit() else (0, part) for part in key.replace(".", " ").split()
  ]
