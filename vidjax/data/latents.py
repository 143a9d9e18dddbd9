"""What cached latents are on disk: the only place where their record fields are named.

A folder of them (`vidjax cache_latents` writes it, `vidjax.data.sources.latents` reads it) holds

  latents.json                     the `Manifest`: what made them, and what view they are of
  no_text.npy                      (L, X) float16, what the text encoder makes of no text
  latents-SPLIT.array_record-...   one `LatentRecord` for each clip (`vidjax.data.records`)
  index-SPLIT.npz                  the `Index`: all that is known without opening a record
  rejects-SPLIT.json               clips that could not be read, and why

A record holds the Gaussians that the autoencoder's encoder gives, before any is drawn and before
scaling: what training draws from them is then new in each epoch, as it is from pixels.

Where a text encoder was given, a record holds what it makes of each of its texts, too.

Legend: N clips, T frames, h w latent height and width, Z latent channels, K texts, L tokens,
X channels of a text's embedding.
"""

from collections.abc import Mapping
import dataclasses
import functools
import hashlib
import io
import itertools
import json
import math
from typing import Any

import numpy as np

from vidjax import errors, packed, storage
from vidjax.data import records
from vidjax.data.video import TIME_TOLERANCE_S

DATASET_NAME = "latents"
DATASET_VERSION = "1.0.0"
SCHEMA_VERSION = 2
MANIFEST = "latents.json"
NO_TEXT = "no_text.npy"
_NPY_HEADER = 4096  # more than NumPy writes in front of a small array
CROP = "scaled to cover the view, centre cut out"  # `vidjax.data.transforms`, the one policy
WRITER = "vidjax cache_latents"

# Kind of each field in the Example: b bytes, s text (UTF-8), i int64, f float32.
FIELDS: records.Fields = {
  "clip_id": "s",
  "source": "s",
  "moments": "b",
  "num_frames": "i",
  "latent_height": "i",
  "latent_width": "i",
  "moment_channels": "i",
  "fps": "f",
  "height": "i",
  "width": "i",
  "duration_s": "f",
  "motion_score": "f",
  "captions_json": "s",
  "scores_json": "s",
  "text_embeddings": "b",
  "made_by": "s",
}


@dataclasses.dataclass(frozen=True)
class LatentRecord:
  """One clip as stored in a shard.

  Attributes:
    clip_id: as in the data set of the pixels.
    source: as in the data set of the pixels.
    moments: float16, little-endian, (T, h, w, 2 Z): means, then log-variances, of each latent.
    num_frames: T; frame k is the one shown at k / `fps` seconds of the clip.
    latent_height: h.
    latent_width: w.
    moment_channels: 2 Z.
    fps: frames per second of the stored grid.
    height: of the view in pixels.
    width: of the view in pixels.
    duration_s: of the clip; infinite for a picture, which has one frame.
    motion_score: as in the data set of the pixels.
    captions_json: JSON object, name of the captioner -> text.
    scores_json: JSON object, name -> number or null.
    made_by: `Manifest.digest`: which run of which autoencoder this record is of.
    text_embeddings: float16, little-endian, (K, L, X), the texts in the order of their names; empty
      if no text encoder was given.
  """

  clip_id: str
  source: str
  moments: bytes
  num_frames: int
  latent_height: int
  latent_width: int
  moment_channels: int
  fps: float
  height: int
  width: int
  duration_s: float
  motion_score: float
  captions_json: str
  scores_json: str
  made_by: str
  text_embeddings: bytes = b""

  def texts(self, manifest: "Manifest") -> dict[str, np.ndarray]:
    """Embeddings (L, X) float16 by the name of the text, without a copy; none if none are cached.

    Raises:
      DataError: there are more or fewer bytes than the shape says.
    """
    if not manifest.text:
      return {}
    names = sorted(json.loads(self.captions_json))
    shape = (len(names), manifest.text["length"], manifest.text["width"])
    if len(self.text_embeddings) != 2 * math.prod(shape):
      raise errors.DataError(
        f"clip {self.clip_id}: the field 'text_embeddings' has {len(self.text_embeddings)} bytes,"
        f" float16 of shape {shape} has {2 * math.prod(shape)}"
      )
    embeddings_KLX = np.frombuffer(self.text_embeddings, "<f2").reshape(shape)
    return dict(zip(names, embeddings_KLX, strict=True))

  def frames(self) -> np.ndarray:
    """The moments as (T, h, w, 2 Z) float16, without a copy.

    Raises:
      DataError: there are more or fewer bytes than the shape says.
    """
    shape = (self.num_frames, self.latent_height, self.latent_width, self.moment_channels)
    if len(self.moments) != 2 * math.prod(shape):
      raise errors.DataError(
        f"clip {self.clip_id}: the field 'moments' has {len(self.moments)} bytes, float16 of shape"
        f" {shape} has {2 * math.prod(shape)}"
      )
    return np.frombuffer(self.moments, "<f2").reshape(shape)


