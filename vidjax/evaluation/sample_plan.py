"""What an evaluation is to generate: a list that is made once, stored, and gone by.

A sample has an id, a text and a seed of its own, so that a run that was stopped goes on with the
same samples, and one with more of them keeps those that are there. Ids and seeds depend on the seed
of the plan and on what the sample is of, not on how many there are.
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
from typing import Any

from vidjax import errors, storage
from vidjax.evaluation import prompts
from vidjax.evaluation.datasets.items import Caption, Item, chance, listed

FORMAT = "vidjax prompts 1"
DRAWS = ("one", "all")
_SEEDS = 1 << 31
_FIELDS = {
  "sample_id": (str,),
  "prompt": (str,),
  "label": (str, type(None)),
  "video_id": (str, type(None)),
  "sen_id": (int, type(None)),
  "seed": (int,),
}


@dataclasses.dataclass(frozen=True)
class Prompt:
  """One sample that is to be generated.

  Attributes:
    sample_id: unique; the name of a file, in a folder where that of its video is.
    prompt: the text.
    label: class that it is of; None for a caption.
    video_id: video whose caption it is; None for a class.
    sen_id: number of the caption; None for a class.
    seed: of its noise, in [0, 2^31).
  """

  sample_id: str
  prompt: str
  label: str | None
  video_id: str | None
  sen_id: int | None
  seed: int


def plan_class_samples(
  histogram: Mapping[str, int], texts: Mapping[str, str], count: int | None = None, seed: int = 0
) -> list[Prompt]:
  """Plans samples of classes, in the order of their names.

  Args:
    histogram: class -> number of videos, of the whole data set (`Dataset.histogram`).
    texts: class -> prompt (`prompts.class_prompts`).
    count: how many samples; the histogram is scaled to it (`prompts.scaled`). None takes as many as
      the histogram has: 13,320 for UCF-101 as SVD does.
    seed: of the seeds.

  Returns:
    Samples `LABEL_0000`, `LABEL_0001`, ... of each class. A class that is given more samples keeps
    those that it had.

  Raises:
    ValueError: a class has no prompt; or there are no classes.
  """
  without = [label for label in histogram if label not in texts]
  if without:
    raise ValueError(f"{listed(without, 'classes')} of the histogram have no prompt")
  if not histogram:
    raise ValueError(
      "the data set has no classes to plan samples of; for one of TFDS give the official lists"
    )
  counts = prompts.scaled(histogram, sum(histogram.values()) if count is None else count)
  return [
    _prompt(f"{label}_{i:04d}", texts[label], seed, label=label)
    for label, number in counts.items()
    for i in range(number)
  ]


def plan_caption_samples(
  items: Sequence[Item], count: int | None = None, seed: int = 0, captions: str = "one"
) -> list[Prompt]:
  """Plans samples of captions.

  Args:
    items: videos with captions.
    count: how many samples; None takes one for each video, or for each caption.
    seed: of draws and seeds.
    captions: "one" draws a caption for each video, the one that `datasets.draw_captions` draws.
      Fewer samples than videos are of videos drawn at random; for more, each video has a second
      one, another of its captions, and so on. "all" takes the captions by their number (`sen_id`),
      as VideoPoet does (2312.14125, A.5.5: "the first 40,960").

  Returns:
    Samples `VIDEO_0`, `VIDEO_1`, ... in the order of `items`; those of a smaller `count` are among
    those of a larger one. The number is that of the draw, or of the caption within its video.

  Raises:
    ValueError: a video has no caption; or there are not as many captions.
  """
  if captions not in DRAWS:
    raise ValueError(f"captions={captions!r}, choose from {', '.join(DRAWS)}")
  without = [item.id for item in items if not item.captions]
  if without or not items:
    raise ValueError(f"{listed(without)} of {len(items)} without a caption: none can be sampled")
  available = sum(len(item.captions) for item in items)
  count = (len(items) if captions == "one" else available) if count is None else count
  if not 0 <= count <= available:
    raise ValueError(f"{count} samples of {available} captions: each is used at most once")
  places = {item.id: place for place, item in enumerate(items)}
  every = list(_drawn(items, seed) if captions == "one" else _in_order(items))[:count]
  every.sort(key=lambda choice: (places[choice[0]], choice[1]))
  return [
    _prompt(f"{video}_{number}", caption.text, seed, video_id=video, sen_id=caption.sen_id)
    for video, number, caption in every
  ]


def write_prompts(path: storage.PathLike, planned: Sequence[Prompt]) -> None:
  """Stores a plan as JSON.

  Raises:
    NoSpaceError: the disk is full.
  """
  rows = [dataclasses.asdict(prompt) for prompt in planned]
  storage.write_json(path, {"format": FORMAT, "count": len(rows), "prompts": rows})


def read_prompts(path: storage.PathLike) -> list[Prompt]:
  """Reads a stored plan.

  Raises:
    DataError: it is none, or ids are in it twice; the message names the file and the entry.
    FileNotFoundError: there is no such file.
  """
  try:
    content = storage.read_json(path)
  except ValueError as error:
    raise errors.DataError(str(error)) from error
  if not isinstance(content, dict) or content.get("format") != FORMAT:
    raise errors.DataError(f"{path} is no list of prompts: its 'format' is not {FORMAT!r}")
  rows = content.get("prompts")
  if not isinstance(rows, list) or len(rows) != content.get("count"):
    raise errors.DataError(f"{path}: 'count' is not the number of its 'prompts'")
  found: dict[str, Prompt] = {}
  for number, row in enumerate(rows):
    prompt = _of_row(f"{path}: prompts[{number}]", row)
    if prompt.sample_id in found:
      raise errors.DataError(f"{path}: prompts[{number}]: {prompt.sample_id} is in it twice")
    found[prompt.sample_id] = prompt
  return list(found.values())


def check_prompts(
  path: storage.PathLike, stored: Sequence[Prompt], planned: Sequence[Prompt]
) -> None:
  """Refuses a stored plan that is not the one that an evaluation would make now.

  Raises:
    ValueError: says how they differ: in number, or in which sample first.
  """
  if len(stored) != len(planned):
    raise ValueError(
      f"{path} plans {len(stored)} samples, this evaluation {len(planned)}: {_ADVICE}"
    )
  for have, want in zip(stored, planned, strict=True):
    if have != want:
      names = [name for name in _FIELDS if getattr(have, name) != getattr(want, name)]
      differences = ", ".join(
        f"{name} {getattr(have, name)!r} and not {getattr(want, name)!r}" for name in names
      )
      raise ValueError(f"{path} has for {have.sample_id} {differences}: {_ADVICE}")


_ADVICE = (
  "it is of another data set, prompt set, number or seed; set these as they were, or choose another"
  " folder"
)


def _prompt(
  sample_id: str,
  text: str,
  seed: int,
  *,
  label: str | None = None,
  video_id: str | None = None,
  sen_id: int | None = None,
) -> Prompt:
  own = chance(seed, sample_id, "noise") % _SEEDS
  return Prompt(sample_id, text, label, video_id, sen_id, own)


def _drawn(items: Sequence[Item], seed: int) -> Iterator[tuple[str, int, Caption]]:
  """First draws of all videos, then second ones; the videos in an order of their own."""
  order = sorted(items, key=lambda item: (chance(seed, item.id, "order"), item.id))
  shuffled = {item.id: _shuffled(item, seed) for item in items}
  for number in range(max(len(item.captions) for item in items)):
    for item in order:
      if number < len(item.captions):
        yield item.id, number, shuffled[item.id][number]


def _shuffled(item: Item, seed: int) -> list[Caption]:
  """Captions of a video in random order; the first is the one that `draw_captions` draws."""
  first = chance(seed, item.id, "caption") % len(item.captions)
  rest = [caption for i, caption in enumerate(item.captions) if i != first]
  rest.sort(key=lambda caption: (chance(seed, item.id, str(caption.sen_id)), caption.sen_id))
  return [item.captions[first], *rest]


def _in_order(items: Sequence[Item]) -> list[tuple[str, int, Caption]]:
  every = [(item.id, i, caption) for item in items for i, caption in enumerate(item.captions)]
  return sorted(every, key=lambda choice: choice[2].sen_id)


def _of_row(where: str, row: Any) -> Prompt:
  if not isinstance(row, dict) or set(row) != set(_FIELDS):
    raise errors.DataError(f"{where} has not the fields {', '.join(_FIELDS)}")
  for name, kinds in _FIELDS.items():
    if not isinstance(row[name], kinds) or isinstance(row[name], bool):
      raise errors.DataError(f"{where}: {name} is {row[name]!r}")
  if not row["sample_id"] or not 0 <= row["seed"] < _SEEDS:
    raise errors.DataError(f"{where}: an empty sample_id, or a seed not in [0, 2^31)")
  storage.check_below(row["sample_id"], where, errors.DataError)
  return Prompt(**row)
