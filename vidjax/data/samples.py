"""From the index of a sample to the sample: data set, clip, window, pixels, caption.

A clip that cannot be read is replaced by another one, chosen by a hash of (seed, index), so that
every host and every repetition replaces it by the same one and batches keep their size.

Legend: T frames, H W height and width in pixels, C colours (RGB).
"""

from collections.abc import Mapping
import dataclasses

import av.error
import numpy as np

from vidjax import errors
from vidjax.data import captions, mixture, order, transforms, windows
from vidjax.data.clip import Clip, Source
from vidjax.data.config import SetConfig

MAX_SUBSTITUTES = 8  # for one sample; data of which that many in a row fail are broken

# What damaged data raise: checksums, files, records' fields, the video's bytes, its frames.
DAMAGE = (RuntimeError, OSError, errors.DataError, av.error.FFmpegError, ValueError)


@dataclasses.dataclass(frozen=True)
class View:
  """How a window is shown.

  Attributes:
    grids: of frames; one is drawn for each sample.
    height: pixels.
    width: pixels.
    scores: of the clips, that samples bring along.
  """

  grids: tuple[windows.Grid, ...]
  height: int
  width: int
  scores: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Member:
  """One data set of a stream.

  Attributes:
    source: the data set.
    count: how many of its clips are used.
    usable: their numbers, or None if all are.
    config: how captions are drawn, and whether clips are mirrored.
  """

  source: Source
  count: int
  usable: np.ndarray | None
  config: SetConfig

  def number(self, clip: int) -> int:
    """Number in the source of usable clip `clip`."""
    return clip if self.usable is None else int(self.usable[clip])


@dataclasses.dataclass(frozen=True)
class Sample:
  """One window of one clip.

  Attributes:
    frames: uint8 RGB (T, H, W, C), or cached latents as stored.
    fps: frames per second of the window.
    caption: text drawn among the clip's captions, "" if it has none.
    text: (L, X) float16, its embedding where it is cached.
    motion_score: of the clip as curated (pixels per second); 0 where it is not known.
    scores: those that the view asks for.
    index: of the sample in its stream.
    clip_id: of the clip that is shown.
    source: path of its source video, relative to the data set.
    start_s: start of the window in the clip, in seconds.
    rejected: (clip, error) of each clip that should have been shown and could not be read.
  """

  frames: np.ndarray
  fps: float
  caption: str
  motion_score: float
  scores: Mapping[str, float]
  index: int
  clip_id: str
  source: str
  start_s: float
  rejected: tuple[tuple[str, str], ...] = ()
  text: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class SampleStream:
  """An endless stream of samples of some data sets in one view; a pure function of the index.

  Attributes:
    members: the data sets.
    turns: whose turn it is.
    view: how a window is shown.
    seed: of this stream.
  """

  members: tuple[Member, ...]
  turns: mixture.Turns
  view: View
  seed: int

  def at(self, index: int) -> Sample:
    """Sample `index` of the training stream: epochs in random order, random windows.

    Raises:
      DataError: the clip and `MAX_SUBSTITUTES` substitutes in a row cannot be read.
    """
    member, clip = self.clip(index)
    place = order.uniform(self.seed, index, order.Draw.WINDOW)
    return self._first_readable(index, member, clip, place)

  def clip(self, index: int) -> tuple[int, int]:
    """Which data set sample `index` is of, and which of its usable clips."""
    member, own = self.turns(index)
    return member, order.clip_at(own, self.members[member].count, self._seed_of(member))

  def fixed(self, number: int, count: int) -> Sample:
    """Window `number` of the `count` that stand for all data sets in an evaluation.

    Clips take turns in an order of the seed's own; the windows of one clip are spread evenly over
    it, and the only window of a clip is its middle.

    Raises:
      DataError: as in `at`.
    """
    member, own = self.turns(number)
    own_count, clips = self.turns.count(member, count), self.members[member].count
    turn, position = divmod(own, clips)
    turns = -(-(own_count - position) // clips)  # windows that this clip gives in all
    key = order.key(self._seed_of(member), order.Draw.EVALUATION)
    clip = order.permute(position, clips, key)
    return self._first_readable(number, member, clip, (turn + 0.5) / turns)

  def _seed_of(self, member: int) -> int:
    return order.stream_seed(self.seed, member)

  def _first_readable(self, index: int, member: int, clip: int, place: float) -> Sample:
    of = self.members[member]
    rejected: dict[int, tuple[str, str]] = {}
    for attempt in range(MAX_SUBSTITUTES + 1):
      candidate = clip
      if attempt:
        candidate = order.clip_at(index, of.count, self._seed_of(member), attempt)
      if candidate in rejected:
        continue
      number = of.number(candidate)
      name = of.source.name(number)
      try:
        opened = of.source[number]
        name = f"{opened.clip_id} ({name})"
        return self._sample(opened, of.config, index, place, tuple(rejected.values()))
      except DAMAGE as error:
        rejected[candidate] = (name, f"{type(error).__name__}: {error}")
    listing = "; ".join(f"{name}: {error}" for name, error in rejected.values())
    raise errors.DataError(
      f"{of.source.path}: cannot read sample {index}, nor any of {MAX_SUBSTITUTES} substitutes:"
      f" {listing}"
    )

  def _sample(
    self,
    clip: Clip,
    config: SetConfig,
    index: int,
    place: float,
    rejected: tuple[tuple[str, str], ...],
  ) -> Sample:
    def chance(draw: order.Draw) -> float:
      return order.uniform(self.seed, index, draw)

    grids, size = self.view.grids, (self.view.height, self.view.width)
    grid = grids[int(len(grids) * chance(order.Draw.FPS))]
    moments_s, fps = grid.place(clip, place)
    name = captions.draw(clip.captions, config.captions, chance(order.Draw.CAPTION))
    caption = clip.captions.get(name, "")
    frames = clip.read(moments_s, size)
    if frames.dtype == np.uint8:
      frames = transforms.crop(frames, size)
      may_flip = config.flip and not captions.names_sides(caption)
      if may_flip and chance(order.Draw.FLIP) < 0.5:
        frames = transforms.mirror(frames)
    return Sample(
      frames=frames,
      fps=fps,
      caption=captions.fill(config.template, caption),
      text=clip.texts[name] if clip.texts else None,
      motion_score=0.0 if np.isnan(clip.motion_score) else clip.motion_score,
      scores={name: _score(clip, name) for name in self.view.scores},
      index=index,
      clip_id=clip.clip_id,
      source=clip.source,
      start_s=float(moments_s[0]),
      rejected=rejected,
    )


def _score(clip: Clip, name: str) -> float:
  value = clip.scores.get(name)
  if value is None:
    raise errors.DataError(f"the clip has no score {name!r}, only {sorted(clip.scores)}")
  return float(value)
