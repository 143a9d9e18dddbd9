"""What happens in a clip: scenes of shapes that move over a background, seen by a moving camera.

Lengths are in short sides of the frame, so that nothing here knows of pixels. The origin of the
screen is the centre of the frame, x goes right, y goes down, and a positive angle is clockwise as
seen. The world is the screen of a camera that stands still: motions are told, and captions say
them, relative to the world, that is to the background.

Legend: N frames of the clip.
"""

from collections.abc import Sequence
import dataclasses
import math
from typing import Any, NamedTuple

import numpy as np

from vidjax.data.procedural.dice import Dice

SHAPES = ("circle", "square", "triangle", "star", "ring", "cross", "crescent")
ROUND = ("circle", "ring")  # whose rotation cannot be seen: they have none
BACKGROUNDS = ("plain", "gradient", "checkerboard", "stripes", "clouds")
COLORS = {
  "red": (224, 49, 49),
  "orange": (247, 140, 30),
  "yellow": (250, 212, 46),
  "green": (47, 168, 82),
  "cyan": (56, 202, 214),
  "blue": (44, 98, 220),
  "purple": (138, 66, 190),
  "pink": (246, 134, 184),
  "white": (246, 246, 246),
  "black": (26, 26, 32),
}
BACKGROUND_COLORS = {
  "red": (150, 72, 70),
  "brown": (140, 108, 80),
  "yellow": (188, 168, 100),
  "green": (84, 134, 98),
  "blue": (76, 104, 154),
  "purple": (112, 90, 142),
  "gray": (128, 130, 136),
}
DIRECTIONS = {  # x, y before they get length 1
  "to the right": (1, 0),
  "down and to the right": (1, 1),
  "down": (0, 1),
  "down and to the left": (-1, 1),
  "to the left": (-1, 0),
  "up and to the left": (-1, -1),
  "up": (0, -1),
  "up and to the right": (1, -1),
}
PANS = {"right": (1, 0), "left": (-1, 0), "up": (0, -1), "down": (0, 1)}
RADII = {"small": (0.085, 0.105), "medium": (0.13, 0.16), "large": (0.2, 0.24)}

MIN_SCENE_S = 0.5
_STRAIGHT = ("steady", "accelerating", "braking")
_MOTIONS = (*_STRAIGHT, *_STRAIGHT, "circling", "still")  # straight ones are the most frequent
_MAX_SPEED = 0.7  # mean, short sides per second
_JITTER = 0.8  # of a frame: time stamps that vary stay in order


class Placement(NamedTuple):
  """Where something is on the screen: screen = (x, y) + R local, with R = [[c, -s], [s, c]].

  R rotates by the angle and scales by the size; a plain number each, or arrays of equal shapes.
  """

  x: Any
  y: Any
  c: Any
  s: Any

  def to_local(self, x: Any, y: Any) -> tuple[Any, Any]:
    """Where points of the screen are in the thing's own coordinates."""
    square = self.c * self.c + self.s * self.s
    c, s = self.c / square, self.s / square
    dx, dy = x - self.x, y - self.y
    return c * dx + s * dy, c * dy - s * dx

  def to_screen(self, u: Any, v: Any) -> tuple[Any, Any]:
    """Where points of the thing are on the screen."""
    return self.x + self.c * u - self.s * v, self.y + self.s * u + self.c * v


@dataclasses.dataclass(frozen=True)
class Camera:
  """Looks at the world; in the middle of a scene at its origin, and unmagnified.

  Attributes:
    pan: a key of `PANS`, or "": which way it turns.
    zoom: "in", "out" or "".
    velocity: of its centre, world lengths per second.
    zoom_rate: logarithm of the magnification gained per second.
    middle_s: of the scene.
  """

  pan: str
  zoom: str
  velocity: tuple[float, float]
  zoom_rate: float
  middle_s: float

  def place(self, t: np.ndarray) -> Placement:
    """The world on the screen, t seconds into the scene."""
    dt = t - self.middle_s
    zoom = np.exp(self.zoom_rate * dt)
    return Placement(
      -zoom * self.velocity[0] * dt, -zoom * self.velocity[1] * dt, zoom, np.zeros_like(zoom)
    )


