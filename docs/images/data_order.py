"""Draws data_order.svg from the code that it explains: `python docs/images/data_order.py`."""

import pathlib

from vidjax.data import mixture, order
from vidjax.data.schedule import Schedule

_SAMPLES, _SIDE, _GAP, _LEFT = 24, 26, 4, 196
_COLOURS = ("#4878a8", "#e0913c", "#5fa55a")
_INK, _PAPER = "#222222", "#ffffff"


def draw() -> str:
  """The picture, as SVG."""
  turns = mixture.turns((2, 1))
  rows: list[str] = []
  top = 34

  def text(x: float, y: float, words: str, *, bold: bool = False, fill: str = _INK) -> None:
    weight = ' font-weight="bold"' if bold else ""
    rows.append(f'<text x="{x:g}" y="{y:g}" fill="{fill}"{weight}>{words}</text>')

  def box(column: float, y: float, colour: str, label: str) -> None:
    x = _LEFT + column * (_SIDE + _GAP)
    rows.append(
      f'<rect x="{x:g}" y="{y:g}" width="{_SIDE}" height="{_SIDE}" rx="4" fill="{colour}"/>'
    )
    text(x + _SIDE / 2 - 3.5 * len(label), y + 17, label, fill="#ffffff")

  def frame(first: int, last: int, y: float, label: str) -> None:
    x, width = _LEFT + first * (_SIDE + _GAP) - 3, (last - first) * (_SIDE + _GAP) + 2
    rows.append(
      f'<rect x="{x:g}" y="{y - 3:g}" width="{width:g}" height="{_SIDE + 6}" rx="6" fill="none"'
      f' stroke="{_INK}"/>'
    )
    text(x + 4, y + _SIDE + 17, label)

  def sample(number: int) -> tuple[str, str]:
    part, own = turns(number)
    clips = (5, 3)[part]
    clip = order.clip_at(own, clips, order.stream_seed(1, part))
    return _COLOURS[part], f"{'ab'[part]}{clip}"

  text(8, 20, "Samples 0 to 23: set a (5 clips, weight 2), set b (3 clips, weight 1)", bold=True)
  layouts = (
    ("batch 8, one host", 8, 1, 0),
    ("batch 8, two hosts", 8, 2, 0),
    ("resumed at sample 8,", 4, 1, 8),
  )
  for name, batch, hosts, start in layouts:
    text(8, top + 17, name)
    if start:
      text(8, top + 33, f"batch {batch}")
    for number in range(start, _SAMPLES):
      box(number, top, *sample(number))
    share = batch // hosts
    for first in range(start, _SAMPLES, share):
      step, host = (first - start) // batch, (first - start) % batch // share
      where = f"step {start // 8 + step}" + (f", host {host}" if hosts > 1 else "")
      frame(first, first + share, top, where)
    top += 72
  top += 16
  text(
    8, top, "Steps of one run: which batches show pictures (p), and what they go on with", bold=True
  )
  top += 14
  for name, schedule in (
    ("images.every_steps = 4", Schedule(_group(), _group(), every_steps=4)),
    ("images.rows = 1 of 4", Schedule(_group(), _group(), image_rows=1)),
  ):
    text(8, top + 17, name)
    for step in range(6):
      column = 0.0
      for part in schedule.parts(step * 4, 4):
        for row in range(part.rows):
          letter = "p" if part.images else "v"
          colour = _COLOURS[2] if part.images else _COLOURS[0]
          box(step * 4 + column, top, colour, f"{letter}{part.first + row}")
          column += 1
      frame(step * 4, step * 4 + 4, top, f"step {step}")
    top += 72
  width = _LEFT + _SAMPLES * (_SIDE + _GAP) + 12
  head = (
    f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{top}"'
    ' font-family="Helvetica, Arial, sans-serif" font-size="12">'
  )
  return "\n".join(
    [head, f'<rect width="100%" height="100%" fill="{_PAPER}"/>', *rows, "</svg>", ""]
  )


def _group():
  from vidjax.data.schedule import Group

  return Group((), mixture.turns((1,)))


if __name__ == "__main__":
  pathlib.Path(__file__).with_suffix(".svg").write_text(draw())
