"""Small line charts as SVG files: lines with the interval of their mean as a band."""

from collections.abc import Mapping, Sequence
import math

from markupsafe import escape

from vidjax.charts import figure

_WIDTH, _HEIGHT = 480, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 34, 34
_COLORS = ("#2c62dc", "#e07b00", "#2fa852", "#8a42be", "#777777")


def lines(
  xs: Sequence[float],
  ys: Mapping[str, Sequence[Sequence[float]]],
  *,
  title: str,
  x_label: str,
  evenly: bool = False,
) -> str:
  """A chart.

  Args:
    xs: positions, ascending.
    ys: name of a line -> a row for each seed, one value for each position. Seeds are drawn thin,
      their mean strong.
    title: what is shown.
    x_label: what `xs` are.
    evenly: positions are at equal distances, whatever they are.

  Returns:
    The SVG file.
  """
  values = [y for rows in ys.values() for row in rows for y in row]
  low, high = min(values), max(values)
  if high - low < 1e-9:
    low, high = low - 0.5, high + 0.5
  places = list(range(len(xs))) if evenly else list(xs)
  span = max(places[-1] - places[0], 1e-9)

  def path(row: Sequence[float]) -> str:
    points = []
    for place, y in zip(places, row, strict=True):
      across = _LEFT + (place - places[0]) / span * (_WIDTH - _LEFT - _RIGHT)
      up = _HEIGHT - _BOTTOM - (y - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)
      points.append(f"{across:.1f},{up:.1f}")
    return "M" + "L".join(points)

  parts = [
    f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}"'
    ' font-family="sans-serif" font-size="11" fill="#444">',
    f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
    f'<text x="{_LEFT}" y="14" font-weight="bold">{escape(title)}</text>',
  ]
  for share in (0.0, 0.5, 1.0):
    y = _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)
    label = figure(low + share * (high - low))
    parts.append(
      f'<path d="M{_LEFT},{y:.1f}H{_WIDTH - _RIGHT}" stroke="#ddd"/>'
      f'<text x="{_LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{label}</text>'
    )
  for place, x in zip(places, xs, strict=True):
    across = _LEFT + (place - places[0]) / span * (_WIDTH - _LEFT - _RIGHT)
    parts.append(
      f'<text x="{across:.1f}" y="{_HEIGHT - _BOTTOM + 14}" text-anchor="middle">{x:g}</text>'
    )
  middle = (_LEFT + _WIDTH - _RIGHT) / 2
  parts.append(
    f'<text x="{middle}" y="{_HEIGHT - 5}" text-anchor="middle">{escape(x_label)}</text>'
  )
  for number, (name, rows) in enumerate(ys.items()):
    color = _COLORS[number % len(_COLORS)]
    parts += [f'<path d="{path(r)}" fill="none" stroke="{color}" opacity=".3"/>' for r in rows]
    mean = [math.fsum(column) / len(column) for column in zip(*rows, strict=True)]
    parts.append(f'<path d="{path(mean)}" fill="none" stroke="{color}" stroke-width="2.5"/>')
    parts.append(f'<text x="{_LEFT + 110 * number}" y="28" fill="{color}">{escape(name)}</text>')
  return "\n".join([*parts, "</svg>", ""])
