"""Edited videos made up from a seed: known cuts, dissolves and fades between shots full of traps.

A shot moves as films do (pans, zooms, a shaking hand, things that pass in front of the lens) or not
at all, may be dark, flat or grainy, and may hold what is often taken for a cut: flashes, a lamp
that goes on, a strobe, a whip pan, a title. Nothing of it is in any other data.

Legend: T frames, H W pixels, C channels (RGB).
"""

from collections.abc import Iterator, Sequence
import dataclasses
import math
import pathlib

import cv2
import numpy as np

from vidjax.data import mp4

SIZE = (90, 160)  # height, width
TRAPS = ("flash", "light", "strobe", "whip", "passing", "title", "")
LOOKS = ("plain", "dark", "flat", "grain", "gray")
_GRADUAL = ("dissolve", "fade")
MOTIONS = ("still", "pan", "zoom", "hand", "turn")


@dataclasses.dataclass(frozen=True)
class Boundary:
  """Where one shot gives way to the next.

  Attributes:
    kind: "hard", "dissolve" or "fade" (out to black or white, and in again or cut to).
    first: of a hard cut the first frame of the new shot; else the first frame that is a blend.
    last: likewise; else the last frame that is one, or the first of the new shot.
  """

  kind: str
  first: int
  last: int


@dataclasses.dataclass(frozen=True)
class Edited:
  """A video as it was edited.

  Attributes:
    fps: of all frames.
    frames: number of frames.
    boundaries: in order.
    shots: the first frame of each, and what it holds: a motion, a look, a trap or "".
  """

  fps: float
  frames: int
  boundaries: tuple[Boundary, ...]
  shots: tuple[tuple[int, str, str, str], ...]


