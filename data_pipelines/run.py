"""`vidjax curate`: raw videos into annotated clips in shards.

  vidjax curate --videos=DIR --out=DIR [--config=FILE.py[:variant]] [--config.select.min_seconds=2]
      [--runner=DataflowRunner ...]
  vidjax curate --videos=LIST.csv --out=DIR

Videos are a folder, a pattern (`DIR/**/*.mp4`), or a list of files (`data_pipelines.manifest`).

Writes `clips.parquet` (every shot, kept or not, and why), `rejects.parquet` (files that gave none),
`shards/` (ArrayRecord in TFDS layout, splits `train` and `holdout`) and `report.html`. Flags that
are not ours go to Apache Beam. An interrupted run continues when it is started again; a finished
one with the same videos and config returns at once.
"""

from collections import Counter
import logging
import os
import sys
import time
from typing import Any

from absl import flags
from pyarrow import parquet

from data_pipelines import analyse, caption, clip_scores, ingest, look, progress
from data_pipelines import beam_flags as beam_flags_lib
from data_pipelines import config as config_lib
from data_pipelines.paths import FOLDER_OF_EMBEDDINGS, Paths
from vidjax import command, errors, storage
from vidjax.data import schema, subset
from vidjax.data.sources import shards

_VIDEOS = flags.DEFINE_string(
  "videos", None, "Folder, searched at any depth; DIR/**/*.mp4; or a list."
)
_OUT = flags.DEFINE_string("out", None, "Folder for the results; may be gs:// or s3://.")
_CACHE = flags.DEFINE_string(
  "cache", None, "Folder for what stages remember, for runs to share; by default OUT/.cache."
)
_CONFIG = flags.DEFINE_string(
  "config", None, "Config file, FILE.py[:variant]; without it the defaults of pretraining."
)
_DONE = ".curated.json"


def curate(
  videos: str,
  out: str,
  config: config_lib.CurateConfig,
  beam_flags: list[str] | None = None,
  cache: str | None = None,
) -> dict[str, Any]:
  """Curates videos.

  Args:
    videos: Folder, pattern or list, see `ingest.find`.
    out: Folder for the results.
    config: Thresholds.
    beam_flags: Flags for Apache Beam, such as ["--runner=DataflowRunner"].
    cache: Folder for what stages remember; None for one below `out`.

  Returns:
    Summary: numbers of `sources`, `clips`, `kept`, `rejects`, and `dropped` by reason.

  Raises:
    FileNotFoundError, NotADirectoryError, ValueError: nothing to curate there.
    errors.DataError: no clip was kept; the tables and the report are written all the same.
    errors.NoSpaceError: the disk is full.
  """
  cache = cache or f"{out.rstrip('/')}/.cache"
  listing = ingest.find(videos, skip=[out, cache])
  if not listing.num_files:
    raise ValueError(
      f"--videos={videos}: no video found, only {listing.images} images and {listing.others} other "
      "files"
    )
  within = ""
  if config.select.within:
    subset.read(config.select.within)  # what is wrong with it is said before any work
    within = storage.sha256(config.select.within)
  weights = clip_scores.check(config.look) if config.look.clip else ""
  key = config_lib.fingerprint(
    *(analyse.VERSION, look.VERSION, weights, within, config, listing.signature),
    caption.weights(config.caption),
  )
  done = storage.Path(out) / _DONE
  summary = _finished(done, key)
  paths = Paths(listing.root.rstrip("/"), out.rstrip("/"), cache.rstrip("/"), weights)
  if summary is None:
    _sweep(out)
    _run(listing, paths, config, beam_flags or [])
    _complete(paths, config)
    summary = _summary(listing, out)
    storage.write_json(done, {"key": key, "summary": summary})
  else:
    print(f"already done: {out} holds the result of the same videos and config", file=sys.stderr)
  # What a run goes on with when it is killed, up to the very end.
  if storage.Path(paths.encoded).exists():
    storage.remove(paths.encoded)
  if not summary["kept"]:
    reasons = [f"{name}: {count}" for name, count in sorted(summary["dropped"].items())]
    reasons += [f"unreadable files: {summary['rejects']}"] if summary["rejects"] else []
    raise errors.DataError(
      f"no clip was kept of {summary['clips']} shots in {summary['sources']} files "
      f"({', '.join(reasons)}); see {out}/report.html"
    )
  return summary


