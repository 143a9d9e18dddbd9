"""From a global sample index to a training sample: clip, window, pixels, caption.

A clip that cannot be read is replaced by another one, chosen by a hash of (seed, index), so that
every host and every repetition replaces it by the same one and batches keep their size.

Legend: T frames, H W height and width in pixels, C colours (RGB).
"""

import dataclasses

import av.error
import numpy as np

from vidjax import errors
from vidjax.data import order, schema, sources, transforms, video, windows

MAX_SUBSTITUTES = 8  # for one sample; data of which that many in a row fail are broken

# What damaged data raise: the shard's checksum, the record's fields, the video's bytes, its frames.
_DAMAGE = (RuntimeError, errors.DataError, av.error.FFmpegError, ValueError)


@dataclasses.dataclass(frozen=True)
class View:
  """How a window is shown: frames on a time grid, pixels, mirroring."""

  grid: windows.WindowGrid
  height: int
  width: int
  flip: bool


@dataclasses.dataclass(frozen=True)
class Sample:
  """One window of one clip.

  Attributes:
    video_THWC: uint8 RGB frames.
    caption: text drawn among the clip's captions, "" if it has none.
    motion_score: of the clip as curated (pixels per second); 0 where it is not known.
    index: global sample index.
    clip_id: of the clip that is shown.
    source: path of its source video, relative to the curated folder.
    start_s: start of the window in the clip, in seconds.
    rejected: (clip, error) of each clip that should have been shown and could not be read.
  """

  video_THWC: np.ndarray
  caption: str
  motion_score: float
  index: int
  clip_id: str
  source: str
  start_s: float
  rejected: tuple[tuple[str, str], ...] = ()


@dataclasses.dataclass(frozen=True)
class SampleReader:
  """Reads samples of the stream that `seed` makes of `source`; a pure function of the index."""

  source: sources.ClipSource
  view: View
  seed: int

  def stream(self, index: int) -> Sample:
    """Sample `index` of the training stream: epochs in random order, random windows.

    Raises:
      DataError: the clip and `MAX_SUBSTITUTES` substitutes in a row cannot be read.
    """
    place = order.uniform(self.seed, index, order.Draw.WINDOW)
    return self._first_readable(index, self._clip(index), place)

  def fixed(self, number: int, count: int) -> Sample:
    """Window `number` of the `count` that stand for the whole source in an evaluation.

    Clips take turns in an order of the seed's own; the windows of one clip are spread evenly over
    it, and the only window of a clip is its middle.

    Raises:
      DataError: as in `stream`.
    """
    turn, position = divmod(number, len(self.source))
    turns = -(-(count - position) // len(self.source))  # windows that this clip gives in all
    clip = order.permute(position, len(self.source), order.key(self.seed, order.Draw.EVALUATION))
    return self._first_readable(number, clip, (turn + 0.5) / turns)

  def _clip(self, index: int, attempt: int = 0) -> int:
    return order.clip_at(index, len(self.source), self.seed, attempt)

  def _first_readable(self, index: int, clip: int, place: float) -> Sample:
    rejected: dict[int, tuple[str, str]] = {}
    for attempt in range(MAX_SUBSTITUTES + 1):
      candidate = self._clip(index, attempt) if attempt else clip
      if candidate in rejected:
        continue
      name = self.source.name(candidate)
      try:
        record = self.source[candidate]
        name = f"{record.clip_id} ({name})"
        return self._sample(record, index, place, tuple(rejected.values()))
      except _DAMAGE as error:
        rejected[candidate] = (name, f"{type(error).__name__}: {error}")
    listing = "; ".join(f"{name}: {error}" for name, error in rejected.values())
    raise errors.DataError(
      f"{self.source.path}: cannot read sample {index}, nor any of {MAX_SUBSTITUTES} substitutes:"
      f" {listing}"
    )

  def _sample(
    self, record: schema.ClipRecord, index: int, place: float, rejected: tuple[tuple[str, str], ...]
  ) -> Sample:
    start_s = self.view.grid.start_s(record.num_frames / record.fps, place)
    video_THWC = video.read_frames_at(record.video, self.view.grid.moments(start_s))
    video_THWC = transforms.cover_crop(video_THWC, self.view.height, self.view.width)
    if self.view.flip and order.uniform(self.seed, index, order.Draw.FLIP) < 0.5:
      video_THWC = transforms.mirror(video_THWC)
    captions = [text for _, text in sorted(record.captions.items())]
    chosen = int(len(captions) * order.uniform(self.seed, index, order.Draw.CAPTION))
    return Sample(
      video_THWC=video_THWC,
      caption=captions[chosen] if captions else "",
      motion_score=0.0 if np.isnan(record.motion_score) else record.motion_score,
      index=index,
      clip_id=record.clip_id,
      source=record.source,
      start_s=start_s,
      rejected=rejected,
    )