@dataclasses.dataclass(frozen=True)
class Manifest:
  """What made the latents of a folder; the same for all its splits.

  Attributes:
    vae_sha256: of the encoder's weights; the decoder plays no part (`vidjax.latent_sets`).
    vae: its config.
    scaling_factor: what latents are multiplied with after they are drawn.
    height: of the view in pixels.
    width: of the view in pixels.
    fps: frames per second of the stored grid.
    crop: how frames were fitted into the view.
    text: what made the texts' embeddings: `sha256` of the encoder's weights, its `config`, `sha256`
      of the tokenizer's files, `length` (L) and `width` (X); empty if there are none.
    schema_version: of this file and of the records.
  """

  vae_sha256: str
  vae: Mapping[str, Any]
  scaling_factor: float
  height: int
  width: int
  fps: float
  crop: str = CROP
  text: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  schema_version: int = SCHEMA_VERSION

  @property
  def digest(self) -> str:
    """Short hash of all fields, by which a record says where it belongs."""
    return hashlib.sha256(records.to_json(self.as_dict()).encode()).hexdigest()[:16]

  def as_dict(self) -> dict[str, Any]:
    """The fields as JSON has them."""
    return json.loads(json.dumps(dataclasses.asdict(self)))


@dataclasses.dataclass(frozen=True)
class Index:
  """All that is known of a split without opening a record.

  Attributes:
    shards: names of the files, in order.
    sizes: their sizes in bytes.
    counts: numbers of records in them.
    num_bytes: sizes of those records in bytes, for each shard.
    durations_s: (N,) float64, of each clip in the order of the records; infinite for a picture.
    digest: hash of all records in their order.
    origin: `Listing.digest` of the pixels.
    made_by: `Manifest.digest`.
  """

  shards: tuple[str, ...]
  sizes: tuple[int, ...]
  counts: tuple[int, ...]
  num_bytes: tuple[int, ...]
  durations_s: np.ndarray
  digest: str
  origin: str
  made_by: str

  @property
  def ends(self) -> tuple[int, ...]:
    """Number of records up to the end of each shard."""
    return tuple(itertools.accumulate(self.counts))


def write_no_text(path: Any, embedding_LX: np.ndarray) -> None:
  """Keeps what the text encoder makes of no text, beside the manifest."""
  stream = io.BytesIO()
  np.save(stream, embedding_LX.astype("<f2"), allow_pickle=False)
  storage.write_bytes(storage.Path(path) / NO_TEXT, stream.getvalue())


@functools.lru_cache(maxsize=8)
def read_no_text(path: str, shape: tuple[int, int]) -> np.ndarray:
  """Takes back what `write_no_text` kept, (L, X) float16.

  Raises:
    DataError: it is not there, or of another shape.
  """
  file = storage.Path(path) / NO_TEXT
  if not file.exists():
    raise errors.DataError(f"{file} is missing: copy it, or write the latents anew")
  size = _NPY_HEADER + 2 * math.prod(shape)
  try:
    embedding_LX = np.load(io.BytesIO(storage.read_bytes(file, size)), allow_pickle=False)
  except (ValueError, EOFError, OSError) as error:
    raise errors.DataError(f"{file} cannot be read: {error}") from error
  if (embedding_LX.dtype, embedding_LX.shape) != (np.float16, shape):
    raise errors.DataError(
      f"{file}: {embedding_LX.dtype} {embedding_LX.shape} is not float16 {shape}"
    )
  return embedding_LX


