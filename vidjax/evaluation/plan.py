"""What a protocol compares, made concrete for the data that is there: videos, prompts, samples."""

from collections.abc import Sequence
import dataclasses

from vidjax.errors import DataError
from vidjax.evaluation import datasets, prompts, sample_plan, sides
from vidjax.evaluation.datasets import Dataset, Item
from vidjax.evaluation.datasets.items import chance
from vidjax.evaluation.protocol import Protocol
from vidjax.evaluation.sample_plan import Prompt


@dataclasses.dataclass(frozen=True)
class Plan:
  """Both sides before anything is read.

  Attributes:
    dataset: of the real side.
    real: the videos that are compared.
    missing: how many videos of the data set are not there.
    prompts: what is to be generated; none where the protocol scores given clips.
  """

  dataset: Dataset
  real: tuple[Item, ...]
  missing: int
  prompts: tuple[Prompt, ...]


def make(
  protocol: Protocol,
  data: str,
  *,
  lists: str = "",
  sentences: str = "",
  allow_missing: bool = False,
) -> Plan:
  """Opens the data set and plans the samples; no video is opened.

  Raises:
    ValueError: the protocol needs a file of sentences, or has no use for one.
    FileNotFoundError, DataError: the data set is not there, or not whole.
  """
  if (protocol.fake.prompts == "sentence") != bool(sentences):
    need = "needs --sentences=FILE" if not sentences else "has its own prompts: leave --sentences"
    raise ValueError(f"protocol {protocol.name!r} {need} (prompts {protocol.fake.prompts!r})")
  dataset = _open(protocol, protocol.real.split, data, lists, allow_missing)
  real = sides.real_items(dataset.items, protocol.real, protocol.limit)
  planned = _prompts(protocol, dataset, real, data, lists, sentences)
  return Plan(dataset, tuple(real), len(dataset.missing), _limited(planned, protocol.limit))


def _open(protocol: Protocol, split: str, data: str, lists: str, allow_missing: bool) -> Dataset:
  name = protocol.real.dataset
  if lists and name != "ucf101":
    raise ValueError(f"--lists={lists}: only UCF-101 has lists, this protocol is of {name!r}")
  options = {"lists": lists} if lists else {}
  return datasets.open_dataset(name, data, split or None, allow_missing=allow_missing, **options)


def _prompts(
  protocol: Protocol,
  dataset: Dataset,
  real: Sequence[Item],
  data: str,
  lists: str,
  sentences: str,
) -> list[Prompt]:
  fake = protocol.fake
  if fake.prompts == "given":
    return []
  if fake.prompts in ("one_caption", "all_captions"):
    # All captions are those of the whole split, also where the real side is a draw from it.
    items = dataset.items if fake.prompts == "all_captions" else real
    draw = "all" if fake.prompts == "all_captions" else "one"
    return sample_plan.plan_caption_samples(items, fake.count, fake.seed, draw)
  of_set = "sentence" if fake.prompts == "ours" else fake.prompts
  texts = prompts.class_prompts(of_set, dataset.classes, sentences or None)
  if fake.condition == "first_frame":
    return [_of_video(item, texts, fake.seed) for item in real]
  if fake.histogram == "uniform":
    histogram = dict.fromkeys(dataset.classes, 1)
  elif fake.histogram == protocol.real.split:
    histogram = dict(dataset.histogram)
  else:
    # Only counts of the official lists are wanted, whatever videos are there.
    histogram = dict(_open(protocol, fake.histogram, data, lists, True).histogram)
  return sample_plan.plan_class_samples(histogram, texts, fake.count, fake.seed)


def _of_video(item: Item, texts: dict[str, str], seed: int) -> Prompt:
  if item.label is None:
    raise DataError(f"{item.id} has no class, from which its prompt would be made")
  own = chance(seed, item.id, "noise") % (1 << 31)
  return Prompt(item.id, texts[item.label], item.label, item.id, None, own)


def _limited(planned: Sequence[Prompt], limit: int | None) -> tuple[Prompt, ...]:
  """At most so many, of all classes alike: drawn by a hash of their ids."""
  if limit is None or limit >= len(planned):
    return tuple(planned)
  order = sorted(planned, key=lambda p: chance(0, p.sample_id, "limit"))
  chosen = {prompt.sample_id for prompt in order[:limit]}
  return tuple(prompt for prompt in planned if prompt.sample_id in chosen)
