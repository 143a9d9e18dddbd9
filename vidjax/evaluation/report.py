"""The page of a result: samples, values with intervals, classes, curves over checkpoints.

One HTML file with everything inside. Published numbers stand beside ours only where the protocol is
the same (`vidjax.evaluation.published`).
"""

from collections.abc import Mapping, Sequence
import dataclasses
import math
import re
from typing import Any

from etils import epath
import jinja2
import numpy as np
import PIL.Image

from vidjax import render as renderer
from vidjax import storage
from vidjax.evaluation import named, published, table
from vidjax.evaluation.protocol import Protocol

_CURVE = (320, 120)  # width and height in pixels
_HEIGHT, _QUALITY = 112, 70  # of a moving sample
_STEP = re.compile(r"step_(\d+)")


@dataclasses.dataclass(frozen=True)
class Shown:
  """A clip on the page.

  Attributes:
    title: prompt or id.
    uri: moving picture as a data URI.
  """

  title: str
  uri: str


def shown(title: str, video_THWC: np.ndarray, fps: float) -> Shown:
  """A clip, uint8, as a small moving picture."""
  height = min(_HEIGHT, video_THWC.shape[1])
  width = max(1, round(video_THWC.shape[2] * height / video_THWC.shape[1]))
  resized_THWC = np.stack(
    [
      np.asarray(PIL.Image.fromarray(frame).resize((width, height), PIL.Image.Resampling.BILINEAR))
      for frame in video_THWC
    ]
  )
  return Shown(title, renderer.moving_picture(resized_THWC, fps, _QUALITY))


def render(
  protocol: Protocol,
  content: Mapping[str, Any],
  fake: Sequence[Shown],
  real: Sequence[Shown],
  history: Sequence[tuple[int, Mapping[str, Any]]] = (),
) -> str:
  """The page.

  Args:
    protocol: of the result.
    content: of result.json.
    fake: some generated clips.
    real: some real ones.
    history: (step, metrics) of results of the same protocol, by step; see `history`.
  """
  template = epath.resource_path("vidjax.evaluation") / "report.html.j2"
  environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
  environment.filters["number"] = _number
  note = named.NOTES.get(protocol.name)
  comparable = not content["missing"]["real"] and not content["random_weights"]
  return environment.from_string(template.read_text()).render(
    content=content,
    note=note if named.PROTOCOLS.get(protocol.name) == protocol else None,
    published=published.beside(protocol) if comparable else [],
    fake=fake,
    real=real,
    curves=_curves(history),
    fields=_fields(content["protocol_fields"]),
  )


def history(out: storage.PathLike, protocol_hash: str) -> list[tuple[int, Mapping[str, Any]]]:
  """Results of other steps of the same run and protocol, beside `out` = `.../step_N`, by step."""
  out = storage.Path(out)
  if not _STEP.fullmatch(out.name):
    return []
  found = []
  for folder in out.parent.iterdir():
    match = _STEP.fullmatch(folder.name)
    if match and (folder / table.RESULT).exists():
      stored = table.read(folder).content
      if stored["protocol_hash"] == protocol_hash:
        found.append((int(match[1]), stored["metrics"]))
  return sorted(found, key=lambda pair: pair[0])


def _number(value: float | None) -> str:
  return "–" if value is None else f"{value:.5g}"


def _fields(protocol: Mapping[str, Any], path: str = "") -> list[tuple[str, str]]:
  """The fields of a protocol as rows of a table."""
  rows = []
  for key, value in protocol.items():
    name = f"{path}.{key}" if path else key
    if isinstance(value, Mapping):
      rows += _fields(value, name)
    elif isinstance(value, list | tuple):
      rows += [
        row
        for i, child in enumerate(value)
        for row in (
          _fields(child, f"{name}[{i}]")
          if isinstance(child, Mapping)
          else [(f"{name}[{i}]", str(child))]
        )
      ]
    else:
      rows.append((name, "–" if value is None else str(value)))
  return rows


def _curves(history: Sequence[tuple[int, Mapping[str, Any]]]) -> list[dict[str, Any]]:
  """A chart for each metric over steps, with the band of its intervals."""
  if len(history) < 2:
    return []
  names = list(dict.fromkeys(name for _, metrics in history for name in metrics))
  curves = []
  for name in names:
    points = [
      (step, metrics[name])
      for step, metrics in history
      if name in metrics and metrics[name]["value"] is not None
    ]
    if len(points) > 1:
      curves.append(_curve(name, points))
  return curves


def _curve(name: str, points: Sequence[tuple[int, Mapping[str, Any]]]) -> dict[str, Any]:
  steps = [step for step, _ in points]
  lows = [m["value"] if m["low"] is None else m["low"] for _, m in points]
  highs = [m["value"] if m["high"] is None else m["high"] for _, m in points]
  bottom, top = min(lows), max(highs)
  span = (top - bottom) or max(abs(top), 1.0)
  width, height = _CURVE

  def place(step: int, value: float) -> str:
    x = width * (step - steps[0]) / (steps[-1] - steps[0])
    return f"{x:.1f},{height * (1 - (value - bottom) / span):.1f}"

  upper = [place(step, high) for step, high in zip(steps, highs, strict=True)]
  lower = [place(step, low) for step, low in zip(steps, lows, strict=True)]
  assert all(math.isfinite(value) for value in (*lows, *highs))
  return {
    "name": name,
    "unit": points[0][1]["unit"],
    "line": " ".join(place(step, m["value"]) for step, m in points),
    "band": " ".join([*upper, *reversed(lower)]),
    "first": steps[0],
    "last": steps[-1],
    "bottom": _number(bottom),
    "top": _number(top),
    "width": width,
    "height": height,
  }