def write(
  path: pathlib.Path,
  seed: int,
  shots: int,
  kinds: Sequence[str] = ("hard", "hard", *_GRADUAL),
  traps: Sequence[str] = TRAPS,
) -> Edited:
  """Writes a video of so many shots, with boundaries and traps of these; a seed gives its bytes."""
  rng = np.random.default_rng([seed, 0xED17])
  fps = float(rng.choice([24.0, 25.0, 30.0]))
  boundaries: list[Boundary] = []
  described: list[tuple[int, str, str, str]] = []
  count = 0

  def frames() -> Iterator[np.ndarray]:
    nonlocal count
    kind, begun = "file", 0  # what comes before this shot, and its first frame
    tail = np.zeros((0, *SIZE, 3), np.uint8)  # of the shot before, to be blended
    for number in range(shots):
      motion, look, trap = (str(rng.choice(list(some))) for some in (MOTIONS, LOOKS, traps))
      described.append((count, motion, look, trap))
      shot_THWC = make_shot(rng, round(fps * rng.uniform(1.6, 4.5)), fps, motion, look, trap)
      if len(tail):
        shot_THWC[: len(tail)] = _dissolve(tail, shot_THWC[: len(tail)])
      if number:
        boundaries.append(Boundary(kind, begun, count + max(len(tail) - 1, 0)))
      kind = "hard" if number == shots - 1 else str(rng.choice(list(kinds)))
      length = min(round(fps * rng.uniform(0.4, 1.4)), len(shot_THWC) // 3)
      tail = shot_THWC[-length:] if kind == "dissolve" else tail[:0]
      if kind == "dissolve":
        shot_THWC = shot_THWC[:-length]
      elif kind == "fade":
        plain = np.full_like(shot_THWC[:length], int(rng.choice([0, 0, 0, 255])))
        shot_THWC[-length:] = _dissolve(shot_THWC[-length:], plain)
        held = plain[: int(rng.integers(1, length))]
        shot_THWC = np.concatenate([shot_THWC, held])
        begun = count + len(shot_THWC) - len(held) - length
        if rng.random() < 0.6:  # and in again, where others cut
          tail = plain[: length // 2 + 2]
      yield from shot_THWC
      count += len(shot_THWC)
      if kind != "fade":
        begun = count

  timed = ((number / fps, frame_HWC) for number, frame_HWC in enumerate(frames()))
  path.write_bytes(mp4.encode_timed(timed, crf=20, preset="veryfast", key_frame_every_s=4.0))
  return Edited(fps, count, tuple(boundaries), tuple(described))


def make_shot(
  rng: np.random.Generator, length: int, fps: float, motion: str, look: str, trap: str = ""
) -> np.ndarray:
  """One shot, (T, H, W, C) uint8."""
  picture_HWC = _picture(rng)
  path_T3 = _camera(rng, motion, length, fps)
  if trap == "whip":
    begin = int(rng.integers(length // 3, length // 2))
    way = np.clip((np.arange(length) - begin) / (0.25 * fps), 0, 1)
    path_T3[:, 0] += rng.choice([-1, 1]) * rng.uniform(60, 110) * way * way * (3 - 2 * way)
  actors = [_Actor(rng, fps) for _ in range(int(rng.integers(0, 4)))]
  shot_THWC = np.empty((length, *SIZE, 3), np.float32)
  for number, (x, y, zoom) in enumerate(path_T3):
    shot_THWC[number] = _view(picture_HWC, x, y, zoom)
    for actor in actors:
      actor.paint(shot_THWC[number], number)
  _TRAPS.get(trap, _nothing)(rng, shot_THWC, fps)
  return np.clip(_looks(rng, shot_THWC, look), 0, 255).astype(np.uint8)


def _picture(rng: np.random.Generator) -> np.ndarray:
  """A scene larger than the screen: regions, textures and edges, (H, W, C) float32."""
  height, width = 3 * SIZE[0], 3 * SIZE[1]
  picture_HWC = np.zeros((height, width, 3), np.float32)
  for cell, strength in ((120, 70), (40, 45), (13, 25), (4, 12)):
    knots = rng.uniform(-1, 1, (height // cell + 2, width // cell + 2, 3)).astype(np.float32)
    way = cv2.INTER_NEAREST if rng.random() < 0.3 else cv2.INTER_CUBIC
    picture_HWC += strength * cv2.resize(knots, (width, height), interpolation=way)
  picture_HWC = picture_HWC * rng.uniform(0.4, 1.1, 3).astype(np.float32) + rng.uniform(70, 170)
  for _ in range(int(rng.integers(4, 14))):  # houses, people, furniture
    x, y = int(rng.integers(width)), int(rng.integers(height))
    w, h = (int(v) for v in rng.integers(12, 130, 2))
    color = tuple(float(v) for v in rng.uniform(0, 255, 3))
    if rng.random() < 0.5:
      cv2.rectangle(picture_HWC, (x, y), (x + w, y + h), color, -1)
    else:
      cv2.ellipse(picture_HWC, (x, y), (w // 2, h // 2), float(w), 0, 360, color, -1)
  return picture_HWC


def _camera(rng: np.random.Generator, motion: str, length: int, fps: float) -> np.ndarray:
  """Centre and magnification at each frame, (T, 3): pixels from the middle, and 1 for none."""
  t = np.arange(length) / fps
  path_T3 = np.zeros((length, 3))
  path_T3[:, 2] = 1.0
  angle = rng.uniform(0, 2 * math.pi)
  match motion:
    case "pan":
      speed = rng.uniform(5, 45)
      path_T3[:, 0] = speed * math.cos(angle) * (t - t[-1] / 2)
      path_T3[:, 1] = 0.6 * speed * math.sin(angle) * (t - t[-1] / 2)
    case "zoom":
      path_T3[:, 2] = np.exp(rng.choice([-1, 1]) * rng.uniform(0.05, 0.25) * (t - t[-1] / 2))
    case "hand":
      for axis in (0, 1):
        for rate in (0.7, 1.9, 4.3):
          path_T3[:, axis] += rng.uniform(0.3, 5 / rate) * np.sin(
            2 * math.pi * rate * t + rng.uniform(0, 6)
          )
    case "turn":
      path_T3[:, 0] = 30 * np.sin(rng.uniform(0.5, 1.6) * t + angle)
  return path_T3


def _view(picture_HWC: np.ndarray, x: float, y: float, zoom: float) -> np.ndarray:
  height, width = SIZE
  middle = (picture_HWC.shape[1] / 2 + x, picture_HWC.shape[0] / 2 + y)
  matrix = np.array(
    [[1 / zoom, 0, middle[0] - width / 2 / zoom], [0, 1 / zoom, middle[1] - height / 2 / zoom]]
  )
  flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
  return cv2.warpAffine(
    picture_HWC, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REFLECT
  )


class _Actor:
  """Something that moves by itself."""

  def __init__(self, rng: np.random.Generator, fps: float):
    self._at, self._by = rng.uniform(0, SIZE[::-1]), rng.uniform(-40, 40, 2) / fps
    self._radius, self._wobble = rng.uniform(4, 22), rng.uniform(1, 4) / fps
    self._colors = rng.uniform(0, 255, (2, 3))

  def paint(self, frame_HWC: np.ndarray, number: int) -> None:
    x, y = self._at + self._by * number
    y += 3 * math.sin(2 * math.pi * self._wobble * number)
    for scale, color in zip((1.0, 0.5), self._colors, strict=True):
      centre = (round(float(x)), round(float(y)))
      cv2.circle(frame_HWC, centre, max(1, round(self._radius * scale)), tuple(color.tolist()), -1)


def _nothing(rng: np.random.Generator, shot_THWC: np.ndarray, fps: float) -> None:
  del rng, shot_THWC, fps


def _flash(rng: np.random.Generator, shot_THWC: np.ndarray, fps: float) -> None:
  """One to three photographers' flashes: bright at once, gone within three frames."""
  del fps
  for _ in range(int(rng.integers(1, 4))):
    at = int(rng.integers(5, len(shot_THWC) - 6))
    for place, share in enumerate(
      (rng.uniform(0.6, 1.0), rng.uniform(0, 0.6), rng.uniform(0, 0.2))
    ):
      shot_THWC[at + place] += share * (255 - shot_THWC[at + place])


def _light(rng: np.random.Generator, shot_THWC: np.ndarray, fps: float) -> None:
  """A lamp that goes on or off, at once or slowly."""
  at = int(rng.integers(5, len(shot_THWC) - 6))
  way = np.clip((np.arange(len(shot_THWC)) - at) / (rng.choice([0.01, 0.2, 0.8]) * fps), 0, 1)
  gain = 1 + way * (rng.choice([0.55, 0.75, 1.3, 1.5]) - 1)
  shot_THWC *= gain[:, None, None, None].astype(np.float32)


def _strobe(rng: np.random.Generator, shot_THWC: np.ndarray, fps: float) -> None:
  begin, period = int(rng.integers(5, len(shot_THWC) // 2)), int(rng.integers(2, 5))
  end = min(len(shot_THWC) - 5, begin + round(rng.uniform(0.5, 1.2) * fps))
  for number in range(begin, end):
    shot_THWC[number] *= 1.35 if (number - begin) % (2 * period) < period else 0.8


def _passing(rng: np.random.Generator, shot_THWC: np.ndarray, fps: float) -> None:
  """Something dark close to the lens, which hides up to half of what is seen."""
  begin, speed = int(rng.integers(5, len(shot_THWC) // 2)), rng.uniform(250, 600) / fps
  width, color = int(rng.uniform(0.25, 0.5) * SIZE[1]), rng.uniform(10, 90, 3)
  for number in range(begin, len(shot_THWC)):
    left = round(-width + speed * (number - begin))
    shot_THWC[number, :, max(0, left) : max(0, left + width)] = color


def _title(rng: np.random.Generator, shot_THWC: np.ndarray, fps: float) -> None:
  begin, fade = int(rng.integers(5, len(shot_THWC) // 2)), rng.choice([1, 0.5 * fps])
  at = (int(rng.integers(8, 30)), int(rng.integers(40, 80)))
  drawn_HWC = np.zeros((*SIZE, 3), np.uint8)
  cv2.putText(drawn_HWC, "A TITLE", at, cv2.FONT_HERSHEY_SIMPLEX, 0.9, (255, 255, 255), 2)
  mask_HWC = drawn_HWC.astype(np.float32) / 255
  for number in range(begin, len(shot_THWC)):
    alpha_HWC = mask_HWC * min(1.0, (number - begin + 1) / fade)
    shot_THWC[number] += alpha_HWC * (250 - shot_THWC[number])


_TRAPS = {
  "flash": _flash,
  "light": _light,
  "strobe": _strobe,
  "passing": _passing,
  "title": _title,
}


def _looks(rng: np.random.Generator, shot_THWC: np.ndarray, look: str) -> np.ndarray:
  match look:
    case "dark":
      return shot_THWC * rng.uniform(0.25, 0.5)
    case "flat":
      return 128 + (shot_THWC - 128) * rng.uniform(0.35, 0.6)
    case "grain":
      return shot_THWC + rng.normal(0, rng.uniform(3, 9), shot_THWC.shape).astype(np.float32)
    case "gray":
      return np.repeat(shot_THWC.mean(-1, keepdims=True), 3, axis=-1)
  return shot_THWC


def _dissolve(before_THWC: np.ndarray, after_THWC: np.ndarray) -> np.ndarray:
  """A blend of both over their whole length, neither being pure anywhere."""
  length = len(before_THWC)
  alpha = ((np.arange(length) + 1) / (length + 1))[:, None, None, None]
  return ((1 - alpha) * before_THWC + alpha * after_THWC).astype(np.uint8)
