"""Looking as a step of the graph: frames of each source, and CLIP on those of many sources at once.

Legend: N pictures, S side, C channels (RGB), X embedding.
"""

import collections
from collections.abc import Iterable, Iterator, Sequence
import dataclasses
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms import window

from data_pipelines import clip_scores, isolation, look, progress, tables
from data_pipelines import config as config_lib
from data_pipelines import rows as row_lib
from data_pipelines.paths import Paths
from vidjax import storage


@dataclasses.dataclass(frozen=True)
class _Looked:
  """A clip whose frames were read; `cpu_s` is what that took."""

  row: row_lib.Row
  look: look.Look
  cpu_s: float


class Looking(beam.DoFn):
  """(source, its rows) -> rows with what is seen on them; and `tables.Cost` under "costs".

  CLIP is given batches that are full: clips wait for those of the next sources of the bundle, so
  that a source of one clip does not take the time of a whole batch.
  """

  def __init__(self, paths: Paths, config: config_lib.CurateConfig):
    self._paths, self._config = paths, config
    self._folder = storage.Path(paths.cache("looks"))
    self._key = config_lib.fingerprint(
      look.VERSION, dataclasses.replace(config.look, batch_size=0), paths.weights
    )

  def start_bundle(self) -> None:
    """Nothing waits yet."""
    self._waiting: collections.deque[_Looked] = collections.deque()

  def process(self, group: tuple[str, Iterable[row_lib.Row]]) -> Iterator[Any]:
    """Gives the rows that are done; others may be of earlier sources."""
    source, rows = group
    if not (self._config.look.text_area or self._config.look.clip):
      yield from rows
      return
    with row_lib.Copy(storage.Path(self._paths.videos) / source) as copy:
      for portion in row_lib.portions(rows):
        todo = []
        for row in portion:
          if (file := self._file(row)).exists():
            yield from _told(row, look.Seen.from_json(storage.read_json(file)))
          else:
            todo.append(row)
        if todo:
          self._waiting.extend(self._looked(copy, todo))
        yield from self._scored(clip_scores.scorer(self._config.look), last=False)
    progress.step("look", source)

  def finish_bundle(self) -> Iterator[Any]:
    """Gives the rest."""
    scorer = clip_scores.scorer(self._config.look) if self._waiting else None
    yield from map(at_the_end, self._scored(scorer, last=True))

  def _file(self, row: row_lib.Row) -> Any:
    return self._folder / f"{row.clip.clip_id}-{self._key}.json"

  def _looked(self, copy: row_lib.Copy, rows: Sequence[row_lib.Row]) -> list[_Looked]:
    scorer = clip_scores.scorer(self._config.look)
    clips = [row.clip for row in rows]
    try:
      outcome = isolation.call(
        *(look.look, copy.path(), clips, self._config.look, scorer.side if scorer else 0),
        **self._config.ingest.limits,
      )
    except row_lib.LOST as error:
      looks, cpu_s = [look.Look(clip.clip_id, error=str(error)) for clip in clips], 0.0
    else:
      looks, cpu_s = outcome.value, outcome.cpu_s / len(rows)
    return [_Looked(row, one, cpu_s) for row, one in zip(rows, looks, strict=True)]

  def _scored(self, scorer: clip_scores.Scorer | None, last: bool) -> Iterator[Any]:
    """Rows of clips that wait: those that fill batches, or all of them."""
    at_once = max(1, self._config.look.batch_size // 3) if scorer else len(self._waiting)
    while self._waiting and (last or len(self._waiting) >= at_once):
      batch = [self._waiting.popleft() for _ in range(min(at_once, len(self._waiting)))]
      seen = look.seen([one.look for one in batch], scorer, [one.cpu_s for one in batch])
      for one, found in zip(batch, seen, strict=True):
        if not found.error:
          storage.write_json(self._file(one.row), found.to_json())
        yield from _told(one.row, found)


def _told(row: row_lib.Row, seen: look.Seen) -> Iterator[Any]:
  yield TaggedOutput("costs", tables.Cost("look", seen.cpu_s, row.clip.seconds))
  clip = dataclasses.replace(row.clip, text_area=seen.text_area, aesthetic=seen.aesthetic)
  row = dataclasses.replace(row, clip=clip, embedding=seen.embedding)
  yield row_lib.decided(row, ["unreadable"]) if seen.error else row


def at_the_end(output: Any) -> Any:
  """An output of `finish_bundle`, where Beam knows of no element whose window it could be in."""
  if isinstance(output, TaggedOutput):
    return TaggedOutput(output.tag, at_the_end(output.value))
  return window.GlobalWindows.windowed_value_at_end_of_window(output)
