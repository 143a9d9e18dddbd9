"""The part of the graph that decides: cheap to expensive, so that few clips reach the captioners.

    measured in the decode pass -> repeats by hash -> looked at (text, CLIP) -> repeats by embedding
    -> captioned -> similarity

At each station clips that miss a threshold leave. What looking and captioning give is remembered
clip by clip, since it is what costs.
"""

from collections.abc import Iterator, Sequence
import dataclasses
from typing import Any, TypeAlias

import apache_beam as beam
from apache_beam.pvalue import AsSingleton
import numpy as np

from data_pipelines import captioning, duplicates, looking, select, thresholds
from data_pipelines import config as config_lib
from data_pipelines import rows as row_lib
from data_pipelines.paths import Paths
from data_pipelines.rows import Row

Collection: TypeAlias = Any  # of Beam, whose types know no named outputs


@dataclasses.dataclass(frozen=True)
class Judged:
  """What the stations give.

  Attributes:
    kept: Rows that passed all.
    dropped: Clips that did not.
    embedded: Rows with an embedding, kept or not.
    costs: `tables.Cost` of looking and captioning.
  """

  kept: Collection
  dropped: Collection
  embedded: Collection
  costs: Collection


def judge(analyses: Collection, paths: Paths, config: config_lib.CurateConfig) -> Judged:
  """Adds the stations to a pipeline."""
  rows = analyses | "clips" >> beam.FlatMap(
    lambda a: [Row(c, a.hashes.get(c.clip_id, "")) for c in a.clips]
  )
  rows = rows | "usable" >> beam.Map(_usable, config)
  rows = _threshold("motion", rows, thresholds.motion(config.select), config)
  rows, unmoved = _parted("motion", rows)
  rows = _without_repeats(
    "hash",
    rows,
    _banded(rows) | "same band" >> beam.GroupByKey(),
    lambda group: duplicates.by_hash(group, config.select.max_hash_distance),
  )
  rows, repeated = _parted("hash", rows)
  seen = _by_source("look", rows) | "look" >> beam.ParDo(
    looking.Looking(paths, config)
  ).with_outputs("costs", main="rows")
  rows = _threshold("looks", seen.rows, thresholds.looks(config.select), config)
  rows, unseemly = _parted("looks", rows)
  if config.look.clip and config.select.min_embedding_distance:
    rows = _without_repeats(
      "embedding",
      rows,
      _clustered(rows) | "same cluster" >> beam.GroupByKey(),
      lambda group: duplicates.by_embedding(group, config.select.min_embedding_distance),
    )
  rows, alike = _parted("embedding", rows)
  told = _by_source("caption", rows) | "caption" >> beam.ParDo(
    captioning.Captioning(paths, config)
  ).with_outputs("costs", "answers", main="rows")
  captioning.show_refusals(told.answers, config)
  rows = _threshold("captions", told.rows, thresholds.captions(config.select), config)
  rows, unfit = _parted("captions", rows)
  left = (unmoved, repeated, unseemly, alike, unfit) | "left" >> beam.Flatten()
  everything = (rows, left) | "all rows" >> beam.Flatten()
  return Judged(
    kept=rows,
    dropped=left | "dropped clips" >> beam.Map(lambda row: row.clip),
    embedded=everything | "embedded" >> beam.Filter(lambda row: row.embedding is not None),
    costs=(seen.costs, told.costs) | "costs of judging" >> beam.Flatten(),
  )


def _usable(row: Row, config: config_lib.CurateConfig) -> Row:
  return row_lib.decided(row, select.drop_reasons(row.clip, config.select))


def _threshold(
  name: str, rows: Collection, rules: Sequence[thresholds.Rule], config: config_lib.CurateConfig
) -> Collection:
  """Rows with the reasons of the thresholds that they miss."""
  if not any(rule.share for rule in rules):  # nothing to wait for
    return rows | f"{name}: thresholds" >> beam.Map(_missed, {}, rules)
  counts = (
    rows
    | f"{name}: long enough" >> beam.Filter(lambda r: not select.is_short(r.clip, config.select))
    | f"{name}: steps" >> beam.FlatMap(lambda r: thresholds.steps(r.clip, rules))
    | f"{name}: count" >> beam.combiners.Count.PerElement()
    | f"{name}: counts" >> beam.combiners.ToDict()
  )
  return rows | f"{name}: thresholds" >> beam.Map(_missed, AsSingleton(counts), rules)


def _missed(row: Row, counts: dict[tuple[str, int], int], rules: Sequence[thresholds.Rule]) -> Row:
  return row_lib.decided(row, thresholds.missed(row.clip, rules, thresholds.limits(counts, rules)))


def _parted(name: str, rows: Collection) -> tuple[Collection, Collection]:
  """Rows that passed so far, and those that leave here."""
  passed = rows | f"{name}: passed" >> beam.Filter(lambda row: not row.clip.drop_reasons)
  left = rows | f"{name}: left" >> beam.Filter(lambda row: bool(row.clip.drop_reasons))
  return passed, left


def _banded(rows: Collection) -> Collection:
  def keyed(row: Row) -> Iterator[tuple[Any, duplicates.Candidate]]:
    candidate = duplicates.candidate(row.clip, row.hash)
    for band in duplicates.bands(candidate.hash):
      yield band, candidate

  return rows | "bands" >> beam.FlatMap(keyed)


def _clustered(rows: Collection) -> Collection:
  candidates = (
    rows
    | "with embedding" >> beam.Filter(lambda r: r.embedding is not None)
    | "as candidates" >> beam.Map(lambda r: duplicates.candidate(r.clip, embedding_3X=r.embedding))
  )
  sample = candidates | "sample" >> beam.combiners.Top.Smallest(
    duplicates.SAMPLES, key=lambda c: duplicates.sample_order(c.clip_id)
  )
  count = candidates | "number of candidates" >> beam.combiners.Count.Globally()
  centroids = sample | "centroids" >> beam.Map(duplicates.centroids, AsSingleton(count))

  def keyed(
    candidate: duplicates.Candidate, centroids_KX: np.ndarray
  ) -> Iterator[tuple[int, duplicates.Candidate]]:
    for cluster in duplicates.clusters(candidate.embedding, centroids_KX):
      yield cluster, candidate

  return candidates | "clusters" >> beam.FlatMap(keyed, AsSingleton(centroids))


def _without_repeats(name: str, rows: Collection, groups: Collection, search: Any) -> Collection:
  """Rows with the verdict of a search for repeats in groups of candidates."""
  repeated = (
    groups
    # A clip meets another one in several groups, but never twice in one.
    | f"{name}: compare"
    >> beam.FlatMap(lambda group: search({c.clip_id: c for c in group[1]}.values()))
    | f"{name}: repeats" >> beam.Distinct()
    | f"{name}: repeats by id" >> beam.Map(lambda clip_id: (clip_id, True))
  )
  by_id = rows | f"{name}: rows by id" >> beam.Map(lambda row: (row.clip.clip_id, row))

  def joined(group: tuple[str, dict[str, list[Any]]]) -> Row:
    (row,) = group[1]["row"]
    return row_lib.decided(row, ["duplicate"] if group[1]["repeated"] else [])

  return (
    {"row": by_id, "repeated": repeated}
    | f"{name}: join" >> beam.CoGroupByKey()
    | f"{name}: verdict" >> beam.Map(joined)
  )


def _by_source(name: str, rows: Collection) -> Collection:
  return (
    rows
    | f"{name}: by source" >> beam.GroupBy(lambda row: row.clip.source)
    | f"{name}: spread" >> beam.Reshuffle()
  )
