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
import numpy as np
import pyarrow as pa
from pyarrow import parquet

from data_pipelines.paths import FOLDER_OF_EMBEDDINGS, Paths
from vidjax import storage

Collection: TypeAlias = Any  # of Beam, whose types know no named outputs

_CLIPS_PER_PART = 100_000
_CLIPS_AT_ONCE = 8192  # in memory a second time while they are written


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
  schema = pa.schema({"clip_id": pa.string(), "embedding": pa.list_(pa.float32(), width)})
  name = f"part-{place:05d}-of-{parts:05d}.parquet"
  with storage.staged(f"{paths.out}/{FOLDER_OF_EMBEDDINGS}/{name}") as local:
    with parquet.ParquetWriter(local, schema) as writer:
      # A part at ViT-L is 0.9 GB of numbers: they stay the arrays that they are.
      for start in range(0, len(pairs), _CLIPS_AT_ONCE):
        some = pairs[start : start + _CLIPS_AT_ONCE]
        numbers = np.concatenate([embedding.ravel() for _, embedding in some]).astype(np.float32)
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(numbers), width)
        ids = pa.array([clip_id for clip_id, _ in some], pa.string())
        writer.write_table(pa.table([ids, vectors], schema=schema))
  return name


def _remove_others(paths: Paths, names: list[str]) -> None:
  """Takes away parts of an earlier run."""
  folder = storage.Path(f"{paths.out}/{FOLDER_OF_EMBEDDINGS}")
  for path in folder.iterdir() if folder.exists() else ():
    if path.name not in names:
      storage.remove(path)
