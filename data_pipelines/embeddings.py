"""The CLIP embeddings of all clips that were looked at, kept beside the clips as Parquet.

Parts follow a hash of the clip id, so that a clip is found in one of them, and none grows with the
data set. Columns: `clip_id`, and `embedding`, 3 x X float32 of unit length (first, middle and last
frame).
"""

from collections.abc import Iterable
import hashlib
from typing import Any, TypeAlias

import apache_beam as beam
from apache_beam.pvalue import AsSingleton
import pyarrow as pa
from pyarrow import parquet

from data_pipelines.paths import FOLDER_OF_EMBEDDINGS, Paths
from vidjax import storage

Collection: TypeAlias = Any  # of Beam, whose types know no named outputs

_CLIPS_PER_PART = 100_000


def write(root: beam.Pipeline, rows: Collection, paths: Paths) -> None:
  """Adds the writing of embeddings to a pipeline; `rows` are `rows.Row` with an embedding."""
  count = rows | "number of embeddings" >> beam.combiners.Count.Globally()
  parts = (
    rows
    | "part" >> beam.Map(_part, AsSingleton(count))
    | "same part" >> beam.GroupByKey()
    | "write embeddings" >> beam.Map(_write, paths)
    | "all parts" >> beam.combiners.ToList()
  )
  _ = (
    root
    | "embeddings" >> beam.Create([None])
    | "old embeddings"
    >> beam.Map(lambda _, names: _remove_others(paths, names), AsSingleton(parts))
  )


def _part(row: Any, count: int) -> tuple[tuple[int, int], Any]:
  parts = max(1, -(-count // _CLIPS_PER_PART))
  place = int(hashlib.sha256(row.clip.clip_id.encode()).hexdigest()[:12], 16) * parts // 16**12
  return (place, parts), (row.clip.clip_id, row.embedding)


def _write(group: tuple[tuple[int, int], Iterable[Any]], paths: Paths) -> str:
  (place, parts), found = group
  pairs = sorted(found, key=lambda pair: pair[0])
  width = pairs[0][1].size
  table = pa.table(
    {
      "clip_id": pa.array([clip_id for clip_id, _ in pairs], pa.string()),
      "embedding": pa.FixedSizeListArray.from_arrays(
        pa.array([x for _, embedding in pairs for x in embedding.ravel()], pa.float32()), width
      ),
    }
  )
  name = f"part-{place:05d}-of-{parts:05d}.parquet"
  with storage.staged(f"{paths.out}/{FOLDER_OF_EMBEDDINGS}/{name}") as local:
    parquet.write_table(table, local)
  return name


def _remove_others(paths: Paths, names: list[str]) -> None:
  """Takes away parts of an earlier run."""
  folder = storage.Path(f"{paths.out}/{FOLDER_OF_EMBEDDINGS}")
  for path in folder.iterdir() if folder.exists() else ():
    if path.name not in names:
      storage.remove(path)
