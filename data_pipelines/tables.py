"""The rows that travel through the pipeline, and the two tables that they end in."""

from collections.abc import Iterable, Mapping
import dataclasses
import hashlib
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from vidjax import storage


@dataclasses.dataclass(frozen=True)
class Clip:
  """One detected shot, or a piece of a long one: a row of `clips.parquet`.

  Frame numbers count decoded frames in presentation order from zero; ends are exclusive. `cut_*`
  are the shot's bounds, `start_frame` to `end_frame` is the stored part, without transitions.
  """

  clip_id: str
  source: str
  source_sha256: str
  cut_start_frame: int
  cut_end_frame: int
  start_frame: int
  end_frame: int
  start_time_s: float
  end_time_s: float
  start_boundary: str
  end_boundary: str
  fps: float
  source_fps: float
  width: int
  height: int
  rotation: int
  motion_score: float | None = None
  text_area: float | None = None
  aesthetic: float | None = None
  clip_similarity: float | None = None
  scores: Mapping[str, float] = dataclasses.field(default_factory=dict)
  captions: Mapping[str, str] = dataclasses.field(default_factory=dict)
  kept: bool = False
  drop_reasons: tuple[str, ...] = ()

  @property
  def seconds(self) -> float:
    """Length of the stored part."""
    return self.end_time_s - self.start_time_s


@dataclasses.dataclass(frozen=True)
class Reject:
  """A media file that gave no clips: a row of `rejects.parquet`."""

  source: str
  stage: str
  error: str
  frames_decoded: int = 0
  frames_expected: int | None = None


@dataclasses.dataclass(frozen=True)
class Cost:
  """Processor seconds that a stage took for some video."""

  stage: str
  cpu_s: float
  video_s: float


_SCALARS = {
  "clip_id": pa.string(),
  "source": pa.string(),
  "source_sha256": pa.string(),
  "cut_start_frame": pa.int64(),
  "cut_end_frame": pa.int64(),
  "start_frame": pa.int64(),
  "end_frame": pa.int64(),
  "start_time_s": pa.float64(),
  "end_time_s": pa.float64(),
  "start_boundary": pa.string(),
  "end_boundary": pa.string(),
  "fps": pa.float64(),
  "source_fps": pa.float64(),
  "width": pa.int64(),
  "height": pa.int64(),
  "rotation": pa.int64(),
  "motion_score": pa.float64(),
  "text_area": pa.float64(),
  "aesthetic": pa.float64(),
  "clip_similarity": pa.float64(),
}
SCORE_COLUMNS = ("motion_score", "text_area", "aesthetic", "clip_similarity")
CLIP_SCHEMA = pa.schema(
  {
    **_SCALARS,
    "scores": pa.map_(pa.string(), pa.float64()),
    "captions": pa.map_(pa.string(), pa.string()),
    "kept": pa.bool_(),
    "drop_reasons": pa.list_(pa.string()),
  }
)
REJECT_SCHEMA = pa.schema(
  {
    "source": pa.string(),
    "stage": pa.string(),
    "error": pa.string(),
    "frames_decoded": pa.int64(),
    "frames_expected": pa.int64(),
  }
)


def clip_id(source: str, sha256: str, start_frame: int, end_frame: int) -> str:
  """Name of a clip: follows from the file's content, its place and the span, nothing else."""
  return hashlib.sha256(f"{sha256} {source} {start_frame} {end_frame}".encode()).hexdigest()[:20]


def all_scores(clip: Clip) -> dict[str, float]:
  """The scores of a clip by name, those with a column of their own included."""
  columns = {name: getattr(clip, name) for name in SCORE_COLUMNS}
  return {**clip.scores, **{name: value for name, value in columns.items() if value is not None}}


def clip_from_json(values: Mapping[str, Any]) -> Clip:
  """Takes back what `dataclasses.asdict` and JSON made of a clip."""
  return Clip(**{**values, "drop_reasons": tuple(values["drop_reasons"])})


def write_clips(clips: Iterable[Clip], path: Any) -> None:
  """Writes `clips.parquet`, ordered by source and frame."""
  rows = []
  for clip in sorted(clips, key=lambda c: (c.source, c.cut_start_frame)):
    row = dataclasses.asdict(clip)
    row["scores"] = sorted(row["scores"].items())
    row["captions"] = sorted(row["captions"].items())
    rows.append(row)
  _write(pa.Table.from_pylist(rows, schema=CLIP_SCHEMA), path)


def write_rejects(rejects: Iterable[Reject], path: Any) -> None:
  """Writes `rejects.parquet`, ordered by source."""
  rows = [dataclasses.asdict(r) for r in sorted(rejects, key=lambda r: r.source)]
  _write(pa.Table.from_pylist(rows, schema=REJECT_SCHEMA), path)


def _write(table: pa.Table, path: Any) -> None:
  with storage.staged(path) as local:
    parquet.write_table(table, local)
