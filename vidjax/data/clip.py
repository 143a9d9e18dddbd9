"""What every data set looks like to the loader: a list of clips that are opened by number.

A `Source` is one data set on disk, or one that is made up (`vidjax.data.sources`). It says how long
its clips are before any of them is read, so that a loader knows before its first step which clips
hold a window, and it opens one clip at a time.

Legend: N clips, T frames, H W height and width in pixels, C colours (RGB).
"""

from collections.abc import Callable, Mapping
import dataclasses
from typing import Protocol

import numpy as np


@dataclasses.dataclass(frozen=True)
class Clip:
  """One clip, or one picture, opened for reading.

  Attributes:
    clip_id: unique within its data set, and stable.
    source: path of the file it comes from, for people.
    duration_s: seconds from the first frame to the end of the last; infinite for a picture, which
      is shown at every moment.
    read: `(moments_s, size) -> frames`. `moments_s` is (T,) float64, ascending, in seconds from the
      first frame; the frame at a moment is the last one whose time stamp is at or before it
      (`vidjax.data.video`). `size` is (height, width) of the view. The result is (T, H, W, C)
      uint8, upright, scaled to `transforms.cover_size` of it and not yet cut; cached latents come
      as they were stored, (T, h, w, 2 Z) float16.
    times_s: `() -> (T,) float64`, time stamps of all frames, from the first one on.
    captions: name of the captioner -> text.
    texts: name of the captioner -> (L, X) float16, what the text encoder made of its text; "" is
      that of no text. Empty where it was not cached.
    motion_score: mean Farneback flow in pixels per second on frames of short side 16; NaN where it
      is not known.
    scores: further numbers by name.
  """

  clip_id: str
  source: str
  duration_s: float
  read: Callable[[np.ndarray, tuple[int, int]], np.ndarray]
  times_s: Callable[[], np.ndarray]
  captions: Mapping[str, str] = dataclasses.field(default_factory=dict)
  texts: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
  motion_score: float = float("nan")
  scores: Mapping[str, float | None] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Listing:
  """What is known of all clips of a source without opening them.

  Attributes:
    durations_s: (N,) float64; NaN where a clip cannot be read, infinite for a picture.
    fps: (N,) float64, mean frame rate; infinite for what can be shown at any rate.
    sizes: (N, 2) int32, upright height and width; 0 where it is not known.
    digest: hash (hex) of all clips in their order, captions and labels included: what tells a
      resumed run that its data are still the same.
    chosen: (N,) bool, which clips are to be shown at all; None for all.

  It is for whoever opens the data set. Decoding processes, to which a source is sent, need none of
  it, and of a hundred million clips it is gigabytes: a pickled listing is empty.
  """

  durations_s: np.ndarray
  fps: np.ndarray
  sizes: np.ndarray
  digest: str
  chosen: np.ndarray | None = None

  def __len__(self) -> int:
    return len(self.durations_s)

  def __reduce__(self) -> tuple:
    return empty_listing, (self.digest,)


def empty_listing(digest: str = "") -> Listing:
  """A listing of no clips."""
  return Listing(np.zeros(0), np.zeros(0), np.zeros((0, 2), np.int32), digest)


class Source(Protocol):
  """A data set: clips by number.

  It is sent to the decoding processes, so it pickles small and opens its files when it is asked.
  Its listing does not travel with it.
  Whatever is wrong with the data set as a whole (no folder, a missing shard, another version) is
  raised when it is made, as `FileNotFoundError` or `DataError`; what is wrong with one clip, when
  that is opened or read, as one of `vidjax.data.samples.DAMAGE`.

  Attributes:
    path: as the user gave it, for messages.
    listing: of all clips.
  """

  path: str
  listing: Listing

  def __getitem__(self, number: int) -> Clip:
    """Opens clip `number`."""
    ...

  def name(self, number: int) -> str:
    """Says where clip `number` is, for messages about one that cannot be opened."""
    ...