def _run(
  listing: ingest.Listing, paths: Paths, config: config_lib.CurateConfig, beam_flags: list[str]
) -> None:
  """Runs the graph; Beam is imported here, so that a finished run is recognised without it."""
  logging.disable(logging.WARNING)  # Beam warns of parts for clouds that this run does not use.
  import apache_beam as beam
  from apache_beam.options import pipeline_options
  from apache_beam.runners.portability.fn_api_runner import fn_runner
  from apache_beam.runners.worker import sdk_worker

  from data_pipelines import graph

  logging.disable(logging.NOTSET)
  beam_flags_lib.check(beam_flags, pipeline_options.PipelineOptions)
  options = pipeline_options.PipelineOptions(beam_flags)
  runner = options.view_as(pipeline_options.StandardOptions).runner
  if runner == "DataflowRunner" and (storage.is_local(paths.videos) or storage.is_local(paths.out)):
    raise ValueError(
      f"--runner=DataflowRunner: its workers see neither --videos={paths.videos} nor"
      f" --out={paths.out} on this machine: put both into a bucket"
    )
  direct = options.view_as(pipeline_options.DirectOptions)
  if runner in (None, "DirectRunner"):
    # Beam's own DirectRunner first tries to fetch a helper program from the net. Files are worked
    # on in processes of their own (`isolation`), so threads are enough to use the cores.
    runner = fn_runner.FnApiRunner()
    # It logs its inner life, and a second time each failure that it raises; its workers print it a
    # third time, those that fail when the run has ended already, too.
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
    sdk_worker.__dict__["print"] = lambda *_, **__: None
    if direct.direct_running_mode == "in_memory" and direct.direct_num_workers == 1:
      direct.direct_running_mode = "multi_threading"
      direct.direct_num_workers = min(os.cpu_count() or 1, listing.num_files)
  pipeline = beam.Pipeline(runner=runner, options=options)
  graph.build(pipeline, listing, paths, config)
  try:
    with progress.shown():
      progress.start("analyse", len(listing.media))
      pipeline.run().wait_until_finish()
  except KeyboardInterrupt:
    # Worker threads are deep in decoding and would make a regular exit hang or abort. Nothing is
    # lost: every file appears whole or not at all, and the next run continues.
    print("vidjax: interrupted; run the same command again to continue", file=sys.stderr)
    os._exit(errors.Interrupted.exit_code)
  except Exception as error:
    reason = graph.user_error(error)
    if reason is error:
      raise
    raise reason from error


def _complete(paths: Paths, config: config_lib.CurateConfig) -> None:
  """Takes away what an earlier config made, and writes the index of the shards."""
  if not config.look.clip:
    storage.remove(f"{paths.out}/{FOLDER_OF_EMBEDDINGS}")
  sizes = {paths.shards(rung) for rung in (0, *config.encode.rungs)}
  for folder in storage.Path(paths.out).glob("shards*"):
    if str(folder) not in sizes:
      storage.remove(folder)
  for rung in (0, *config.encode.rungs):
    for split in schema.SPLITS:
      if any(storage.Path(paths.shards(rung)).glob(f"*-{split}.array_record-*")):
        shards.write_index(paths.shards(rung), split)  # so that no trainer has to read every record


def _finished(done: Any, key: str) -> dict[str, Any] | None:
  if not done.exists():
    return None
  found = storage.read_json(done)
  return found["summary"] if found["key"] == key else None


def _sweep(out: str) -> None:
  """Takes away the mark of an earlier result, and what a killed run left half-written."""
  root = storage.Path(out)
  storage.remove(root / _DONE)
  if not storage.is_local(out):
    return  # An object store never shows half an object.
  for folder in (root, *root.glob("shards*"), root / FOLDER_OF_EMBEDDINGS, *root.glob(".cache/*")):
    if folder.exists():
      whole = set(storage.list_files(folder))
      for path in folder.iterdir():
        if path.is_file() and path not in whole:
          storage.remove(path)


def _summary(listing: ingest.Listing, out: str) -> dict[str, Any]:
  with storage.local_copy(f"{out}/clips.parquet") as local:
    clips = parquet.read_table(local, columns=["kept", "drop_reasons"]).to_pylist()
  with storage.local_copy(f"{out}/rejects.parquet") as local:
    rejects = parquet.read_metadata(local).num_rows
  return {
    "sources": listing.num_files,
    "clips": len(clips),
    "kept": sum(row["kept"] for row in clips),
    "dropped": dict(Counter(reason for row in clips for reason in row["drop_reasons"])),
    "rejects": rejects,
  }


def main() -> None:
  """Reads the flags and curates."""
  videos, out = (_given(flag) for flag in (_VIDEOS, _OUT))
  config = config_lib.load(_CONFIG.value, command.config_overrides())
  start = time.monotonic()
  summary = curate(videos, out, config, command.unknown_flags(), _CACHE.value)
  dropped = ", ".join(f"{count} {name}" for name, count in sorted(summary["dropped"].items()))
  print(
    f"{summary['sources']} files ({summary['rejects']} rejected), {summary['clips']} shots, "
    f"{summary['kept']} kept ({dropped or 'none'} dropped) in {time.monotonic() - start:.0f} s: "
    f"{out}/report.html"
  )


def _given(flag: flags.FlagHolder[str | None]) -> str:
  if not flag.value:
    raise ValueError(f"--{flag.name} is missing: vidjax curate --videos=DIR --out=DIR")
  return flag.value


if __name__ == "__main__":
  command.run(main, pass_unknown=True)
