"""What is read, and how it is shown: the `data` part of a training config.

Kept apart from `vidjax.config`, so that decoding processes can import it without JAX.
"""

from collections.abc import Mapping
import dataclasses
from typing import Any

KINDS = ("shards", "tfds", "videos", "images", "image_text", "latents", "procedural")


@dataclasses.dataclass(frozen=True)
class SetConfig:
  """One data set.

  Attributes:
    path: its folder.
    kind: what is in there, a module of `vidjax.data.sources`.
    split: of a data set that has splits.
    weight: share of the samples that it gives, relative to the weights of the other sets.
    captions: name of a captioner -> how often its text is drawn, relative to the others; names that
      are not listed are not used. Empty: all that a clip has, each as often as the others.
    template: what becomes of a caption; "{caption}" stands for it.
    flip: mirror half of the samples, but none whose caption tells left from right; off since a text
      can also mean what it does not say, and writing in the picture is mirrored, too.
    options: what else the kind of data set wants to know.
  """

  path: str = ""
  kind: str = "shards"
  split: str = "train"
  weight: float = 1.0
  captions: Mapping[str, float] = dataclasses.field(default_factory=dict)
  template: str = "{caption}"
  flip: bool = False
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class ImagesConfig:
  """Single pictures beside the videos of a run; at most one of the two numbers is set.

  Attributes:
    every_steps: each step of this number shows pictures alone (PixelDance, 2311.10982, sec. 4.1:
      8); 0 for never.
    rows: so many rows of each batch are pictures, the others are videos.
    sets: where they come from; empty: single frames of the videos.
    height: pixels; 0 for that of the videos, likewise the others.
    width: pixels.
    buckets: see `DataConfig`.
  """

  every_steps: int = 0
  rows: int = 0
  sets: tuple[SetConfig, ...] = ()
  height: int = 0
  width: int = 0
  buckets: tuple[tuple[int, int], ...] = ()

  def __post_init__(self) -> None:
    if self.every_steps and self.rows:
      raise ValueError("data.images.every_steps and data.images.rows: set one of them")
    if self.every_steps < 0 or self.every_steps == 1 or self.rows < 0:
      raise ValueError(
        f"data.images.every_steps={self.every_steps}, data.images.rows={self.rows}: every_steps is"
        " 0 or at least 2 (for pictures alone set data.num_frames=1), rows is not negative"
      )


@dataclasses.dataclass(frozen=True)
class DataConfig:
  """What is read: windows of `num_frames` frames, scaled to cover the view and centre-cropped.

  Attributes:
    path: folder of the data set, as `vidjax curate` writes it; `kind`, `split`, `captions`,
      `template`, `flip` and `options` are its as in `SetConfig`.
    sets: several data sets instead of that one.
    num_frames: frames of a window; 1 for single frames (image stages).
    fps: frames per second of a window.
    fps_choices: drawn for each sample, instead of `fps`; the condition is told which it is.
    stride: take every n-th frame of the clip whatever its rate, instead of by `fps`; 0 for not.
    height: pixels of the view.
    width: pixels of the view.
    buckets: (height, width) of several views; a clip is shown in the one whose shape is nearest to
      its own, and a batch holds clips of one of them. Empty: one view, `height` x `width`.
    scores: names of scores of the clips that a batch brings along, each as `NAME_B`.
    images: pictures beside the videos.
    num_workers: decoding processes per host; 0 decodes in the training process.
    timeout_s: seconds without a batch after which the decoding processes are taken to hang, killed
      and started again.
    max_rejected_share: of the clips, that may turn out unreadable before the run stops; a single
      one is always borne.
    accept_changes: go on from a checkpoint although the data are not those that it was trained on.
  """

  path: str = ""
  kind: str = "shards"
  split: str = "train"
  captions: Mapping[str, float] = dataclasses.field(default_factory=dict)
  template: str = "{caption}"
  flip: bool = False
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  sets: tuple[SetConfig, ...] = ()
  num_frames: int = 16
  fps: float = 4.0
  fps_choices: tuple[float, ...] = ()
  stride: int = 0
  height: int = 256
  width: int = 384
  buckets: tuple[tuple[int, int], ...] = ()
  scores: tuple[str, ...] = ()
  images: ImagesConfig = dataclasses.field(default_factory=ImagesConfig)
  num_workers: int = 8
  timeout_s: float = 600.0
  max_rejected_share: float = 0.01
  accept_changes: bool = False

  @property
  def members(self) -> tuple[SetConfig, ...]:
    """The data sets of the videos: `sets`, or the one that `path` and its neighbours name.

    Raises:
      ValueError: there are none, or both.
    """
    if self.sets and self.path:
      raise ValueError("data.path and data.sets: set one of them")
    if self.sets:
      return self.sets
    if not self.path and self.kind != "procedural":
      raise ValueError("data.path is empty: set --config.data.path=DIR to a folder of shards")
    one = {
      f.name: getattr(self, f.name) for f in dataclasses.fields(SetConfig) if f.name != "weight"
    }
    return (SetConfig(**one),)
