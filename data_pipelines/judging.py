"""The part of the graph that decides: cheap to expensive, so that few clips reach the captioners.

    measured in the decode pass -> repeats by hash -> looked at (text, CLIP) -> repeats by embedding
    -> captioned -> similarity

At each station clips that miss a threshold leave. What looking and captioning give is remembered
clip by clip, since it is what costs.
"""

from collections.abc import Iterable, Iterator, Sequence
import contextlib
import dataclasses
from typing import Any, TypeAlias

import apache_beam as beam
from apache_beam.pvalue import AsSingleton, TaggedOutput
import numpy as np

from data_pipelines import (
  caption,
  clip_scores,
  duplicates,
  faults,
  isolation,
  look,
  progress,
  select,
  tables,
  thresholds,
)
from data_pipelines import config as config_lib
from data_pipelines.paths import Paths
from vidjax import storage

Collection: TypeAlias = Any  # of Beam, whose types know no named outputs

# Clips of one source that are looked at or captioned at once, so that a long film fits in memory.
_CLIPS_AT_ONCE = 32
# What a source raises that breaks its reader, or that has gone since it was analysed.
_LOST = (faults.FileFaultError, FileNotFoundError, PermissionError)


@dataclasses.dataclass(frozen=True)
class Row:
  """A clip on its way through the stations.

  Attributes:
    clip: With what is known so far.
    hash: Its perceptual hash.
    embedding: (3, X) float32 of its three frames; None without CLIP.
  """

  clip: tables.Clip
  hash: str = ""
  embedding: np.ndarray | None = None


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
  seen = _by_source("look", rows) | "look" >> beam.FlatMap(_look, paths, config).with_outputs(
    "costs", main="rows"
  )
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
  told = _by_source("caption", rows) | "caption" >> beam.FlatMap(
    _caption, paths, config
  ).with_outputs("costs", main="rows")
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
  return _decided(row, select.drop_reasons(row.clip, config.select))


def _decided(row: Row, reasons: Iterable[str]) -> Row:
  """The row with further reasons to drop its clip."""
  reasons = (*row.clip.drop_reasons, *reasons)
  return dataclasses.replace(row, clip=select.decided(row.clip, reasons))


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
  return _decided(row, thresholds.missed(row.clip, rules, thresholds.limits(counts, rules)))


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
    return _decided(row, ["duplicate"] if group[1]["repeated"] else [])

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


def _portions(rows: Iterable[Row]) -> Iterator[list[Row]]:
  ordered = sorted(rows, key=lambda row: row.clip.start_frame)
  for start in range(0, len(ordered), _CLIPS_AT_ONCE):
    yield ordered[start : start + _CLIPS_AT_ONCE]


class _Copy:
  """A local copy of a source, made when it is first asked for."""

  def __init__(self, source: Any):
    self._source = source
    self._stack = contextlib.ExitStack()
    self._path = ""

  def __enter__(self) -> "_Copy":
    return self

  def __exit__(self, *_: object) -> None:
    self._stack.close()

  def path(self) -> str:
    """Where it is."""
    if not self._path:
      self._path = self._stack.enter_context(storage.local_copy(self._source))
    return self._path


def _look(
  group: tuple[str, Iterable[Row]], paths: Paths, config: config_lib.CurateConfig
) -> Iterator[Any]:
  source, rows = group
  if not (config.look.text_area or config.look.clip):
    yield from rows
    return
  key = config_lib.fingerprint(
    look.VERSION, dataclasses.replace(config.look, batch_size=0), paths.weights
  )
  folder = storage.Path(paths.cache("looks"))
  with _Copy(storage.Path(paths.videos) / source) as copy:
    for portion in _portions(rows):
      files = {row.clip.clip_id: folder / f"{row.clip.clip_id}-{key}.json" for row in portion}
      todo = [row.clip for row in portion if not files[row.clip.clip_id].exists()]
      fresh = {seen.clip_id: seen for seen in (_seen(copy, todo, config) if todo else ())}
      for row in portion:
        file = files[row.clip.clip_id]
        if row.clip.clip_id in fresh:
          seen = fresh[row.clip.clip_id]
          if not seen.error:
            storage.write_json(file, seen.to_json())
        else:
          seen = look.Seen.from_json(storage.read_json(file))
        yield TaggedOutput("costs", tables.Cost("look", seen.cpu_s, row.clip.seconds))
        clip = dataclasses.replace(row.clip, text_area=seen.text_area, aesthetic=seen.aesthetic)
        row = dataclasses.replace(row, clip=clip, embedding=seen.embedding)
        yield _decided(row, ["unreadable"]) if seen.error else row
  progress.step("look", source)


