"""Small charts as inline SVG, drawn with the page's own colours (CSS classes, `currentColor`)."""

from collections.abc import Sequence
import dataclasses
import math

from markupsafe import Markup, escape

_WIDTH, _HEIGHT = 480, 170  # viewBox; the page scales it
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 10, 10, 22  # margins for labels
_LOG_FROM_RATIO = 8.0  # a loss that falls by more than this needs a logarithmic axis


@dataclasses.dataclass(frozen=True)
class Bar:
  """One row of a bar chart: `parts` are stacked; `low` and `high` bound their sum."""

  label: str
  parts: tuple[float, ...]
  low: float | None
  high: float | None
  highlight: bool = False

  @property
  def total(self) -> float:
    """Length of the bar."""
    return sum(self.parts)


def figure(value: float) -> str:
  """A number with three significant digits, for reading."""
  if value == 0 or abs(value) >= 999.5:
    return f"{value:,.0f}"
  return f"{value:#.3g}".rstrip(".")


def curve(xs: Sequence[float], ys: Sequence[float], x_label: str) -> Markup:
  """A noisy curve: its points faint, a running mean over them strong. Needs at least 2 points."""
  assert len(xs) == len(ys) >= 2, (len(xs), len(ys))
  log = min(ys) > 0 and max(ys) / min(ys) > _LOG_FROM_RATIO
  scale = math.log10 if log else float
  low, high = scale(min(ys)), scale(max(ys))
  if high - low < 1e-9:
    low, high = low - 0.5, high + 0.5

  def place(x: float, y: float) -> tuple[float, float]:
    across = (x - xs[0]) / max(xs[-1] - xs[0], 1e-9)
    up = (scale(y) - low) / (high - low)
    return (
      _LEFT + across * (_WIDTH - _LEFT - _RIGHT),
      _HEIGHT - _BOTTOM - up * (_HEIGHT - _TOP - _BOTTOM),
    )

  ticks = [low, (low + high) / 2, high]
  labels = [10**tick if log else tick for tick in ticks]
  grid = "".join(
    f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
    f'<text class="tick" x="{_LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{figure(label)}</text>'
    for label, y in ((label, place(xs[0], label)[1]) for label in labels)
  )
  raw = _path([place(x, y) for x, y in zip(xs, ys, strict=True)])
  smooth = _path([place(x, y) for x, y in zip(xs, _running_mean(ys), strict=True)])
  end_x, end_y = place(xs[-1], _running_mean(ys)[-1])
  return Markup(
    f'<svg class="curve" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img"'
    f' aria-label="from {figure(ys[0])} to {figure(ys[-1])}">{grid}'
    f'<text class="tick" x="{_LEFT}" y="{_HEIGHT - 5}">{xs[0]:g}</text>'
    f'<text class="tick" x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 5}" text-anchor="end">'
    f"{xs[-1]:g} {escape(x_label)}{', log scale' if log else ''}</text>"
    f'<path class="raw" d="{raw}"/><path class="line" d="{smooth}"/>'
    f'<circle class="dot" cx="{end_x:.1f}" cy="{end_y:.1f}" r="3.5"/></svg>'
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
  cut = row.total > limit
  parts, start = Markup(""), 0.0
  for i, part in enumerate(row.parts):
    end = min(start + part, limit)
    parts += Markup('<i class="part{}" style="width:{:.2f}%"></i>').format(
      i, 100 * (end - start) / limit
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
    figure(row.total),
  )


def _path(points: Sequence[tuple[float, float]]) -> str:
  return "M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _running_mean(ys: Sequence[float]) -> list[float]:
  """Mean over the last tenth of all points, at least 3: smooth, and never looks ahead."""
  window = max(3, len(ys) // 10)
  parts = (ys[max(0, end - window) : end] for end in range(1, len(ys) + 1))
  return [sum(part) / len(part) for part in parts]
