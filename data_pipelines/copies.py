"""The part of the graph that leaves out files that are copies of others, byte by byte.

Of equal files the one whose name comes first is read, with its own captions and no others'. Only
files of a size that another one has, too, are hashed for it.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput

from data_pipelines import faults, ingest, manifest, progress, tables
from data_pipelines.paths import Paths
from vidjax import storage

Collection: TypeAlias = Any  # of Beam, whose types know no named outputs
_Listed: TypeAlias = tuple[str, manifest.Known]
_UNKNOWN = manifest.Known()


def left_out(
  root: beam.Pipeline, listing: ingest.Listing, paths: Paths
) -> tuple[Collection, Collection]:
  """Adds the search for copies: (source, what a list says of it) to read, and `tables.Reject`."""
  counts = Counter(listing.sizes.values())
  alone: list[_Listed] = []
  alike: list[_Listed] = []
  for source in listing.media:
    size = listing.sizes.get(source, -1)
    known = listing.known.get(source, _UNKNOWN)
    (alike if size > 0 and counts[size] > 1 else alone).append((source, known))
  parted = (
    root
    | "sources of equal size" >> beam.Create(alike)
    | "spread to hash" >> beam.Reshuffle()
    | "content" >> beam.Map(_by_content, paths)
    | "same content" >> beam.GroupByKey()
    | "copies" >> beam.FlatMap(_first).with_outputs("copies", main="first")
  )
  others = root | "other sources" >> beam.Create(alone)
  return (parted.first, others) | "sources" >> beam.Flatten(), parted.copies


def _by_content(listed: _Listed, paths: Paths) -> tuple[str, _Listed]:
  source, _ = listed
  try:
    return storage.sha256(storage.Path(paths.videos) / source), listed
  except Exception as error:
    if not faults.is_of_file(error, paths.videos):
      raise
    return f"unreadable: {source}", listed  # its analysis says why


def _first(group: tuple[str, Iterable[_Listed]]) -> Iterator[Any]:
  _, listed = group
  first, *others = sorted(listed, key=lambda pair: pair[0])
  yield first
  for source, _ in others:
    progress.step("analyse", f"{source}: a copy of {first[0]}")
    yield TaggedOutput(
      "copies", tables.Reject(source, "copy", f"holds the same bytes as {first[0]}")
    )
