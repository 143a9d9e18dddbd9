"""Videos in a TFDS data set that stores them as frames; no record is opened before it is read.

Legend: H W height and width in pixels, C colours (RGB).
"""

import dataclasses

from vidjax import errors, storage
from vidjax.data import records
from vidjax.data.sources import tfds, tfds_features
from vidjax.evaluation.datasets import stored
from vidjax.evaluation.datasets.items import Clip, ClipRule, Item

_MAGIC = {b"\xff\xd8": "JPEG", b"\x89P": "PNG"}


@dataclasses.dataclass(frozen=True)
class Record:
  """A video that is one record.

  Attributes:
    path: of the shard, local or remote.
    number: of the record in it.
    feature: that holds the frames.
    fps: None where it is not known.
  """

  path: str
  number: int
  feature: tfds_features.Feature
  fps: float | None = None

  @property
  def place(self) -> str:
    """The shard, and the number of the record."""
    return f"{self.path}[{self.number}]"

  def read(self, rule: ClipRule, item_id: str) -> Clip | None:
    """See `vidjax.evaluation.datasets.items.read_clip`."""
    frames = self._frames()
    kind = _kind(frames)
    decoder = f"{stored.PILLOW} ({kind} frames of TFDS)" if kind != "raw" else "TFDS (raw frames)"

    def frame(number: int):
      try:
        return frames[number]
      except errors.DataError as error:
        raise errors.DataError(f"{self.place}: frame {number}: {error}") from error

    return stored.of_frames(self.place, len(frames), frame, self.fps, rule, item_id, decoder)

  def kind(self) -> str:
    """How frames are encoded: "JPEG", "PNG" or "raw"."""
    return _kind(self._frames())

  def _frames(self) -> tfds_features.Frames:
    try:
      example = tfds_features.parse(records.read(self.path, self.number))
      return tfds_features.frames(example, self.feature)
    except (errors.DataError, RuntimeError) as error:
      raise errors.DataError(f"{self.place} cannot be read: {error}") from error


@dataclasses.dataclass(frozen=True)
class Records:
  """A split of a TFDS data set.

  Attributes:
    name: its config and version, "ucf101_1_256/2.0.0".
    encoding: of the frames of its first record, which is read for that.
    items: all records, in their order. Classes are inside the records, which are not opened here,
      so they have none.
  """

  name: str
  encoding: str
  items: tuple[Item, ...]


def open_records(path: str, split: str, fps: float | None) -> Records:
  """Opens the frames of a TFDS data set.

  Args:
    path: folder of one version, with `dataset_info.json`.
    split: as TFDS understands it.
    fps: of the frames; None where it is not known.

  Raises:
    FileNotFoundError: there is no such folder.
    DataError: as `vidjax.data.sources.tfds.open_source`; or no feature holds frames of videos.
  """
  info = tfds.read_info(path)
  features = tfds_features.read_features(path)
  shown = [f for f in features.values() if f.shows == "frames"]
  if len(shown) != 1:
    raise errors.DataError(
      f"{path}: {len(shown)} features hold frames of videos, of {', '.join(features)}; UCF-101 has"
      " one, 'video'"
    )
  places = [
    (shard.file, shard.first + i)
    for shard in tfds.find_shards(path, info, split)
    for i in range(shard.count)
  ]
  items = tuple(
    Item(f"{storage.Path(file).name}[{i}]", None, (), Record(file, i, shown[0], fps))
    for file, i in places
  )
  name = f"{info.get('configName') or info['name']}/{info.get('version', '')}".rstrip("/")
  return Records(name, Record(*places[0], shown[0]).kind(), items)


def _kind(frames: tfds_features.Frames) -> str:
  return _MAGIC.get(frames.encoded[0][:2], "encoded") if frames.encoded else "raw"
