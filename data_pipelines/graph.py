"""The stages as one Apache Beam graph: analyse -> select -> encode -> shard -> tables and report.

Here is only the plumbing: each step calls a pure function of a stage. All results are functions of
the inputs, not of bundling or worker count. Between stages travel small rows; encoded clips wait as
files in the cache, since large elements are what Beam's shuffles are worst at.
"""

from collections.abc import Iterable, Iterator
import dataclasses
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import AsSingleton, PValue

from data_pipelines import (
  analyse,
  encode,
  ingest,
  isolation,
  manifest,
  progress,
  report,
  select,
  shard,
  tables,
)
from data_pipelines import config as config_lib
from vidjax import errors, storage

# Sources shown in the report; the tables have all.
_REPORT_SOURCES = 200
_UNKNOWN = manifest.Known()


@dataclasses.dataclass(frozen=True)
class Paths:
  """Where things are: the videos, the results, and what an interrupted run left."""

  videos: str
  out: str

  @property
  def analyses(self) -> str:
    """Remembered analyses; they stay for runs with other selection thresholds or more videos."""
    return f"{self.out}/.cache/analyses"

  @property
  def encoded(self) -> str:
    """Encoded clips on their way into shards; removed by a finished run."""
    return f"{self.out}/.cache/encoded"

  def shards(self, rung: int = 0) -> str:
    """The result that training reads; a further size has a folder of its own."""
    return f"{self.out}/{shard.folder_name(rung)}"


def build(
  root: beam.Pipeline, listing: ingest.Listing, paths: Paths, config: config_lib.CurateConfig
) -> None:
  """Adds the whole curation to a pipeline."""
  analyses = (
    root
    | "sources" >> beam.Create([(s, listing.known.get(s, _UNKNOWN)) for s in listing.media])
    | "spread" >> beam.Reshuffle()
    | "analyse" >> beam.Map(_analyse, paths, config)
  )
  decided = _select(analyses, config)
  stored, final = _encode(root, decided, paths, config)
  _shard(root, stored, paths, config)
  rejects = analyses | "rejects" >> beam.FlatMap(_reject)
  every_clip = final | "all clips" >> beam.combiners.ToList()
  every_reject = rejects | "all rejects" >> beam.combiners.ToList()
  shown = analyses | "shown" >> beam.combiners.Top.Smallest(_REPORT_SOURCES, key=lambda a: a.source)
  one = root | "once" >> beam.Create([None])
  _ = one | "clips.parquet" >> beam.Map(
    lambda _, rows: tables.write_clips(rows, f"{paths.out}/clips.parquet"),
    _single(every_clip),
  )
  _ = one | "rejects.parquet" >> beam.Map(
    lambda _, rows: tables.write_rejects(rows, f"{paths.out}/rejects.parquet"),
    _single(every_reject),
  )
  _ = one | "report.html" >> beam.Map(
    _report,
    _single(every_clip),
    _single(every_reject),
    _single(shown),
    listing,
    paths,
    config,
  )


def _analyse(
  listed: tuple[str, manifest.Known], paths: Paths, config: config_lib.CurateConfig
) -> analyse.Analysis:
  source, known = listed
  analysis = analyse.analyse(paths.videos, source, paths.analyses, config, known)
  if analysis.reject:
    progress.step("analyse", f"{source}: rejected, {analysis.reject.error}")
  else:
    progress.step("analyse", f"{source}: {len(analysis.clips)} shots")
  return analysis


def _reject(analysis: analyse.Analysis) -> Iterator[tables.Reject]:
  if analysis.reject:
    yield analysis.reject