@dataclasses.dataclass(frozen=True)
class Shape:
  """One thing that moves.

  Attributes:
    kind: one of `SHAPES`.
    color: a key of `COLORS`.
    size: a key of `RADII`.
    radius: of the circle around it.
    motion: one of `_MOTIONS`.
    direction: a key of `DIRECTIONS` where it moves straight, else "".
    middle: where it is in the middle of the way, or what it circles; in the world.
    way: (x, y) that it goes in the scene; (0, 0) if not straight.
    orbit: radius of the circle it moves on, 0 if it does not.
    orbit_rate: radians per second, clockwise; likewise.
    phase: where on it, radians.
    angle: its rotation at the start, radians.
    spin: radians per second, clockwise.
    length_s: of the scene.
  """

  kind: str
  color: str
  size: str
  radius: float
  motion: str
  direction: str
  middle: tuple[float, float]
  way: tuple[float, float]
  orbit: float
  orbit_rate: float
  phase: float
  angle: float
  spin: float
  length_s: float

  def place(self, t: np.ndarray, world: Placement) -> Placement:
    """The shape, of radius 1 in its own coordinates, on the screen."""
    u = t / self.length_s
    match self.motion:
      case "accelerating":
        done = u * u - 0.5
      case "braking":
        done = 0.5 - (1 - u) * (1 - u)
      case _:
        done = u - 0.5
    turn = self.phase + self.orbit_rate * t
    x, y = world.to_screen(
      self.middle[0] + self.way[0] * done + self.orbit * np.cos(turn),
      self.middle[1] + self.way[1] * done + self.orbit * np.sin(turn),
    )
    angle, scale = self.angle + self.spin * t, self.radius * world.c
    return Placement(x, y, scale * np.cos(angle), scale * np.sin(angle))


@dataclasses.dataclass(frozen=True)
class Background:
  """What is behind the shapes, endless in all directions.

  Attributes:
    kind: one of `BACKGROUNDS`.
    color: a key of `BACKGROUND_COLORS`.
    cell: length of what repeats: of a square, a stripe, a cloud, half a wave of a gradient.
    direction: unit vector of a gradient; stripes change along x where it is (1, 0), else along y.
    offset: of the pattern, in the world.
    lattice: (L, L) float32 in [0, 1], random numbers of clouds.
  """

  kind: str
  color: str
  cell: float
  direction: tuple[float, float]
  offset: tuple[float, float]
  lattice: np.ndarray


@dataclasses.dataclass(frozen=True)
class Scene:
  """What is seen between two cuts.

  Attributes:
    first: number of its first frame in the clip.
    start_s: time stamp of that frame.
    length_s: until the next cut, or the end.
    shapes: the hindmost first.
  """

  first: int
  start_s: float
  length_s: float
  background: Background
  shapes: tuple[Shape, ...]
  camera: Camera


@dataclasses.dataclass(frozen=True)
class World:
  """What clips are like; see `vidjax.data.sources.procedural.Options`."""

  num_frames: int
  fps: float
  half_extent: tuple[float, float]  # x, y of the lower right corner of the screen
  shapes: int
  cuts: float
  max_cuts: int
  camera: float
  backgrounds: tuple[str, ...]
  variable_rate: bool


@dataclasses.dataclass(frozen=True)
class Film:
  """A clip as it is told, before it is drawn: time stamps of all frames (N,), and scenes."""

  times_s: np.ndarray
  scenes: tuple[Scene, ...]

  def scene_of(self, frames: np.ndarray) -> np.ndarray:
    """Numbers of the scenes of the frames with these numbers, (T,)."""
    return np.searchsorted([scene.first for scene in self.scenes], frames, side="right") - 1


def make_film(world: World, *names: int | str) -> Film:
  """Makes up the clip that `names` name."""
  times_s = _times(world, Dice(*names, "times"))
  firsts = _cuts(world, Dice(*names, "cuts"))
  edges = [*times_s[firsts].tolist(), world.num_frames / world.fps]
  scenes: list[Scene] = []
  for number, first in enumerate(firsts):
    length_s = edges[number + 1] - edges[number]
    before = scenes[-1].background.color if scenes else ""
    background = _background(world, before, Dice(*names, number, "background"))
    camera = _camera(world, background, length_s, Dice(*names, number, "camera"))
    dice = Dice(*names, number, "shapes")
    shapes: list[Shape] = []
    for _ in range(1 + int(dice.uniform() * world.shapes)):
      own = Dice(*names, number, "shape", len(shapes))
      shapes.append(_shape(world, camera, background, shapes, length_s, own))
    scene = Scene(first, edges[number], length_s, background, tuple(shapes), camera)
    scenes.append(scene)
  return Film(times_s, tuple(scenes))


def _times(world: World, dice: Dice) -> np.ndarray:
  steps = np.arange(world.num_frames, dtype=np.float64)
  if world.variable_rate:
    steps[1:] += _JITTER * (dice.fractions(world.num_frames)[1:] - 0.5)
  return steps / world.fps


