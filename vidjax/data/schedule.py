"""Which streams feed which step: views by shape, and pictures beside videos.

Arrays of one compiled program have one shape, so a batch is of one view; views take turns by their
share of the data. Pictures are steps of their own (`data.images.every_steps`) or rows of each batch
(`data.images.rows`). All of it is a function of the number of the step, so all hosts agree.
"""

from collections.abc import Sequence
import dataclasses
import math

from absl import logging
import numpy as np

from vidjax import errors
from vidjax.data import captions, mixture, order, sources, transforms, windows
from vidjax.data.clip import Source
from vidjax.data.config import DataConfig, SetConfig
from vidjax.data.samples import Member, SampleStream, View


@dataclasses.dataclass(frozen=True)
class Part:
  """Rows of a global batch that come from one stream.

  Attributes:
    stream: number of the stream in its group.
    images: whether they are the pictures beside the videos.
    first: index of the first row in the stream.
    rows: how many rows.
  """

  stream: int
  images: bool
  first: int
  rows: int


@dataclasses.dataclass(frozen=True)
class Group:
  """Streams of one kind, one for each view, that take turns step by step."""

  streams: tuple[SampleStream, ...]
  turns: mixture.Turns


@dataclasses.dataclass(frozen=True)
class Schedule:
  """What each step is fed.

  Attributes:
    videos: streams of windows.
    images: streams of the pictures beside them, if there are any.
    every_steps: each step of this number shows pictures alone; 0 for none.
    image_rows: rows of each batch that are pictures.
  """

  videos: Group
  images: Group | None
  every_steps: int = 0
  image_rows: int = 0

  @property
  def groups(self) -> list[Group]:
    """Both groups, or the only one."""
    return [self.videos] if self.images is None else [self.videos, self.images]

  @property
  def clips(self) -> int:
    """Usable clips of all data sets."""
    streams = [stream for group in self.groups for stream in group.streams]
    return sum(member.count for stream in streams for member in stream.members)

  def stream(self, part: Part) -> SampleStream:
    """The stream that a part is of."""
    group = self.images if part.images else self.videos
    assert group is not None
    return group.streams[part.stream]

  def parts(self, first_sample: int, batch: int) -> list[Part]:
    """The parts of the batch of `batch` rows whose first sample is number `first_sample`.

    A run counts its samples, not its steps, and goes on at any of them with any batch size. Its
    streams then go on exactly where they were if there is one of them; of several, each may repeat
    or skip what is in a few batches.
    """
    step, offset = divmod(first_sample, batch)
    if self.every_steps:
      image_steps, at = divmod(step, self.every_steps)
      images = at == self.every_steps - 1
      return [
        self._part(images, image_steps if images else step - image_steps, offset, batch, batch)
      ]
    if self.image_rows:
      videos = batch - self.image_rows
      return [
        self._part(False, step, offset, videos, batch),
        self._part(True, step, offset, self.image_rows, batch),
      ]
    return [self._part(False, step, offset, batch, batch)]

  def _part(self, images: bool, turn: int, offset: int, rows: int, batch: int) -> Part:
    group = self.images if images else self.videos
    assert group is not None
    stream, own = group.turns(turn)
    return Part(stream, images, own * rows + offset * rows // batch, rows)


def open_schedule(config: DataConfig, seed: int, batch: int | None = None) -> Schedule:
  """Opens all data sets and finds the clips that hold a window.

  Args:
    config: what to read.
    seed: of the run.
    batch: rows of a global batch, to be checked against the rows of pictures.

  Raises:
    ValueError: settings that contradict each other.
    FileNotFoundError, DataError: see `vidjax.data.sources.open_source`; or nothing is left.
  """
  images = config.images
  if batch is not None and images.rows >= batch:
    raise ValueError(f"data.images.rows={images.rows} leaves no video in batch_size={batch}")
  grids: list[windows.Grid]
  if config.stride:
    grids = [windows.StrideGrid(config.num_frames, config.stride)]
  else:
    rates = config.fps_choices or (config.fps,)
    grids = [windows.WindowGrid(config.num_frames, fps) for fps in rates]
  views = [
    View(tuple(grids), height, width, config.scores)
    for height, width in config.buckets or ((config.height, config.width),)
  ]
  videos = _open_group(config.members, views, seed, 0)
  if not (images.every_steps or images.rows):
    return Schedule(videos, None)
  size = (images.height or config.height, images.width or config.width)
  still = (windows.WindowGrid(1, config.fps),)
  image_views = [View(still, *shape) for shape in images.buckets or (size,)]
  group = _open_group(images.sets or config.members, image_views, seed, 1)
  return Schedule(videos, group, images.every_steps, images.rows)


def _open_group(
  configs: Sequence[SetConfig], views: Sequence[View], seed: int, group: int
) -> Group:
  for number, one in enumerate(configs):
    captions.check(one.captions, one.template)
    if not one.weight > 0:
      raise ValueError(
        f"data.sets[{number}].weight={one.weight}: leave the set out, or more than 0"
      )
  opened = [sources.open_source(one) for one in configs]
  numbers = [_usable(source, one, views[0]) for source, one in zip(opened, configs, strict=True)]
  sizes = [(view.height, view.width) for view in views]
  streams, weights = [], []
  for bucket, view in enumerate(views):
    members, shares = [], []
    for source, one, usable in zip(opened, configs, numbers, strict=True):
      chosen = usable
      if len(views) > 1:
        shapes = transforms.nearest_shape(source.listing.sizes[usable], sizes)
        chosen = usable[shapes == bucket]
      if len(chosen):
        everything = len(chosen) == len(source.listing)
        members.append(Member(source, len(chosen), None if everything else chosen, one))
        shares.append(one.weight * len(chosen) / len(usable))
    if members:
      own_seed = order.stream_seed(seed, group, len(streams))
      streams.append(SampleStream(tuple(members), mixture.turns(shares), view, own_seed))
      weights.append(math.fsum(shares))
    else:
      logging.info("no clip has the shape of %d x %d (height x width)", *sizes[bucket])
  return Group(tuple(streams), mixture.turns(weights))


def _usable(source: Source, config: SetConfig, view: View) -> np.ndarray:
  """Numbers of the clips that hold every window of the view, uint32; says what is left out."""
  listing = source.listing
  fits = np.all([grid.fits(listing) for grid in view.grids], axis=0)
  if listing.chosen is not None:
    logging.info("%d of %d clips are chosen", listing.chosen.sum(), len(listing))
    fits &= listing.chosen
  unreadable = int(np.isnan(listing.durations_s).sum())
  name = source.path or config.kind
  needs = "; or ".join(grid.needs for grid in view.grids)
  if not fits.any():
    longest = np.nanmax(listing.durations_s, initial=0.0)
    fastest = np.nanmax(listing.fps, initial=0.0)
    raise errors.DataError(
      f"{name}: no clip of the split {config.split!r} holds a window of {needs}; the longest of"
      f" {len(fits)} clips has {longest:.2f} s, the fastest {fastest:.2f} fps ({unreadable} are"
      " unreadable). Lower data.num_frames, raise data.fps or curate longer shots"
    )
  if not fits.all():
    logging.info(
      "%s: %d of %d clips of the split %r are used; %d are too short or too slow for %s, %d are"
      " unreadable",
      *(name, fits.sum(), len(fits), config.split),
      *(len(fits) - fits.sum() - unreadable, needs, unreadable),
    )
  return np.flatnonzero(fits).astype(np.uint32)