def _seen(
  copy: "_Copy", clips: Sequence[tables.Clip], config: config_lib.CurateConfig
) -> list[look.Seen]:
  scorer = clip_scores.scorer(config.look)
  side = scorer.side if scorer else 0
  try:
    outcome = isolation.call(
      *(look.look, copy.path(), clips, config.look, side), **config.ingest.limits
    )
  except _LOST as error:
    return [look.Seen(clip.clip_id, error=str(error)) for clip in clips]
  return look.seen(outcome.value, scorer, outcome.cpu_s)


def _caption(
  group: tuple[str, Iterable[Row]], paths: Paths, config: config_lib.CurateConfig
) -> Iterator[Any]:
  source, rows = group
  if not config.caption.captioners:
    for portion in _portions(rows):
      yield from _similar(portion, config)
    return
  with _Copy(storage.Path(paths.videos) / source) as copy:
    for portion in _portions(rows):
      yield from _captioned(copy, portion, paths, config)
  progress.step("caption", source)


def _captioned(
  copy: "_Copy", portion: Sequence[Row], paths: Paths, config: config_lib.CurateConfig
) -> Iterator[Any]:
  """Rows with texts; those that a server does not give stop the run, and the others are kept."""
  known = {row.clip.clip_id: row.clip.captions for row in portion}
  files = {
    row.clip.clip_id: storage.Path(paths.cache("captions"))
    / f"{row.clip.clip_id}-{caption.key(config.caption, row.clip.captions)}.json"
    for row in portion
  }
  todo = [row.clip for row in portion if not files[row.clip.clip_id].exists()]
  if todo:
    try:
      outcome = isolation.call(
        *(caption.read, copy.path(), todo, config.caption), **config.ingest.limits
      )
    except _LOST:
      shown, cpu_s = [], 0.0
    else:
      shown, cpu_s = outcome.value, outcome.cpu_s / len(todo)
    texts = caption.write(shown, known, config.caption)
    for clip_id, new in texts.items():
      storage.write_json(files[clip_id], {"texts": new, "cpu_s": cpu_s})
  told = []
  for row in portion:
    file = files[row.clip.clip_id]
    if not file.exists():
      yield _decided(row, ["unreadable"])
      continue
    found = storage.read_json(file)
    cost = tables.Cost("caption", found["cpu_s"], row.clip.seconds)
    yield TaggedOutput("costs", cost)
    clip = dataclasses.replace(row.clip, captions={**row.clip.captions, **found["texts"]})
    told.append(dataclasses.replace(row, clip=clip))
  yield from _similar(told, config)


def _similar(rows: Sequence[Row], config: config_lib.CurateConfig) -> Iterator[Row]:
  """The rows with the similarity of their texts to their frames, where they have both."""
  scorer = clip_scores.scorer(config.look)
  names = [caption.ordered(row.clip.captions) for row in rows]
  texts = [row.clip.captions[name] for row, of in zip(rows, names, strict=True) for name in of]
  texts_NX = scorer.embed_texts(texts) if scorer and texts else None
  first = 0
  for row, of in zip(rows, names, strict=True):
    mine = slice(first, first + len(of))
    first = mine.stop
    if texts_NX is None or row.embedding is None or not of:
      yield row
      continue
    cosines_N3 = texts_NX[mine] @ row.embedding.T
    means = {f"similarity_{n}": float(c) for n, c in zip(of, cosines_N3.mean(1), strict=True)}
    clip = dataclasses.replace(
      row.clip,
      clip_similarity=float(cosines_N3[0, 1]),  # of the middle frame and the first caption
      scores={**row.clip.scores, **means},
    )
    yield dataclasses.replace(row, clip=clip)
