"""Charts of pages as inline SVG and bars, drawn with the page's own colours (CSS classes).

Classes of a curve: `grid`, `tick` (text), `mark` (vertical lines), and of each line `raw` or `line`
with its own class beside it; of a bar: `bar`, `track`, `part0` and so on.
"""

from collections.abc import Callable, Iterable, Sequence
import dataclasses
import math

from markupsafe import Markup, escape

WIDTH, HEIGHT = 480, 190  # viewBox of a curve; the page scales it
LEFT, RIGHT, TOP = 52, 10, 10  # margins for labels
_LINE_HEIGHT = 13  # of a row of labels under a curve
_LOG_FROM_RATIO = 8.0  # a loss that falls by more than this needs a logarithmic axis
_DECADES = 1e15  # a logarithmic axis reaches no further down than this below its top
_LETTER_WIDTH = 6  # of a label


@dataclasses.dataclass(frozen=True)
class Line:
  """One line of a plot; a y of None is a gap.

  Attributes:
    style: CSS classes: "raw" for a faint one, "line" for a strong one, and a colour.
  """

  xs: Sequence[float]
  ys: Sequence[float | None]
  style: str


@dataclasses.dataclass(frozen=True)
class Axes:
  """Where the values of a plot lie: their range, upwards, and the rows of labels below.

  Attributes:
    first, last: x at the left and right end.
    low, high: y at the bottom and top, as on the scale (of logarithms where `log`).
    rows: of labels below the plot.
  """

  first: float
  last: float
  low: float
  high: float
  log: bool
  rows: int = 1

  @property
  def bottom(self) -> float:
    """Where the lowest value is drawn."""
    return HEIGHT - 9 - _LINE_HEIGHT * self.rows

  def x(self, value: float) -> float:
    """Across the picture."""
    across = (value - self.first) / max(self.last - self.first, 1e-9)
    return LEFT + across * (WIDTH - LEFT - RIGHT)

  def y(self, value: float) -> float:
    """Down the picture; what is below the range lies at the bottom."""
    at = math.log10(max(value, 1e-300)) if self.log else value
    up = max(0.0, (at - self.low) / (self.high - self.low))
    return self.bottom - up * (self.bottom - TOP)


@dataclasses.dataclass(frozen=True)
class Bar:
  """One row of a bar chart: `parts` are stacked; `low` and `high` bound their sum.

  Attributes:
    text: what stands behind the bar; empty: its length.
    notes: of the parts, for whoever points at them.
  """

  label: str
  parts: tuple[float, ...]
  low: float | None = None
  high: float | None = None
  highlight: bool = False
  text: str = ""
  notes: tuple[str, ...] = ()

  @property
  def total(self) -> float:
    """Length of the bar."""
    return sum(self.parts)


def figure(value: float) -> str:
  """A number with three significant digits, for reading."""
  if value == 0 or 999.5 <= abs(value) < 1e9:
    return f"{value:,.0f}"
  if not 1e-4 <= abs(value) < 1e9:
    return f"{value:.2e}".replace("e-0", "e-").replace("e+0", "e")
  return f"{value:#.3g}".rstrip(".")


def wants_log(values: Iterable[float]) -> bool:
  """Whether positive values lie so far apart that a linear axis would flatten most of them."""
  values = list(values)
  return bool(values) and min(values) > 0 and max(values) / min(values) > _LOG_FROM_RATIO