def _select(analyses: PValue, config: config_lib.CurateConfig) -> PValue:
  """Clips with their verdict."""
  rows = analyses | "clips" >> beam.FlatMap(
    lambda a: [(c, a.hashes.get(c.clip_id, "")) for c in a.clips]
  )
  counts = (
    rows
    | "motion bins" >> beam.Map(lambda row: select.motion_bin(row[0], config.select))
    | "with motion" >> beam.Filter(lambda b: b is not None)
    | "count motion" >> beam.combiners.Count.PerElement()
    | "motion counts" >> beam.combiners.ToDict()
  )
  judged = rows | "judge" >> beam.Map(_judge, _single(counts), config)
  repeated = (
    judged
    | "passed so far" >> beam.Filter(lambda row: not row[0].drop_reasons)
    | "candidates" >> beam.FlatMap(_bands)
    | "same band" >> beam.GroupByKey()
    | "compare"
    >> beam.FlatMap(lambda g: select.duplicates(set(g[1]), config.select.max_hash_distance))
    | "repeats" >> beam.Distinct()
    | "repeats by id" >> beam.Map(lambda clip_id: (clip_id, True))
  )
  by_id = judged | "clips by id" >> beam.Map(lambda row: (row[0].clip_id, row[0]))
  return (
    {"clip": by_id, "repeated": repeated}
    | "join repeats" >> beam.CoGroupByKey()
    | "decide" >> beam.Map(_decide)
  )


def _judge(
  row: tuple[tables.Clip, str], counts: dict[int, int], config: config_lib.CurateConfig
) -> tuple[tables.Clip, str]:
  clip, hash_hex = row
  threshold = select.motion_threshold(counts, config.select)
  return select.decided(clip, select.drop_reasons(clip, config.select, threshold)), hash_hex


def _bands(row: tuple[tables.Clip, str]) -> Iterator[tuple[tuple[int, str], select.Candidate]]:
  candidate = select.candidate(*row)
  for band in select.bands(candidate.hash):
    yield band, candidate


def _decide(joined: tuple[str, dict[str, list[Any]]]) -> tables.Clip:
  _, found = joined
  (clip,) = found["clip"]
  return select.decided(clip, [*clip.drop_reasons, *(["duplicate"] if found["repeated"] else [])])


def _encode(
  root: beam.Pipeline,
  decided: PValue,
  paths: Paths,
  config: config_lib.CurateConfig,
) -> tuple[PValue, PValue]:
  """Records on disk, and all clips with their final verdict and split."""
  encoded = (
    decided
    | "kept" >> beam.Filter(lambda c: c.kept)
    | "by source" >> beam.GroupBy(lambda c: c.source)
    | "spread sources" >> beam.Reshuffle()
    | "encode" >> beam.FlatMap(_encode_source, paths, config)
  )
  # Of the clips that are there: one that was lost on the way would leave the holdout empty.
  ids = (
    encoded
    | "with records" >> beam.Filter(lambda pair: pair[0].kept)
    | "kept ids" >> beam.Map(lambda pair: pair[0].clip_id)
  )
  num_kept = ids | "count kept" >> beam.combiners.Count.Globally()
  smallest = ids | "first of the holdout" >> beam.combiners.Top.Smallest(
    max(config.select.holdout_min_clips, 1), key=select.holdout_order
  )
  chosen = (
    root
    | "holdout" >> beam.Create([None])
    | "choose"
    >> beam.Map(
      lambda _, ids, total: select.holdout_ids(ids, total, config.select),
      _single(smallest),
      _single(num_kept),
    )
  )
  placed = encoded | "split" >> beam.Map(_with_split, _single(chosen), config)
  stored = placed | "records" >> beam.FlatMap(lambda pair: pair[1])
  dropped = decided | "dropped" >> beam.Filter(lambda c: not c.kept)
  final = (placed | "encoded clips" >> beam.Map(lambda pair: pair[0]), dropped)
  return stored, final | "final clips" >> beam.Flatten()


def _with_split(
  pair: tuple[tables.Clip, list[shard.Stored]],
  chosen: frozenset[str],
  config: config_lib.CurateConfig,
) -> tuple[tables.Clip, list[shard.Stored]]:
  clip, records = pair
  if not clip.kept:
    return pair
  holdout = select.is_holdout(clip.clip_id, chosen, config.select)
  split = "holdout" if holdout else "train"
  clip = dataclasses.replace(clip, scores={**clip.scores, "holdout": float(holdout)})
  return clip, [dataclasses.replace(record, split=split) for record in records]