def serialize_record(record: LatentRecord) -> bytes:
  """Returns the record as `tf.train.Example` bytes; equal records give equal bytes."""
  return records.encode(FIELDS, record)


def parse_record(data: bytes) -> LatentRecord:
  """Reads one record of a shard.

  Raises:
    DataError: the bytes are no Example, or a field is missing.
  """
  return LatentRecord(**records.decode(FIELDS, data, WRITER))


def num_rows(duration_s: float, fps: float) -> int:
  """How many moments 0, 1 / fps, 2 / fps, ... a clip of this length shows; 1 for a picture."""
  if math.isinf(duration_s):
    return 1
  return max(1, math.ceil((duration_s - TIME_TOLERANCE_S) * fps))


def rows_at(moments_s: np.ndarray, fps: float, rows: int) -> np.ndarray:
  """Which stored row is shown at each moment: the last one at or before it.

  Args:
    moments_s: (T,) in seconds from the first row.
    fps: of the stored grid.
    rows: how many are stored.
  """
  numbers = np.floor((moments_s + TIME_TOLERANCE_S) * fps).astype(np.int64)
  return np.clip(numbers, 0, rows - 1)


def read_manifest(folder: Any) -> Manifest:
  """Reads `latents.json`.

  Raises:
    FileNotFoundError: there is no such folder.
    DataError: the folder holds no latents, or those of another version; names file and field.
  """
  folder, file = storage.Path(folder), storage.Path(folder) / MANIFEST
  if not folder.exists():
    raise FileNotFoundError(f"data folder {folder} does not exist; write it with `{WRITER}`")
  if not file.exists():
    raise errors.DataError(f"{file} does not exist: {folder} holds no latents of `{WRITER}`")
  try:
    stored = storage.read_json(file)
  except ValueError as error:
    raise errors.DataError(str(error)) from error
  version = stored.get("schema_version") if isinstance(stored, dict) else None
  if version != SCHEMA_VERSION:
    raise errors.DataError(
      f"{file}: the field 'schema_version' is {version!r}, this version of vidjax reads"
      f" {SCHEMA_VERSION}: write the latents again with `{WRITER}`"
    )
  names = {field.name for field in dataclasses.fields(Manifest)}
  if stored.keys() != names:
    raise errors.DataError(
      f"{file}: missing fields {sorted(names - stored.keys())}, unknown fields"
      f" {sorted(stored.keys() - names)}"
    )
  return Manifest(**stored)


def write_manifest(folder: Any, manifest: Manifest) -> None:
  """Writes `latents.json`."""
  storage.write_json(storage.Path(folder) / MANIFEST, manifest.as_dict())


def shard_name(split: str, index: int, count: int) -> str:
  """File name of a shard, TFDS's default template."""
  return records.shard_name(DATASET_NAME, split, index, count)


def index_file(folder: Any, split: str) -> Any:
  """Path of the index of `split`; it is written when all shards are there."""
  return storage.Path(folder) / f"index-{split}.npz"


def write_index(folder: Any, split: str, index: Index) -> None:
  """Writes the index of `split`. Call it once the shards are final."""
  stream = io.BytesIO()
  columns: dict[str, Any] = {name: np.array(value) for name, value in vars(index).items()}
  np.savez(stream, **columns)
  storage.write_bytes(index_file(folder, split), stream.getvalue())


def read_index(folder: Any, split: str) -> Index:
  """Reads the index of `split`.

  Raises:
    DataError: there is none: no such split, or the run that writes it is not finished.
  """
  file = index_file(folder, split)
  if not file.exists():
    raise errors.DataError(
      f"{file} does not exist: the split {split!r} was not cached, or not to its end; run"
      f" `{WRITER}` (again), it goes on where it was"
    )
  with packed.load_arrays(file, errors.DataError) as stored:
    return Index(
      shards=tuple(str(name) for name in stored["shards"]),
      sizes=tuple(int(size) for size in stored["sizes"]),
      counts=tuple(int(count) for count in stored["counts"]),
      num_bytes=tuple(int(size) for size in stored["num_bytes"]),
      durations_s=stored["durations_s"],
      **{name: str(stored[name]) for name in ("digest", "origin", "made_by")},
    )
