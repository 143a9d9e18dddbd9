"""The part of the graph that picks some clips to show: what was kept, and what was not and why."""

from collections.abc import Iterable, Iterator, Sequence
import hashlib
from typing import Any, TypeAlias

import apache_beam as beam

from data_pipelines import config as config_lib
from data_pipelines import faults, isolation, tables, thumbnails
from data_pipelines.paths import Paths
from vidjax import storage

Collection: TypeAlias = Any  # of Beam, whose types know no named outputs

KEPT = "kept"


def pick(clips: Collection, paths: Paths, config: config_lib.CurateConfig) -> Collection:
  """Adds the thumbnails of a few clips for each verdict: (reason or "kept", clip, data URI)."""
  return (
    clips
    | "verdicts" >> beam.FlatMap(_verdicts)
    | "examples" >> beam.combiners.Top.SmallestPerKey(config.report.examples, key=_order)
    | "examples by source" >> beam.FlatMap(_by_source)
    | "same source" >> beam.GroupByKey()
    | "thumbnails" >> beam.FlatMap(_thumbnails, paths, config)
  )


def _verdicts(clip: tables.Clip) -> Iterator[tuple[str, tables.Clip]]:
  for reason in clip.drop_reasons or (KEPT,):
    yield reason, clip


def _order(clip: tables.Clip) -> str:
  return hashlib.sha256(f"example {clip.clip_id}".encode()).hexdigest()


def _by_source(
  examples: tuple[str, Sequence[tables.Clip]],
) -> Iterator[tuple[str, tuple[str, tables.Clip]]]:
  reason, clips = examples
  for clip in clips:
    yield clip.source, (reason, clip)


def _thumbnails(
  group: tuple[str, Iterable[tuple[str, tables.Clip]]],
  paths: Paths,
  config: config_lib.CurateConfig,
) -> Iterator[tuple[str, tables.Clip, str]]:
  source, examples = group
  examples = sorted(examples, key=lambda pair: (pair[0], pair[1].clip_id))
  try:
    with storage.local_copy(storage.Path(paths.videos) / source) as local:
      outcome = isolation.call(
        *(thumbnails.moving, local, [clip for _, clip in examples]), **config.ingest.limits
      )
  except (faults.FileFaultError, FileNotFoundError, PermissionError):
    return  # a page without them
  for (reason, clip), uri in zip(examples, outcome.value, strict=True):
    if uri:
      yield reason, clip, uri