def _encode_source(
  group: tuple[str, Iterable[tables.Clip]], paths: Paths, config: config_lib.CurateConfig
) -> Iterator[tuple[tables.Clip, list[shard.Stored]]]:
  source, rows = group
  rows = list(rows)
  wanted = {row.clip_id: _record_paths(row, paths, config) for row in rows}
  if not all(path.exists() for found in wanted.values() for path in found.values()):
    try:
      with storage.local_copy(storage.Path(paths.videos) / source) as local:
        isolation.call(
          *(encode.write_records, local, rows, paths.encoded, config.encode),
          stall_seconds=config.ingest.stall_seconds,
        )
    except isolation.FileFaultError as error:
      progress.step("encode", f"{source}: {error}")
  for row in rows:
    if all(path.exists() for path in wanted[row.clip_id].values()):
      yield (
        row,
        [
          shard.Stored(row.clip_id, "", str(path), int(path.stat().length), rung)
          for rung, path in wanted[row.clip_id].items()
        ],
      )
    else:
      yield select.decided(row, ["unreadable"]), []
  progress.step("encode", source)


def _record_paths(
  row: tables.Clip, paths: Paths, config: config_lib.CurateConfig
) -> dict[int, Any]:
  """Where the records of a clip wait, by rung as in `shard.Stored`."""
  first, *more = encode.rungs(row, config.encode)
  return {
    rung if rung in more else 0: encode.record_path(paths.encoded, row, rung, config.encode)
    for rung in (first, *more)
  }


def _shard(
  root: beam.Pipeline, stored: PValue, paths: Paths, config: config_lib.CurateConfig
) -> None:
  totals = (
    stored
    | "sizes" >> beam.Map(lambda s: ((s.rung, s.split), s.num_bytes))
    | "size of split" >> beam.CombinePerKey(sum)
    | "sizes of splits" >> beam.combiners.ToDict()
  )
  placed = stored | "to stretches" >> beam.Map(_stretch, _single(totals), config)
  # A stretch of the hash's range may hold no record where there are few: shards count the others.
  stretches = (
    placed
    | "keys" >> beam.Map(lambda p: p[0])
    | "used" >> beam.Distinct()
    | beam.combiners.ToList()
  )
  shards = (
    placed
    | "same shard" >> beam.GroupByKey()
    | "write shards" >> beam.Map(_write_shard, _single(stretches), paths)
    | "all shards" >> beam.combiners.ToList()
  )
  _ = (
    root
    | "describe" >> beam.Create([0, *config.encode.rungs])
    | "dataset_info.json"
    >> beam.Map(
      lambda rung, written: shard.write_metadata(
        paths.shards(rung), [made for place, made in written if place == rung]
      ),
      _single(shards),
    )
  )


def _stretch(
  record: shard.Stored, totals: dict[tuple[int, str], int], config: config_lib.CurateConfig
) -> tuple[tuple[int, str, int], shard.Stored]:
  count = shard.num_shards(totals[record.rung, record.split], config.shard.megabytes)
  return (record.rung, record.split, shard.stretch(record.clip_id, count)), record


def _write_shard(
  group: tuple[tuple[int, str, int], Iterable[shard.Stored]],
  stretches: list[tuple[int, str, int]],
  paths: Paths,
) -> tuple[int, shard.Shard]:
  (rung, split, stretch), records = group
  used = sorted(number for *place, number in stretches if place == [rung, split])
  folder = paths.shards(rung)
  return rung, shard.write_shard(folder, split, used.index(stretch), len(used), records)


def _report(
  _: None,
  rows: list[tables.Clip],
  rejects: list[tables.Reject],
  shown: list[analyse.Analysis],
  listing: ingest.Listing,
  paths: Paths,
  config: config_lib.CurateConfig,
) -> None:
  page = report.render(rows, rejects, shown, listing, config)
  storage.write_text(f"{paths.out}/report.html", page)


def _single(collection: Any) -> AsSingleton:
  """A collection of one element as a plain argument of a step."""
  return AsSingleton(collection)


def user_error(error: BaseException) -> BaseException:
  """What a failed pipeline means to the user: Beam wraps the reason in its own exceptions."""
  if errors.is_no_space(error) or "NoSpaceError" in str(error):
    return errors.NoSpaceError("no space left for the curated clips: free some, run again")
  return error