def running_mean(ys: Sequence[float]) -> list[float]:
  """Mean over the last tenth of all points, at least 3: smooth, and never looks ahead."""
  window, means, total = max(3, len(ys) // 10), [], 0.0
  for number, y in enumerate(ys):
    total += y
    if number >= window:
      total -= ys[number - window]
    if number % window == 0:  # what adding and taking away rounds must not pile up
      total = math.fsum(ys[max(0, number - window + 1) : number + 1])
    means.append(total / min(number + 1, window))
  return means


def plot(
  lines: Sequence[Line],
  *,
  label: str,
  log: bool,
  x_rows: Sequence[tuple[str, Callable[[float], float]]] = (("", float),),
  marks: Sequence[tuple[float, str]] = (),
  note: str = "",
) -> Markup:
  """Lines over a common axis. At least one has a value, and on a logarithmic axis a positive one.

  Args:
    lines: the last one is drawn on top, and its end has a dot.
    label: of the picture, for those who do not see it.
    log: whether the axis is logarithmic; values that are not positive are gaps then.
    x_rows: of labels below: their unit, and what x is in it.
    marks: x and label of vertical lines.
    note: stands behind the unit.
  """
  axes = _axes(lines, log, len(x_rows))
  grid = "".join(
    f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{axes.y(tick):.1f}"'
    f' y2="{axes.y(tick):.1f}"/>'
    f'<text class="tick" x="{LEFT - 6}" y="{axes.y(tick) + 3.5:.1f}" text-anchor="end">'
    f"{_tick(tick)}</text>"
    for tick in _ticks(axes)
  )
  below = "".join(_x_labels(axes, number, *row, note) for number, row in enumerate(x_rows))
  shown = [mark for mark in marks if axes.first <= mark[0] <= axes.last]
  vertical, free = "", float(LEFT)  # where the next label has room
  for x, text in shown:
    at = axes.x(x)
    vertical += (
      f'<line class="mark" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{axes.bottom:.1f}">'
      f"<title>{escape(text)}</title></line>"
    )
    width = _LETTER_WIDTH * len(text)
    if free <= at <= WIDTH - RIGHT - width:
      vertical += f'<text class="tick" x="{at + 3:.1f}" y="{TOP + 8}">{escape(text)}</text>'
      free = at + width + 6
  paths, dot = "", ""
  for line in lines:
    points = [
      None if y is None or (log and y <= 0) else (axes.x(x), axes.y(y))
      for x, y in zip(line.xs, line.ys, strict=True)
    ]
    paths += f'<path class="{line.style}" d="{_path(points)}"/>'
    if (seen := [point for point in points if point]) and "line" in line.style:
      dot = f'<circle class="dot" cx="{seen[-1][0]:.1f}" cy="{seen[-1][1]:.1f}" r="3.5"/>'
  return Markup(
    f'<svg class="curve" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}"'
    f' data-axes="{axes.first:.17g} {axes.last:.17g}" data-left="{LEFT}" data-right="{RIGHT}">'
    f"{grid}{below}{vertical}{paths}{dot}</svg>"
  )


def curve(xs: Sequence[float], ys: Sequence[float], x_label: str) -> Markup:
  """A noisy curve: its points faint, a running mean over them strong. Needs at least 2 points."""
  assert len(xs) == len(ys) >= 2, (len(xs), len(ys))
  log = wants_log(ys)
  return plot(
    [Line(xs, ys, "raw"), Line(xs, running_mean(ys), "line")],
    label=f"from {figure(ys[0])} to {figure(ys[-1])}",
    log=log,
    x_rows=((x_label, float),),
    note=", log scale" if log else "",
  )


def bars(rows: Sequence[Bar]) -> Markup:
  """Horizontal stacked bars with intervals as whiskers, on one linear scale.

  A bar that is more than three times as long as the longest of the others is cut and marked, so
  that one very bad value does not flatten the rest.
  """
  lengths = sorted(max(row.total, row.high or 0.0) for row in rows)
  limit = lengths[-1]
  if len(lengths) > 1 and limit > 3 * lengths[-2]:
    limit = 1.5 * lengths[-2]
  limit = max(limit, 1e-9)
  return Markup("").join(_bar(row, limit) for row in rows)


def _bar(row: Bar, limit: float) -> Markup:
  cut = row.total > limit * (1 + 1e-9)
  parts, start = Markup(""), 0.0
  for i, part in enumerate(row.parts):
    end = min(start + part, limit)
    note = Markup(' title="{}"').format(row.notes[i]) if row.notes else ""
    if part or not row.notes:
      parts += Markup('<i class="part{}"{} style="width:{:.2f}%"></i>').format(
        i, note, 100 * (end - start) / limit
      )
    start = end
  whisker = Markup("")
  if row.low is not None and row.high is not None and not cut:
    low, high = 100 * row.low / limit, 100 * min(row.high, limit) / limit
    whisker = Markup('<b style="left:{:.2f}%;width:{:.2f}%"></b>').format(low, high - low)
  return Markup(
    '<div class="bar{}"><span class="name">{}</span>'
    '<span class="track{}">{}{}</span><span class="value">{}</span></div>'
  ).format(
    " own" if row.highlight else "",
    row.label,
    " cut" if cut else "",
    parts,
    whisker,
    row.text or figure(row.total),
  )


def _axes(lines: Sequence[Line], log: bool, rows: int) -> Axes:
  xs = [x for line in lines for x in line.xs]
  ys = [y for line in lines for y in line.ys if y is not None and (y > 0 or not log)]
  assert ys, "nothing to draw"
  low, high = min(ys), max(ys)
  if log:
    low, high = math.log10(max(low, high / _DECADES)), math.log10(high)
  if high - low < 1e-9 * max(abs(low), abs(high)) or high == low:
    margin = 0.3 if log else max(abs(low), 1.0) / 2
    low, high = low - margin, high + margin
  return Axes(min(xs), max(xs), low, high, log, rows)


def _ticks(axes: Axes) -> list[float]:
  """Three to six round values that lie on the axis."""
  if axes.log and axes.high - axes.low >= 1.2:
    every = max(1, math.ceil((axes.high - axes.low) / 5))
    powers = range(math.ceil(axes.low - 1e-9), math.floor(axes.high + 1e-9) + 1)
    ticks = [10.0**power for power in powers if power % every == 0]
    if len(ticks) >= 2:
      return ticks
  low, high = (10**axes.low, 10**axes.high) if axes.log else (axes.low, axes.high)
  size = (high - low) / 4
  unit = 10.0 ** math.floor(math.log10(size))
  step = next(unit * n for n in (1, 2, 2.5, 5, 10) if unit * n >= size * 0.999)
  return [n * step for n in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _tick(value: float) -> str:
  """A round value, as short as it can be."""
  if value and not 1e-4 <= abs(value) < 1e6:
    return f"{value:.3g}".replace("e-0", "e-").replace("e+0", "e")
  return f"{round(value, 10):,g}" if abs(value) < 1e4 else f"{value:,.0f}"


def _x_labels(
  axes: Axes, number: int, unit: str, scale: Callable[[float], float], note: str
) -> str:
  y = HEIGHT - 5 - _LINE_HEIGHT * (axes.rows - 1 - number)
  ends = [f"{scale(x):,.0f}" if abs(x) >= 1e4 else f"{scale(x):g}" for x in (axes.first, axes.last)]
  behind = f" {escape(unit)}" if unit else ""
  return (
    f'<text class="tick" x="{LEFT}" y="{y}">{ends[0]}</text>'
    f'<text class="tick" x="{WIDTH - RIGHT}" y="{y}" text-anchor="end">'
    f"{ends[1]}{behind}{'' if number else escape(note)}</text>"
  )


def _path(points: Sequence[tuple[float, float] | None]) -> str:
  """Joined where neighbours are there; a point between two gaps is a dot."""
  parts, before = [], None
  for number, point in enumerate(points):
    if point is not None:
      alone = before is None and (number + 1 == len(points) or points[number + 1] is None)
      x, y = point
      parts.append(f"{'M' if before is None else 'L'}{x:.1f},{y:.1f}{'h.1' if alone else ''}")
    before = point
  return "".join(parts)
