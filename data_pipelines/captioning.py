"""Captioning as a step of the graph: many requests under way, and every text kept as it comes.

Servers are fast when they are asked much at once, and most sources have few clips. So all threads
of a worker process share one pool of requests, which goes on with the clips of the next sources of
a bundle while those of the first are under way.
"""

import collections
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
import concurrent.futures
import dataclasses
import threading
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput

from data_pipelines import caption, captioners, clip_scores, isolation, looking, progress, tables
from data_pipelines import config as config_lib
from data_pipelines import rows as row_lib
from data_pipelines.paths import Paths
from vidjax import storage

# How many clips wait for texts, for each request that may be under way.
_CLIPS_PER_REQUEST = 2

_lock = threading.Lock()
_pools: dict[int, "Pool"] = {}


class Pool:
  """Requests of this process, so many at once. The first one that fails is the end of all."""

  def __init__(self, size: int):
    self._size = size
    self._executor = concurrent.futures.ThreadPoolExecutor(size, "captions")
    self._failure: BaseException | None = None

  @classmethod
  def of(cls, size: int) -> "Pool":
    """The one of this process; a new one after a failure, since runners try again."""
    with _lock:
      if size not in _pools:
        _pools[size] = cls(size)
      return _pools[size]

  def submit(self, function: Callable[..., Any], *args: Any) -> concurrent.futures.Future:
    """Calls `function(*args)` when it is its turn."""
    try:
      return self._executor.submit(self._call, function, args)
    except RuntimeError:
      if self._failure is None:
        raise
      raise self._failure from None  # which has closed it

  def result(self, future: concurrent.futures.Future) -> Any:
    """What a call gave; raises the failure of another one, if that has kept it from running."""
    try:
      return future.result()
    except concurrent.futures.CancelledError:
      assert self._failure
      raise self._failure from None

  def _call(self, function: Callable[..., Any], args: tuple) -> Any:
    try:
      return function(*args)
    except BaseException as error:
      with _lock:
        self._failure = self._failure or error
        if _pools.get(self._size) is self:
          del _pools[self._size]
      # Those under way end, and what they give is kept; nobody asks a dead server for the rest.
      self._executor.shutdown(wait=False, cancel_futures=True)
      raise


@dataclasses.dataclass(frozen=True)
class _Asked:
  """A clip whose texts are known or on their way; None for neither: it cannot be read."""

  row: row_lib.Row
  told: caption.Told | concurrent.futures.Future | None
  before: caption.Told  # what was remembered
  cpu_s: float


@dataclasses.dataclass(frozen=True)
class Answers:
  """How a captioner has answered.

  Attributes:
    texts: Clips that have one of it.
    refused: Clips that its server refused.
    takes: Whether its model is known to take others.
    example: Why it refused one.
  """

  texts: int = 0
  refused: int = 0
  takes: bool = False
  example: str = ""

  @classmethod
  def all_of(cls, answers: Iterable["Answers"]) -> "Answers":
    """Those of several parts."""
    parts = list(answers)
    return cls(
      texts=sum(one.texts for one in parts),
      refused=sum(one.refused for one in parts),
      takes=any(one.takes for one in parts),
      example=min((one.example for one in parts if one.example), default=""),
    )


