"""How a film looks at any size, and the flow between two of its frames.

Shapes are distances to their outlines and backgrounds are products of functions of x and of y, so
that both are drawn, with edges smoothed over a pixel, at the very size that is asked for. Pixels
come from plain arithmetic and no library draws, so that they are the same after its upgrades.

Legend: T frames, P pairs of frames, H W pixels, C colours (RGB); u v coordinates of a shape of
radius 1.
"""

import math
from typing import Any

import numpy as np

from vidjax.data.procedural.scenes import (
  BACKGROUND_COLORS,
  COLORS,
  Background,
  Film,
  Placement,
  Scene,
)

_RIM = 0.13  # width of the line around a shape, in its radius
# Of clouds: cells to a cell of the coarsest, contrast. A sum of random numbers keeps to the middle,
# so that the contrasts make more than 1 together.
_OCTAVES = ((1.0, 1.1), (3.3, 0.6), (10.7, 0.6))
_INRADIUS = {3: 0.5, 5: math.cos(math.radians(72))}  # of the lines of a triangle, of a pentagram


def draw(film: Film, frames: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  """Draws frames by number.

  Args:
    film: the clip.
    frames: (T,) numbers of frames.
    size: (height, width) of the whole frame, in pixels.

  Returns:
    (T, H, W, C) uint8.
  """
  result_THWC = np.empty((len(frames), *size, 3), np.uint8)
  x_W, y_H = (axis.astype(np.float32) for axis in _axes(size))
  numbers = film.scene_of(frames)
  for number in sorted(set(numbers.tolist())):
    scene = film.scenes[number]
    rows = np.flatnonzero(numbers == number)
    t_T = film.times_s[frames[rows]] - scene.start_s
    world = scene.camera.place(t_T)
    table = _color_table(scene.background)
    for row, place in zip(rows, _each(world), strict=True):
      field_HW = _field(scene.background, place, x_W, y_H)
      np.take(table, field_HW, axis=0, out=result_THWC[row], mode="clip")
    for shape in scene.shapes:
      fill, rim = _shape_colors(shape.color)
      for row, place in zip(rows, _each(shape.place(t_T, world)), strict=True):
        _paint(result_THWC[row], shape.kind, place, fill, rim, x_W, y_H)
  return result_THWC


def flow(
  film: Film, first: np.ndarray, second: np.ndarray, size: tuple[int, int], visible: bool = True
) -> tuple[np.ndarray, np.ndarray]:
  """Where the pixels of frames go.

  Args:
    film: the clip.
    first: (P,) numbers of frames.
    second: (P,) numbers of the frames that they go to.
    size: (height, width) of the whole frame, in pixels.
    visible: also find out whether they are seen there, which takes longer.

  Returns:
    (P, H, W, 2) float32, x and y in pixels from the centre of each pixel in the first frame, NaN
    across a cut; (P, H, W) bool, whether what is in that centre is seen in the second frame, too:
    inside the frame, behind nothing else, without a cut between.
  """
  height, width = size
  flow_PHW2 = np.full((len(first), height, width, 2), np.nan, np.float32)
  valid_PHW = np.zeros((len(first), height, width), bool)
  x_W, y_H = _axes(size)
  x, y = x_W[None, None, :], y_H[None, :, None]
  per_x, per_y = 1 / (x_W[1] - x_W[0]), 1 / (y_H[1] - y_H[0])
  numbers = film.scene_of(first)
  same = numbers == film.scene_of(second)
  for number in sorted(set(numbers[same].tolist())):
    scene = film.scenes[number]
    rows = np.flatnonzero(same & (numbers == number))
    before, after = (_places(film, scene, frames[rows]) for frames in (first, second))
    owner_PHW = _owner(scene, before, x, y)
    to_x, to_y = after[0].to_screen(*before[0].to_local(x, y))
    for i in range(1, len(before)):
      shape_x, shape_y = after[i].to_screen(*before[i].to_local(x, y))
      mine = owner_PHW == i
      to_x, to_y = np.where(mine, shape_x, to_x), np.where(mine, shape_y, to_y)
    flow_PHW2[rows, ..., 0] = (to_x - x) * per_x
    flow_PHW2[rows, ..., 1] = (to_y - y) * per_y
    if visible:
      inside = (abs(to_x) <= x_W[-1]) & (abs(to_y) <= y_H[-1])
      valid_PHW[rows] = inside & (_owner(scene, after, to_x, to_y) == owner_PHW)
  return flow_PHW2, valid_PHW


def _axes(size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
  """Screen coordinates of the centres of pixels, x (W,) and y (H,)."""
  height, width = size
  short = min(size)
  x_W = (np.arange(width) + 0.5 - width / 2) / short
  y_H = (np.arange(height) + 0.5 - height / 2) / short
  return x_W, y_H


def _each(places: Placement) -> list[Placement]:
  """One placement for each moment, of Python numbers, which leave float32 as it is."""
  return [Placement(*values) for values in zip(*(v.tolist() for v in places), strict=True)]


def _places(film: Film, scene: Scene, frames: np.ndarray) -> list[Placement]:
  """Of the world and then of each shape, as arrays (P, 1, 1)."""
  t = (film.times_s[frames] - scene.start_s)[:, None, None]
  world = scene.camera.place(t)
  return [world, *(shape.place(t, world) for shape in scene.shapes)]


def _owner(scene: Scene, places: list[Placement], x: Any, y: Any) -> np.ndarray:
  """What is seen at points of the screen: 0 the background, else 1 + the number of the shape."""
  owner = np.zeros(np.broadcast(x, y, places[0].x).shape, np.int8)
  for i, shape in enumerate(scene.shapes, 1):
    owner[_distance(shape.kind, *places[i].to_local(x, y)) < 0] = i
  return owner


def _distance(kind: str, u: Any, v: Any) -> Any:
  """Distance to the outline of a shape of radius 1, negative inside; exact near straight edges."""
  match kind:
    case "circle":
      return np.sqrt(u * u + v * v) - 1
    case "ring":
      return abs(np.sqrt(u * u + v * v) - 0.74) - 0.26
    case "square":
      return np.maximum(abs(u), abs(v)) - 0.8
    case "cross":
      long, across = np.maximum(abs(u), abs(v)), np.minimum(abs(u), abs(v))
      return np.maximum(long - 0.95, across - 0.32)
    case "crescent":
      shifted = u - 0.5
      return np.maximum(np.sqrt(u * u + v * v) - 1, 0.8 - np.sqrt(shifted * shifted + v * v))
    case "triangle":
      first, second, third = _lines(3, u, v)
      return np.maximum(np.maximum(first, second), third) - _INRADIUS[3]
    case _:
      # A pentagram is what is beyond at most one of its five lines.
      beyond = _lines(5, u, v)
      most = np.maximum(beyond[0], beyond[1])
      second = np.minimum(beyond[0], beyond[1])
      for line in beyond[2:]:
        second = np.maximum(second, np.minimum(most, line))
        most = np.maximum(most, line)
      return second - _INRADIUS[5]


def _lines(count: int, u: Any, v: Any) -> list[Any]:
  """How far points are along the normals of the sides, of which the first points down."""
  angles = [math.pi / 2 + 2 * math.pi * i / count for i in range(count)]
  return [math.cos(angle) * u + math.sin(angle) * v for angle in angles]


def _paint(
  frame_HWC: np.ndarray,
  kind: str,
  place: Placement,
  fill: np.ndarray,
  rim: np.ndarray,
  x_W: np.ndarray,
  y_H: np.ndarray,
) -> None:
  """Lays one shape over a frame."""
  height, width = frame_HWC.shape[:2]
  short = min(height, width)
  radius = math.hypot(place.c, place.s) * short  # in pixels
  center_x, center_y = place.x * short + width / 2, place.y * short + height / 2
  left, right = max(0, int(center_x - radius - 1)), min(width, int(center_x + radius + 2))
  top, bottom = max(0, int(center_y - radius - 1)), min(height, int(center_y + radius + 2))
  if left >= right or top >= bottom:
    return
  u, v = place.to_local(x_W[None, left:right], y_H[top:bottom, None])
  inside_HW = _distance(kind, u, v)
  inside_HW *= -radius
  inside_HW += 0.5
  # The rim is a pixel wide at least, lest it flickers.
  core_HW = np.clip(inside_HW - max(1.0, _RIM * radius), 0, 1)[..., None]
  alpha_HW = np.clip(inside_HW, 0, 1, out=inside_HW)[..., None]
  part_HWC = frame_HWC[top:bottom, left:right]
  color_HWC = rim + core_HW * (fill - rim)
  color_HWC -= part_HWC
  color_HWC *= alpha_HW
  color_HWC += part_HWC
  color_HWC += np.float32(0.5)
  part_HWC[...] = color_HWC


def _shape_colors(name: str) -> tuple[np.ndarray, np.ndarray]:
  """Colours of a shape and of its rim, float32 (3,): darker, or of a dark shape lighter."""
  fill = np.array(COLORS[name], np.float32)
  dark = fill.mean() < 60
  return fill, fill * np.float32(0.55) + np.float32(100 if dark else 0)


def _color_table(background: Background) -> np.ndarray:
  """(256, 3) uint8: colours of the values of a background's field, dark to light."""
  base = np.array(BACKGROUND_COLORS[background.color], np.float64)
  shade = np.linspace(0.72, 1.28, 256)[:, None]
  return np.clip(np.round(base[None] * shade), 0, 255).astype(np.uint8)


def _field(
  background: Background, world: Placement, x_W: np.ndarray, y_H: np.ndarray
) -> np.ndarray:
  """Values of the background in the pixels, (H, W) uint8."""
  # Without rotation the two axes keep to themselves.
  u_W = (x_W - world.x) / world.c + background.offset[0]
  v_H = (y_H - world.y) / world.c + background.offset[1]
  pixel = float(x_W[1] - x_W[0]) / world.c if len(x_W) > 1 else 1.0
  match background.kind:
    case "plain":
      return np.full((len(y_H), len(x_W)), 128, np.uint8)
    case "gradient":
      along_x, along_y = (math.pi / background.cell * d for d in background.direction)
      across_W, down_H = along_x * u_W, along_y * v_H
      wave_HW = np.cos(down_H)[:, None] * np.cos(across_W)  # cos(a + b)
      wave_HW -= np.sin(down_H)[:, None] * np.sin(across_W)
      field = 0.5 + 0.5 * np.clip(wave_HW, -1, 1)
    case "stripes":
      vertical = bool(background.direction[0])
      wave = _square_wave(u_W if vertical else v_H, background.cell, pixel)
      field = np.broadcast_to(wave[None] if vertical else wave[:, None], (len(y_H), len(x_W)))
    case "checkerboard":
      wave_W = _square_wave(u_W, background.cell, pixel)[None]
      wave_H = _square_wave(v_H, background.cell, pixel)[:, None]
      field = wave_W + wave_H - 2 * wave_W * wave_H
    case _:
      field = _clouds(
        background.lattice, u_W / background.cell, v_H / background.cell, pixel / background.cell
      )
  return (255 * field + 0.5).astype(np.uint8)


def _square_wave(x: np.ndarray, cell: float, pixel: float) -> np.ndarray:
  """Mean over each pixel of the wave that is 1 in every other cell: smooth edges at any size."""

  def integral(u: np.ndarray) -> np.ndarray:
    whole = np.floor(u / 2)
    return whole + np.minimum(u - 2 * whole, 1)

  # float64: the difference of two sums that grow.
  u, half = x.astype(np.float64) / cell, pixel / cell / 2
  mean = (integral(u + half) - integral(u - half)) / (2 * half)
  return mean.astype(np.float32)


def _clouds(lattice: np.ndarray, u_W: np.ndarray, v_H: np.ndarray, pixel: float) -> np.ndarray:
  """Value noise of three octaves, in cells of the coarsest; (H, W) in [0, 1]."""
  field = np.float32(0.5)
  for factor, weight in _OCTAVES:
    # Cells of less than a pixel or so average out.
    visible = min(1.0, max(0.0, (1 / (factor * pixel) - 1) / 2))
    if visible:
      noise_HW = _value_noise(lattice, factor * u_W, factor * v_H)
      field = field + (weight * visible) * (noise_HW - 0.5)
  return np.broadcast_to(np.clip(field, 0, 1), (len(v_H), len(u_W)))


def _value_noise(lattice: np.ndarray, u_W: np.ndarray, v_H: np.ndarray) -> np.ndarray:
  """Random numbers at whole coordinates, smoothly joined between (Perlin's early "value noise")."""

  def joints(u: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    below = np.floor(u)
    part = u - below
    index = below.astype(np.int64) % len(lattice)
    return index, (index + 1) % len(lattice), part * part * (3 - 2 * part)

  low, high, weight = joints(v_H)
  rows = lattice[low]
  rows = rows + weight[:, None] * (lattice[high] - rows)
  low, high, weight = joints(u_W)
  left = rows[:, low]
  return left + weight[None] * (rows[:, high] - left)