def _cuts(world: World, dice: Dice) -> list[int]:
  """First frames of the scenes; no scene is shorter than `MIN_SCENE_S`, nor a single frame."""
  shortest = max(2, math.ceil(MIN_SCENE_S * world.fps) + 1)
  wanted = 1 + int(dice.uniform() * world.max_cuts) if dice.uniform() < world.cuts else 0
  count = max(0, min(wanted, world.num_frames // shortest - 1))
  spare = world.num_frames - (count + 1) * shortest
  places = sorted(int(dice.uniform() * (spare + 1)) for _ in range(count))
  return [0, *(place + (i + 1) * shortest for i, place in enumerate(places))]


def _background(world: World, before: str, dice: Dice) -> Background:
  kind = dice.choice(world.backgrounds)
  color = dice.choice([color for color in BACKGROUND_COLORS if color != before])
  turn = dice.uniform(0, 2 * math.pi)
  low, high = {"gradient": (0.9, 1.3), "clouds": (0.3, 0.42)}.get(kind, (0.15, 0.28))
  cell = dice.uniform(low, high)
  upright = (1.0, 0.0) if dice.uniform() < 0.5 else (0.0, 1.0)
  return Background(
    kind=kind,
    color=color,
    cell=cell,
    direction=(math.cos(turn), math.sin(turn)) if kind == "gradient" else upright,
    offset=(dice.uniform(), dice.uniform()),
    lattice=dice.bytes(256).reshape(16, 16).astype(np.float32) / np.float32(255),
  )


def _camera(world: World, background: Background, length_s: float, dice: Dice) -> Camera:
  """A camera whose motion can be seen: not before a plain background, nor along stripes."""
  pan = zoom = ""
  if dice.uniform() < world.camera and background.kind != "plain":
    share = dice.uniform()
    striped = background.kind == "stripes"
    along_x = bool(background.direction[0])
    across = [name for name, (x, _) in PANS.items() if not striped or bool(x) == along_x]
    pan = dice.choice(across) if share < 0.65 else ""
    zoom = dice.choice(("in", "out")) if share >= 0.55 else ""
  distance = min(dice.uniform(0.3, 0.6), 0.5 * length_s) if pan else 0.0
  gain = min(dice.uniform(0.3, 0.5), 0.4 * length_s) * ((zoom == "in") - (zoom == "out"))
  x, y = PANS.get(pan, (0, 0))
  speed = distance / length_s
  return Camera(pan, zoom, (x * speed, y * speed), gain / length_s, length_s / 2)


def _shape(
  world: World,
  camera: Camera,
  background: Background,
  others: Sequence[Shape],
  length_s: float,
  dice: Dice,
) -> Shape:
  kind, size = dice.choice(SHAPES), dice.choice(list(RADII))
  # A colour is had once in a scene, so that it says which shape is meant.
  taken = {background.color, *(other.color for other in others)}
  color = dice.choice([color for color in COLORS if color not in taken])
  radius = dice.uniform(*RADII[size])
  motion = dice.choice(_MOTIONS)
  direction, way = "", (0.0, 0.0)
  if motion in _STRAIGHT:
    direction = dice.choice(list(DIRECTIONS))
    distance = min(dice.uniform(0.4, 0.9), _MAX_SPEED * length_s)
    heading = math.atan2(*DIRECTIONS[direction][::-1]) + dice.uniform(-0.12, 0.12)
    way = (distance * math.cos(heading), distance * math.sin(heading))
  orbit = dice.uniform(0.12, 0.22) if motion == "circling" else 0.0
  orbit_rate = dice.sign() * dice.uniform(0.9, 1.8) if motion == "circling" else 0.0
  spins = kind not in ROUND and dice.uniform() < 0.5
  reach = [  # how far from the centre the middle may be for the shape to stay in sight
    max(0.0, half * math.exp(-abs(camera.zoom_rate) * length_s / 2) - margin - 0.6 * radius)
    for half, margin in (
      (side, orbit + abs(go - pan * length_s) / 2)
      for side, go, pan in zip(world.half_extent, way, camera.velocity, strict=True)
    )
  ]
  places = [(dice.uniform(-1, 1) * reach[0], dice.uniform(-1, 1) * reach[1]) for _ in range(6)]

  def room(place: tuple[float, float]) -> float:
    return min((math.dist(place, o.middle) - o.radius for o in others), default=0.0)

  return Shape(
    kind=kind,
    color=color,
    size=size,
    radius=radius,
    motion=motion,
    direction=direction,
    middle=max(places, key=room),
    way=way,
    orbit=orbit,
    orbit_rate=orbit_rate,
    phase=dice.uniform(0, 2 * math.pi),
    angle=0.0 if kind in ROUND else dice.uniform(-0.5, 0.5),
    spin=dice.sign() * dice.uniform(0.6, 1.6) if spins else 0.0,
    length_s=length_s,
  )