class Captioning(beam.DoFn):
  """(source, its rows) -> rows with texts, and how well these fit the frames.

  Beside them `tables.Cost` under "costs", and (name of a text, `Answers`) under "answers".
  """

  def __init__(self, paths: Paths, config: config_lib.CurateConfig):
    self._paths, self._config = paths, config
    self._folder = storage.Path(paths.cache("captions"))

  def setup(self) -> None:
    """Looks at the models, once for each worker."""
    self._weights = caption.weights(self._config.caption)

  def start_bundle(self) -> None:
    """Nothing is under way yet."""
    self._pool = Pool.of(self._config.caption.concurrency)
    self._asked: collections.deque[_Asked] = collections.deque()
    self._told: list[row_lib.Row] = []

  def process(self, group: tuple[str, Iterable[row_lib.Row]]) -> Iterator[Any]:
    """Gives the rows that are done; others may be of earlier sources."""
    source, rows = group
    if not self._config.caption.captioners:
      self._told.extend(rows)
      yield from self._scored(last=False)
      return
    allowed = _CLIPS_PER_REQUEST * self._config.caption.concurrency
    with row_lib.Copy(storage.Path(self._paths.videos) / source) as copy:
      for portion in row_lib.portions(rows):
        self._asked.extend(self._ask(copy, portion))
        yield from self._answered(allowed)
        yield from self._scored(last=False)
    progress.step("caption", source)

  def finish_bundle(self) -> Iterator[Any]:
    """Gives the rest."""
    yield from map(looking.at_the_end, self._answered(0))
    yield from map(looking.at_the_end, self._scored(last=True))

  def _file(self, row: row_lib.Row) -> Any:
    hashed = caption.key(self._config.caption, self._weights, row.clip.captions)
    return self._folder / f"{row.clip.clip_id}-{hashed}.json"

  def _ask(self, copy: row_lib.Copy, rows: Sequence[row_lib.Row]) -> list[_Asked]:
    """Asks for what was not remembered."""
    config = self._config.caption
    remembered, todo = {}, []
    for row in rows:
      told, cpu_s = caption.Told(), 0.0
      if (file := self._file(row)).exists():
        found = storage.read_json(file)
        told, cpu_s = caption.Told(found["texts"], found["refused"]), found["cpu_s"]
      remembered[row.clip.clip_id] = told, cpu_s
      if caption.missing(row.clip.captions, told, config):
        todo.append(row.clip)
    shown, cpu_s = self._read(copy, todo) if todo else ({}, 0.0)
    unread = {clip.clip_id for clip in todo} - shown.keys()
    asked = []
    for row in rows:
      before, took_s = remembered[row.clip.clip_id]
      told = None if row.clip.clip_id in unread else before
      if one := shown.get(row.clip.clip_id):
        took_s += cpu_s
        told = self._pool.submit(self._write, one, row, before, took_s)
      asked.append(_Asked(row, told, before, took_s))
    return asked

  def _read(
    self, copy: row_lib.Copy, clips: Sequence[tables.Clip]
  ) -> tuple[dict[str, caption.Shown], float]:
    """Frames of clips by id, and what reading took for each."""
    try:
      outcome = isolation.call(
        *(caption.read, copy.path(), clips, self._config.caption), **self._config.ingest.limits
      )
    except row_lib.LOST:
      return {}, 0.0
    return {one.clip_id: one for one in outcome.value}, outcome.cpu_s / len(clips)

  def _write(
    self, one: caption.Shown, row: row_lib.Row, told: caption.Told, cpu_s: float
  ) -> caption.Told:
    """Asks the captioners about a clip; in a thread of the pool."""
    config, file = self._config.caption, self._file(row)

    def save(told: caption.Told) -> None:
      kept = caption.lasting(told, config)
      if kept != caption.Told():
        storage.write_json(file, {**kept.to_json(), "cpu_s": cpu_s})

    return caption.write(one, row.clip.captions, told, config, save)

  def _answered(self, allowed: int) -> Iterator[Any]:
    """Takes in answers in the order of asking, until so many clips still wait."""
    while self._asked and (len(self._asked) > allowed or _is_done(self._asked[0].told)):
      one = self._asked.popleft()
      row, told = one.row, one.told
      if isinstance(told, concurrent.futures.Future):
        told = self._pool.result(told)
      if told is None:
        yield row_lib.decided(row, ["unreadable"])
        continue
      yield TaggedOutput("costs", tables.Cost("caption", one.cpu_s, row.clip.seconds))
      for name in told.texts:
        yield TaggedOutput("answers", (name, Answers(texts=1, takes=True)))
      for name, answer in told.refused.items():
        takes = captioners.tally(self._config.caption.captioners[name]).taken > 0
        takes |= name in one.before.refused  # or it would not have been remembered
        yield TaggedOutput("answers", (name, Answers(refused=1, takes=takes, example=answer)))
      texts = {name: text for name, text in told.texts.items() if text}
      clip = dataclasses.replace(row.clip, captions={**row.clip.captions, **texts})
      self._told.append(dataclasses.replace(row, clip=clip))

  def _scored(self, last: bool) -> Iterator[Any]:
    """Rows without a text, and those whose texts fill a batch of CLIP, or all of them."""
    scorer = clip_scores.scorer(self._config.look)
    yield from (row for row in self._told if not row.clip.captions)
    self._told = [row for row in self._told if row.clip.captions]
    if last or not scorer or sum(len(r.clip.captions) for r in self._told) >= scorer.batch_size:
      rows, self._told = self._told, []
      yield from _similar(rows, scorer)


def _is_done(told: Any) -> bool:
  return not isinstance(told, concurrent.futures.Future) or told.done()


def _similar(
  rows: Sequence[row_lib.Row], scorer: clip_scores.Scorer | None
) -> Iterator[row_lib.Row | TaggedOutput]:
  """The rows with the similarity of their texts to their frames, where they have both."""
  names = [caption.ordered(row.clip.captions) for row in rows]
  texts = [row.clip.captions[name] for row, of in zip(rows, names, strict=True) for name in of]
  embedded = scorer.embed_texts(texts) if scorer and texts else None
  first = 0
  for row, of in zip(rows, names, strict=True):
    mine = slice(first, first + len(of))
    first = mine.stop
    if embedded and of:
      cost = tables.Cost("similarity", embedded.cpu_s * len(of) / len(texts), row.clip.seconds)
      yield TaggedOutput("costs", cost)
    if embedded is None or row.embedding is None or not of:
      yield row
      continue
    cosines_N3 = embedded.vectors_NX[mine] @ row.embedding.T
    means = {f"similarity_{n}": float(c) for n, c in zip(of, cosines_N3.mean(1), strict=True)}
    clip = dataclasses.replace(
      row.clip,
      clip_similarity=float(cosines_N3[0, 1]),  # of the middle frame and the first caption
      scores={**row.clip.scores, **means},
    )
    yield dataclasses.replace(row, clip=clip)


def show_refusals(answers: Any, config: config_lib.CurateConfig) -> None:
  """Adds to a pipeline that refusals are counted and shown, and that no model refuses everything.

  Args:
    answers: Those of `Captioning`.
    config: The captioners.
  """
  _ = (
    answers
    | "answers by captioner" >> beam.CombinePerKey(Answers.all_of)
    | "refusals" >> beam.Map(_show, config.caption.captioners)
  )


def _show(found: tuple[str, Answers], by_name: Mapping[str, config_lib.CaptionerConfig]) -> None:
  name, answers = found
  if answers.refused and not answers.takes:
    raise captioners.none_is_taken(name, by_name[name], answers.example)
  if answers.refused:
    progress.note(
      f"caption: {answers.refused} of {answers.refused + answers.texts} clips have no text of"
      f" caption.{name}, since the server refused them: {answers.example}"
    )
