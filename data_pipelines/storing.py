"""The part of the graph that stores: kept clips -> records on disk -> shards.

Encoded clips wait as files in the cache: large elements are what Beam's shuffles are worst at.
"""

from collections.abc import Iterable, Iterator
import dataclasses
from typing import Any, TypeAlias

import apache_beam as beam
from apache_beam.pvalue import AsSingleton, TaggedOutput

from data_pipelines import config as config_lib
from data_pipelines import encode, faults, isolation, progress, select, shard, tables
from data_pipelines.paths import Paths
from vidjax import storage
from vidjax.data import schema

Collection: TypeAlias = Any  # of Beam, whose types know no named outputs


def encode_clips(
  root: beam.Pipeline, kept: Collection, paths: Paths, config: config_lib.CurateConfig
) -> tuple[Collection, Collection, Collection]:
  """Adds the encoding of kept clips: `shard.Stored` records, the clips, and what it cost."""
  done = (
    kept
    | "encode: by source" >> beam.GroupBy(lambda c: c.source)
    | "encode: spread" >> beam.Reshuffle()
    | "encode" >> beam.FlatMap(_encode_source, paths, config).with_outputs("costs", main="encoded")
  )
  encoded = done.encoded
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
      AsSingleton(smallest),
      AsSingleton(num_kept),
    )
  )
  placed = encoded | "split" >> beam.Map(_with_split, AsSingleton(chosen), config)
  stored = placed | "records" >> beam.FlatMap(lambda pair: pair[1])
  return stored, placed | "encoded clips" >> beam.Map(lambda pair: pair[0]), done.costs


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
) -> Iterator[Any]:
  source, rows = group
  rows = list(rows)
  wanted = {row.clip_id: _record_paths(row, paths, config) for row in rows}
  name = f"cost-{config_lib.fingerprint(source, config.encode)}.json"
  cost_file = storage.Path(paths.encoded) / name
  if not all(path.exists() for found in wanted.values() for path in found.values()):
    try:
      with storage.local_copy(storage.Path(paths.videos) / source) as local:
        outcome = isolation.call(
          *(encode.write_records, local, rows, paths.encoded, config.encode), **config.ingest.limits
        )
      _add_cost(cost_file, outcome.cpu_s)
    except (faults.FileFaultError, FileNotFoundError, PermissionError) as error:
      progress.step("encode", f"{source}: {faults.describe(error)}")
  cost = tables.Cost("encode", _cost(cost_file), sum(row.seconds for row in rows))
  yield TaggedOutput("costs", cost)
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


def _add_cost(file: Any, cpu_s: float) -> None:
  """Remembers beside the records what they took, for a run that goes on with a killed one."""
  storage.write_json(file, {"cpu_s": _cost(file) + cpu_s})


def _cost(file: Any) -> float:
  return storage.read_json(file)["cpu_s"] if file.exists() else 0.0


def _record_paths(
  row: tables.Clip, paths: Paths, config: config_lib.CurateConfig
) -> dict[int, Any]:
  """Where the records of a clip wait, by rung as in `shard.Stored`."""
  first, *more = encode.rungs(row, config.encode)
  return {
    rung if rung in more else 0: encode.record_path(paths.encoded, row, rung, config.encode)
    for rung in (first, *more)
  }


def write_shards(
  root: beam.Pipeline, stored: Collection, paths: Paths, config: config_lib.CurateConfig
) -> None:
  """Adds the packing of records into shards, and TFDS's description of them."""
  totals = (
    stored
    | "sizes" >> beam.Map(lambda s: ((s.rung, s.split), s.num_bytes))
    | "size of split" >> beam.CombinePerKey(sum)
    | "sizes of splits" >> beam.combiners.ToDict()
  )
  placed = stored | "to stretches" >> beam.Map(_stretch, AsSingleton(totals), config)
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
    | "write shards" >> beam.Map(_write_shard, AsSingleton(stretches), paths)
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
      AsSingleton(shards),
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
  index, count = used.index(stretch), len(used)
  records = list(records)
  path = storage.Path(paths.shards(rung)) / schema.shard_name(split, index, count)
  # An interrupted run leaves a note beside the records; their names follow what is in them.
  note = storage.Path(paths.encoded) / f"published-{rung}-{path.name}.json"
  key = config_lib.fingerprint(sorted(storage.Path(record.path).name for record in records))
  known = storage.read_json(note) if note.exists() else {}
  written = known.get("shard") if known.get("key") == key else None
  if written and path.exists() and storage.sha256(path) == written["sha256"]:
    made = shard.Shard(**written)
  else:
    made = shard.write_shard(paths.shards(rung), split, index, count, records)
    storage.write_json(note, {"key": key, "shard": dataclasses.asdict(made)})
  progress.step("shard", path.name)
  return rung, made
