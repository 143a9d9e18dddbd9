"""Video files as they are before curation: shots of moving shapes, and what one does not want.

Films of shots with hard cuts, dissolves and fades between them; of the shots some stand still and
some lie under text. What moves, and how fast, is that of `vidjax.data.sources.procedural`, so that
good shots are of the same kind as its clips.

Legend: T frames, H W pixels, C channels (RGB).
"""

from collections.abc import Iterator, Mapping
import dataclasses
from typing import Any

import cv2
import numpy as np

from vidjax import config as configs
from vidjax import storage
from vidjax.data import mp4
from vidjax.data.procedural.dice import Dice
from vidjax.data.sources import procedural

_WORDS = ("SUBSCRIBE NOW", "BREAKING NEWS", "SALE 50 % OFF", "CHAPTER TWO", "THE END OF IT")


@dataclasses.dataclass(frozen=True)
class Films:
  """What is written.

  Attributes:
    count: number of files.
    shots: in each.
    height: pixels.
    width: pixels.
    fps: frames per second.
    shortest_s: of shots, whose lengths are even between this and the next.
    longest_s: likewise.
    static: share of the shots in which nothing moves.
    text: share of the shots under text.
    cut: share of hard cuts among the boundaries.
    dissolve: share of dissolves; the others are fades to black.
    seed: of all draws.
    shapes: options of the procedural source, for what is shown.
  """

  count: int
  shots: int
  height: int
  width: int
  fps: float
  shortest_s: float
  longest_s: float
  static: float
  text: float
  cut: float
  dissolve: float
  seed: int
  shapes: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Shot:
  """One shot as it was planned: its first frame in the film, and what is wrong with it."""

  first: int
  frames: int
  static: bool
  text: str
  boundary: str  # what leads to the next one: "cut", "dissolve", "fade", "end"


def write(folder: str, options: Mapping[str, Any]) -> dict[str, int]:
  """Writes `film_NNN.mp4` into `folder`; files that are there stay.

  Args:
    folder: local or remote.
    options: fields of `Films`.

  Returns:
    Number of shots that are good, that stand still, that lie under text, and all; those that do
    both count twice.
  """
  films = configs.from_dict(Films, options, "films")
  counts: dict[str, int] = {"good": 0, "static": 0, "text": 0, "all": 0}
  for number in range(films.count):
    shots = script(films, number)
    counts["all"] += len(shots)
    counts["static"] += sum(shot.static for shot in shots)
    counts["text"] += sum(bool(shot.text) for shot in shots)
    counts["good"] += sum(not (shot.static or shot.text) for shot in shots)
    path = storage.Path(folder) / f"film_{number:03d}.mp4"
    if not path.exists():
      frames = ((i / films.fps, frame) for i, frame in enumerate(draw(films, number)))
      storage.write_bytes(path, mp4.encode_timed(frames, crf=18, preset="veryfast"))
  return counts


def script(films: Films, number: int) -> list[Shot]:
  """What happens in a film."""
  shots, first = [], 0
  for place in range(films.shots):
    dice = Dice("film", films.seed, number, place)
    frames = round(films.fps * dice.uniform(films.shortest_s, films.longest_s))
    static, text = dice.uniform() < films.static, dice.uniform() < films.text
    word, share = dice.choice(_WORDS), dice.uniform()
    if place == films.shots - 1:
      boundary = "end"
    elif share < films.cut:
      boundary = "cut"
    else:
      boundary = "dissolve" if share < films.cut + films.dissolve else "fade"
    shots.append(Shot(first, frames, static, word if text else "", boundary))
    first += frames
  return shots


def draw(films: Films, number: int) -> Iterator[np.ndarray]:
  """Frames of a film, (H, W, C) uint8."""
  shots = script(films, number)
  length = round(films.fps)  # of a dissolve or a fade: a second, half of it in either shot
  tail = np.zeros((0, films.height, films.width, 3), np.uint8)
  for place, shot in enumerate(shots):
    video_THWC = _shot(films, number, place, shot)
    if len(tail):
      head = len(tail)
      video_THWC[:head] = _blend(tail, video_THWC[:head])
      tail = tail[:0]
    if shot.boundary == "dissolve":
      tail = np.repeat(video_THWC[-1:], length, axis=0)
    elif shot.boundary == "fade":
      black = np.zeros_like(video_THWC[-length:])
      video_THWC[-length:] = _blend(video_THWC[-length:], black)
      tail = black
    yield from video_THWC


def _shot(films: Films, number: int, place: int, shot: Shot) -> np.ndarray:
  """(T, H, W, C) uint8."""
  options = {
    **films.shapes,
    "num_clips": films.count * films.shots,
    "seed": films.seed,
    "duration_s": shot.frames / films.fps,
    "fps": films.fps,
    "height": films.height,
    "width": films.width,
  }
  source = procedural.open_source("", "train", options)
  clip = source[number * films.shots + place]
  moments_s = clip.times_s()[:1] if shot.static else clip.times_s()
  video_THWC = clip.read(moments_s, (films.height, films.width))
  if shot.static:
    video_THWC = np.repeat(video_THWC, shot.frames, axis=0)
  video_THWC = np.array(video_THWC[: shot.frames])
  if shot.text:
    for frame_HWC in video_THWC:
      _caption(frame_HWC, shot.text)
  return video_THWC


def _caption(frame_HWC: np.ndarray, text: str) -> None:
  """Two lines of large letters across the frame, on a band that sets them off."""
  height, width = frame_HWC.shape[:2]
  font, thick = cv2.FONT_HERSHEY_DUPLEX, max(1, height // 60)
  (wide, tall), _ = cv2.getTextSize(text, font, 1.0, thick)
  scale = 0.92 * width / wide
  tall = round(tall * scale)
  for bottom in (round(0.32 * height), round(0.9 * height)):
    top = max(0, bottom - tall - tall // 3)
    frame_HWC[top : bottom + tall // 3] = (24, 24, 24)
    at = (round(0.04 * width), bottom)
    cv2.putText(frame_HWC, text, at, font, scale, (250, 250, 250), thick, cv2.LINE_AA)


def _blend(before_THWC: np.ndarray, after_THWC: np.ndarray) -> np.ndarray:
  """From the one to the other over their whole length."""
  length = len(before_THWC)
  alpha = ((np.arange(length) + 1) / (length + 1))[:, None, None, None]
  return ((1 - alpha) * before_THWC + alpha * after_THWC).astype(np.uint8)
