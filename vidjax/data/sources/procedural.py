"""Moving shapes that are made up: captions, cuts, camera motion and flow are known; no files.

For tests and small studies: does a model learn motion, does text bind colour, shape and direction,
does a cut detector find the cuts, is an estimated flow right? A clip is a function of (options,
split, number) alone, the same in every process. Frames are not scaled: they are drawn at
`transforms.cover_size` of the size asked for, so that they are sharp at any.

Legend: P pairs of frames, H W height and width in pixels.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import functools
import hashlib
import itertools
import math
from typing import Any

import numpy as np

from vidjax.data import transforms, video
from vidjax.data.clip import Clip, Listing
from vidjax.data.procedural import captions, drawing, scenes

# Part of every digest: raise it when clips come out otherwise than before.
VERSION = 1

SPLITS = ("train", "holdout")
_SCORE_SIZE = 16  # short side, see `Clip.motion_score`
_SCORE_STEP_S = 0.5


@dataclasses.dataclass(frozen=True)
class Options:
  """What the clips are like.

  Attributes:
    num_clips: in each split.
    seed: another one makes other clips.
    duration_s: of a clip, rounded to whole frames.
    fps: frames per second.
    height: pixels; with `width` the shape of the frames, and the size that the listing states.
    width: pixels.
    shapes: 1 to so many in a scene.
    cuts: share of the clips that have hard cuts; where a clip is too short for two scenes of half a
      second it has none.
    max_cuts: 1 to so many in those.
    camera: share of the scenes whose camera pans or zooms, among those where that can be seen:
      before a plain background it stands still.
    backgrounds: which there are, of `scenes.BACKGROUNDS`; a sequence, or names joined by commas.
    variable_rate: time stamps vary by up to 0.4 frames around the regular ones.
  """

  num_clips: int = 10_000
  seed: int = 0
  duration_s: float = 5.0
  fps: float = 24.0
  height: int = 256
  width: int = 384
  shapes: int = 3
  cuts: float = 0.25
  max_cuts: int = 2
  camera: float = 0.5
  backgrounds: tuple[str, ...] = scenes.BACKGROUNDS
  variable_rate: bool = False

  @property
  def num_frames(self) -> int:
    """Frames of a clip."""
    return round(self.duration_s * self.fps)


class ProceduralSource:
  """Clips by number; see `vidjax.data.clip.Source`."""

  def __init__(self, path: str, split: str, options: Options):
    self.path, self.split, self.options = path, split, options
    count, duration_s = options.num_clips, options.num_frames / options.fps
    text = f"procedural {VERSION} {split} {options}"
    # Views of one number: as many clips as one likes take no memory.
    self.listing = Listing(
      durations_s=np.broadcast_to(np.float64(duration_s), (count,)),
      fps=np.broadcast_to(np.float64(options.fps), (count,)),
      sizes=np.broadcast_to(np.array([options.height, options.width], np.int32), (count, 2)),
      digest=hashlib.sha256(text.encode()).hexdigest(),
    )

  def __reduce__(self):
    return ProceduralSource, (self.path, self.split, self.options)

  def __getitem__(self, number: int) -> Clip:
    """Makes up clip `number`; nothing is drawn yet."""
    film = self.film(number)
    return Clip(
      clip_id=self.name(number),
      source="",
      duration_s=self.options.num_frames / self.options.fps,
      read=functools.partial(self._read, film),
      times_s=lambda: film.times_s,
      captions=captions.captions(film),
      **_scores(film, self._cover((_SCORE_SIZE, _SCORE_SIZE))),
    )

  def name(self, number: int) -> str:
    """Names clip `number`, as its `clip_id` does."""
    return f"procedural-{self.split}-{self.options.seed}-{number}"

  def film(self, number: int) -> scenes.Film:
    """What happens in clip `number`: shapes, colours, paths, cameras, cuts."""
    if not 0 <= number < self.options.num_clips:
      raise IndexError(f"clip {number} of {self.options.num_clips}")
    # The split is part of the name of every draw: no clip is in both.
    return scenes.make_film(_world(self.options), self.options.seed, self.split, number)

  def _read(self, film: scenes.Film, moments_s: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    frames, places = np.unique(_frames_at(film, moments_s), return_inverse=True)
    drawn_THWC = drawing.draw(film, frames, self._cover(size))
    return drawn_THWC if len(frames) == len(places) else drawn_THWC[places]

  def _cover(self, size: tuple[int, int]) -> tuple[int, int]:
    return transforms.cover_size((self.options.height, self.options.width), size)


def open_source(path: str, split: str, options: Mapping[str, Any]) -> ProceduralSource:
  """Makes up the data set.

  Args:
    path: ignored.
    split: "train" or "holdout"; no clip is in both.
    options: fields of `Options`.

  Raises:
    ValueError: no such split or option, or a value that makes no sense.
  """
  if split not in SPLITS:
    raise ValueError(f"data split {split!r} of kind 'procedural': choose from {', '.join(SPLITS)}")
  return ProceduralSource(path, split, _parse(options))


def cut_times(source: ProceduralSource, number: int) -> np.ndarray:
  """Times of the cuts of a clip: (cuts,) float64, time stamps of the first frames after them."""
  film = source.film(number)
  return film.times_s[[scene.first for scene in film.scenes[1:]]]


def true_flow(
  source: ProceduralSource, number: int, from_s: float, to_s: float, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
  """Flow between the frames that clip `number` shows at two moments, in any order.

  Args:
    source: the data set.
    number: of the clip.
    from_s: moment of the frame whose pixels it is told of, in seconds.
    to_s: moment of the frame that they go to.
    size: (height, width) of the view, as for `Clip.read`: the flow is that of the frames which it
      returns, uncut.

  Returns:
    (H, W, 2) float32, x to the right and y down, in pixels, such that pixel (x, y) of the one frame
    is at (x, y) + flow in the other; NaN across a cut. (H, W) bool, whether it is seen there: not
    hidden by a shape, not out of the frame, not across a cut.
  """
  film = source.film(number)
  first, second = _frames_at(film, np.array([from_s, to_s], np.float64))[:, None]
  flow_PHW2, valid_PHW = drawing.flow(film, first, second, source._cover(size))
  return flow_PHW2[0], valid_PHW[0]


def _parse(options: Mapping[str, Any]) -> Options:
  known = {field.name: field for field in dataclasses.fields(Options)}
  for name in options:
    if name not in known:
      raise ValueError(f"data.options.{name} of kind 'procedural': choose from {', '.join(known)}")
  values = {name: _typed(name, value, known[name].default) for name, value in options.items()}
  parsed = Options(**values)
  must = {
    "num_clips": (1, math.inf),
    "duration_s": (1 / parsed.fps if parsed.fps > 0 else 0, math.inf),
    "fps": (1e-3, math.inf),
    "height": (1, math.inf),
    "width": (1, math.inf),
    "shapes": (1, len(scenes.COLORS) - 1),
    "cuts": (0, 1),
    "max_cuts": (1, math.inf),
    "camera": (0, 1),
  }
  for name, (low, high) in must.items():
    value = getattr(parsed, name)
    if not low <= value <= high:
      bounds = f"at least {low:g}" if math.isinf(high) else f"from {low:g} to {high:g}"
      raise ValueError(f"data.options.{name}={value!r} of kind 'procedural': must be {bounds}")
  if not parsed.backgrounds or not set(parsed.backgrounds) <= set(scenes.BACKGROUNDS):
    raise ValueError(
      f"data.options.backgrounds={parsed.backgrounds} of kind 'procedural': choose from"
      f" {', '.join(scenes.BACKGROUNDS)}"
    )
  return parsed


def _typed(name: str, value: Any, default: Any) -> Any:
  """The value with the type of the default, so that 5 and 5.0 seconds are the same data set."""
  match default:
    case tuple() if isinstance(value, str):
      return tuple(value.split(","))
    case tuple() if isinstance(value, Sequence):
      return tuple(value)
    case bool() | int() if type(value) is type(default):
      return value
    case float() if type(value) in (int, float):
      return float(value)
  expected = "names" if isinstance(default, tuple) else type(default).__name__
  raise ValueError(f"data.options.{name}={value!r} of kind 'procedural': must be {expected}")


def _world(options: Options) -> scenes.World:
  short = min(options.height, options.width)
  return scenes.World(
    num_frames=options.num_frames,
    fps=options.fps,
    half_extent=(options.width / short / 2, options.height / short / 2),
    shapes=options.shapes,
    cuts=options.cuts,
    max_cuts=options.max_cuts,
    camera=options.camera,
    backgrounds=options.backgrounds,
    variable_rate=options.variable_rate,
  )


def _frames_at(film: scenes.Film, moments_s: np.ndarray) -> np.ndarray:
  """Numbers of the frames shown at moments: the last ones whose time stamps are not later."""
  later = np.searchsorted(film.times_s, moments_s + video.TIME_TOLERANCE_S, side="right")
  return np.maximum(later - 1, 0)


def _scores(film: scenes.Film, size: tuple[int, int]) -> dict[str, Any]:
  """Fields `motion_score` and `scores` of a clip, from its true flow on small frames.

  As curated clips are scored (`vidjax curate`): two frames per second, and pixels that get hidden
  count; over a cut there is no motion. A scene too short for that is scored by its two ends.
  """
  pairs: list[tuple[int, int]] = []
  for scene, end in zip(
    film.scenes, [*(s.first for s in film.scenes[1:]), len(film.times_s)], strict=True
  ):
    moments_s = np.arange(scene.start_s, film.times_s[end - 1] + 1e-4, _SCORE_STEP_S)
    frames = _frames_at(film, moments_s).tolist()
    frames = frames if len(frames) > 1 else [scene.first, end - 1]
    pairs += [(a, b) for a, b in itertools.pairwise(frames) if a < b]
  first, second = np.array(pairs, np.int64).reshape(-1, 2).T
  speeds = np.zeros(1)
  if pairs:
    flow_PHW2, _ = drawing.flow(film, first, second, size, visible=False)
    step_s = film.times_s[second] - film.times_s[first]
    speeds = np.linalg.norm(flow_PHW2, axis=-1).mean(axis=(1, 2)) / step_s
  return {
    "motion_score": float(speeds.mean()),
    "scores": {
      "num_cuts": float(len(film.scenes) - 1),
      "num_shapes": float(max(len(scene.shapes) for scene in film.scenes)),
      "motion_std": float(speeds.std()),
      "motion_max": float(speeds.max()),
      # The fastest camera: short sides, and logarithms of the magnification, per second.
      "camera_pan": max(math.hypot(*scene.camera.velocity) for scene in film.scenes),
      "camera_zoom": max(abs(scene.camera.zoom_rate) for scene in film.scenes),
    },
  }
