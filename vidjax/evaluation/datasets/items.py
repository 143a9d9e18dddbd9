"""Videos of a data set, opened when they are read, and the rule for which of their frames count.

Which 16 frames of a video are the real ones moves FVD, so the rule has a name and is part of what
an evaluation states. SVD (2311.15127, App. E.4) does not say it and is read as the first 16;
VideoPoet (2312.14125, A.5.5) takes the central 16 at the file's own rate; StyleGAN-V (2112.14683)
a random offset, and discards what is too short.

Legend: T frames, H W height and width in pixels, C colours (RGB).
"""

from collections.abc import Sequence
import dataclasses
import hashlib
from typing import Protocol

import numpy as np

from vidjax import errors

STARTS = ("first", "centre", "random")
SHORTS = ("discard", "loop", "error")


@dataclasses.dataclass(frozen=True)
class Caption:
  """A text of a video, word for word, and its number in the data set (MSR-VTT's `sen_id`)."""

  text: str
  sen_id: int


@dataclasses.dataclass(frozen=True)
class ClipRule:
  """Which frames of a video are taken.

  Attributes:
    frames: how many.
    start: "first", "centre" (the odd frame is left behind) or "random", which depends on the seed
      and the id of the video only, not on the order of reading.
    stride: every `stride`-th frame, or moment of the grid.
    fps: None takes the file's own frames in the order they are shown; a number takes what is shown
      at moments on a grid of so many per second, from the first frame on (`vidjax.data.video`).
    short: what becomes of a video with too few: "discard" leaves it out, "loop" begins again at its
      first frame, "error" stops.
    seed: of random starts.

  Raises:
    ValueError: a value that makes no sense.
  """

  frames: int = 16
  start: str = "first"
  stride: int = 1
  fps: float | None = None
  short: str = "discard"
  seed: int = 0

  def __post_init__(self):
    for name, known in (("start", STARTS), ("short", SHORTS)):
      if getattr(self, name) not in known:
        found = getattr(self, name)
        raise ValueError(f"clip rule: {name}={found!r}, choose from {', '.join(known)}")
    for name in ("frames", "stride"):
      if getattr(self, name) < 1:
        raise ValueError(f"clip rule: {name}={getattr(self, name)}, it is at least 1")
    if self.fps is not None and not 0 < self.fps < float("inf"):
      raise ValueError(f"clip rule: fps={self.fps}, it is positive, or None for the file's frames")

  @property
  def span(self) -> int:
    """Frames from the first that is taken to the last, both included."""
    return (self.frames - 1) * self.stride + 1

  def indices(self, count: int, item_id: str) -> np.ndarray | None:
    """Which of `count` frames, or moments of the grid, are taken.

    Returns:
      (frames,) int64; ascending unless a short video is looped. None where it is left out.

    Raises:
      DataError: there are too few, and `short` is "error"; or there are none.
    """
    spare = count - self.span
    if count < 1:
      raise errors.DataError(f"{item_id}: no frame")
    if spare < 0 and self.short == "error":
      raise errors.DataError(
        f"{item_id}: {count} frames, the clip rule takes {self.frames} at a stride of"
        f" {self.stride}, which needs {self.span}; short='discard' leaves such videos out,"
        " short='loop' repeats them"
      )
    if spare < 0 and self.short == "discard":
      return None
    steps = np.arange(self.frames) * self.stride
    if spare < 0:
      return steps % count
    if self.start == "centre":
      return steps + spare // 2
    if self.start == "random":
      return steps + chance(self.seed, item_id) % (spare + 1)
    return steps


@dataclasses.dataclass(frozen=True)
class Clip:
  """The frames that a rule takes from one video.

  Attributes:
    frames_THWC: (T, H, W, 3) uint8 RGB, upright.
    fps: of these frames, so the video's own rate over the stride; None where it is not known.
    decoder: what made pixels of the file, with its version.
  """

  frames_THWC: np.ndarray
  fps: float | None
  decoder: str


class Source(Protocol):
  """Where the frames of one video are; nothing is opened before `read`."""

  @property
  def place(self) -> str:
    """The file or folder, for messages."""
    ...

  def read(self, rule: ClipRule, item_id: str) -> Clip | None:
    """As `read_clip`."""
    ...


@dataclasses.dataclass(frozen=True)
class Item:
  """One video of a data set.

  Attributes:
    id: unique in the data set and stable; the name of the file without its suffix.
    label: name of its class, as the data set writes it; None where it has none.
    captions: in the order of the data set, repeated ones included.
    source: where its frames are.
  """

  id: str
  label: str | None
  captions: tuple[Caption, ...]
  source: Source


def read_clip(item: Item, rule: ClipRule) -> Clip | None:
  """Reads the frames that `rule` takes from a video; decodes no more than it has to.

  Returns:
    The clip, or None if the video is too short and the rule discards such.

  Raises:
    DataError: the video cannot be read, or something in it is damaged, or it is too short and the
      rule says that this is an error; the message names the file.
    ValueError: the rule asks for frames per second, and nothing says how many the source has.
  """
  return item.source.read(rule, item.id)


def chance(seed: int, *names: str) -> int:
  """A random number of 63 bits that depends on the seed and the names alone."""
  text = "\0".join((str(seed), *names))
  return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def draw_captions(items: Sequence[Item], seed: int) -> dict[str, int]:
  """Draws one caption for each video: `id` -> `sen_id`.

  The draw of one video depends on the seed, its id and its captions, not on the other videos.

  Raises:
    ValueError: a video has no caption.
  """
  without = [item.id for item in items if not item.captions]
  if without:
    raise ValueError(f"{listed(without)} without a caption: none can be drawn")
  return {
    item.id: item.captions[chance(seed, item.id, "caption") % len(item.captions)].sen_id
    for item in items
  }


def listed(ids: Sequence[str], what: str = "videos") -> str:
  """How many, and the first few by name."""
  return f"{len(ids)} {what} ({', '.join(ids[:5])}{', ...' if len(ids) > 5 else ''})"
