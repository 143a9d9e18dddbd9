"""The stages as one Apache Beam graph: analyse -> judge -> encode -> shard -> tables and report.

Here, in `copies`, `judging` and `storing` is only the plumbing: each step calls a pure function of
a stage. All results are functions of the inputs, not of bundling or worker count. Between stages
travel small rows.
"""

from collections.abc import Iterator
import re

import apache_beam as beam
from apache_beam.pvalue import AsSingleton

from data_pipelines import (
  analyse,
  copies,
  embeddings,
  examples,
  ingest,
  judging,
  manifest,
  progress,
  report,
  storing,
  tables,
)
from data_pipelines import config as config_lib
from data_pipelines.paths import Paths
from vidjax import errors, storage

# Sources shown in the report; the tables have all.
_REPORT_SOURCES = 200


def build(
  root: beam.Pipeline, listing: ingest.Listing, paths: Paths, config: config_lib.CurateConfig
) -> None:
  """Adds the whole curation to a pipeline."""
  sources, copied = copies.left_out(root, listing, paths)
  analyses = sources | "spread" >> beam.Reshuffle() | "analyse" >> beam.Map(_analyse, paths, config)
  judged = judging.judge(analyses, paths, config)
  kept = judged.kept | "kept clips" >> beam.Map(lambda row: row.clip)
  stored, encoded, encoding = storing.encode_clips(root, kept, paths, config)
  storing.write_shards(root, stored, paths, config)
  if config.look.clip:
    embeddings.write(root, judged.embedded, paths)
  every_clip = (encoded, judged.dropped) | "every clip" >> beam.Flatten()
  analysing = analyses | "costs of analysing" >> beam.Map(
    lambda a: tables.Cost("analyse", a.cpu_s, a.seconds)
  )
  every_cost = (analysing, judged.costs, encoding) | "every cost" >> beam.Flatten()
  shown = analyses | "shown" >> beam.combiners.Top.Smallest(_REPORT_SOURCES, key=lambda a: a.source)
  clips = AsSingleton(every_clip | "all clips" >> beam.combiners.ToList())
  refused = root | "refused" >> beam.Create(listing.refused)
  rejected = (analyses | "rejects" >> beam.FlatMap(_reject), copied, refused)
  rejects = AsSingleton(
    rejected | "every reject" >> beam.Flatten() | "all rejects" >> beam.combiners.ToList()
  )
  shown_examples = AsSingleton(
    examples.pick(every_clip, paths, config) | "all examples" >> beam.combiners.ToList()
    if config.report.examples
    else root | "no examples" >> beam.Create([[]])
  )
  costs = AsSingleton(every_cost | "all costs" >> beam.combiners.ToList())
  one = root | "once" >> beam.Create([None])
  _ = one | "clips.parquet" >> beam.Map(
    lambda _, rows: tables.write_clips(rows, f"{paths.out}/clips.parquet"), clips
  )
  _ = one | "rejects.parquet" >> beam.Map(
    lambda _, rows: tables.write_rejects(rows, f"{paths.out}/rejects.parquet"), rejects
  )
  _ = one | "report.html" >> beam.Map(
    _report, clips, rejects, AsSingleton(shown), shown_examples, costs, listing, paths, config
  )


def _analyse(
  listed: tuple[str, manifest.Known], paths: Paths, config: config_lib.CurateConfig
) -> analyse.Analysis:
  source, known = listed
  analysis = analyse.analyse(paths.videos, source, paths.cache("analyses"), config, known)
  if analysis.reject:
    progress.step("analyse", f"{source}: rejected, {analysis.reject.error}")
  else:
    progress.step("analyse", f"{source}: {len(analysis.clips)} shots")
  return analysis


def _reject(analysis: analyse.Analysis) -> Iterator[tables.Reject]:
  if analysis.reject:
    yield analysis.reject


def _report(
  _: None,
  rows: list[tables.Clip],
  rejects: list[tables.Reject],
  shown: list[analyse.Analysis],
  thumbnails: list[tuple[str, tables.Clip, str]],
  costs: list[tables.Cost],
  listing: ingest.Listing,
  paths: Paths,
  config: config_lib.CurateConfig,
) -> None:
  page = report.render(rows, rejects, shown, thumbnails, costs, listing, config)
  storage.write_text(f"{paths.out}/report.html", page)


def user_error(error: BaseException) -> BaseException:
  """What a failed pipeline means to the user: Beam wraps the reason in its own exceptions."""
  if errors.is_no_space(error) or "NoSpaceError" in str(error):
    return errors.NoSpaceError("no space left for the curated clips: free some, run again")
  found = re.search(r"(?:EndpointError|DataError): (.+?)(?: \[while running|\n|$)", str(error))
  return errors.DataError(found[1]) if found else error
