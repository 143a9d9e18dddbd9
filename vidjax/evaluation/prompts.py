"""The texts that are sampled: one for each class of UCF-101, or captions of videos.

What UCF-101's classes are called in prompts differs between papers and moves the result, so each
way is a set with a name:

    classname   the name as the data set writes it, "ApplyEyeMakeup": SVD (2311.15127, App. E.4)
    split       its words in small letters, "apply eye makeup"
    sentence    one sentence for each class: of a file, `class<TAB>sentence` in each line, or ours

What is to be sampled is a list that is stored (`prompts.json`), since "one random caption for each
video" cannot be repeated otherwise.
"""

from collections.abc import Mapping, Sequence
import re

from vidjax import errors, storage
from vidjax.evaluation import ucf101_sentences

SETS = ("classname", "split", "sentence")
_MAX_BYTES = 1 << 24
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")


def class_prompts(name: str, classes: Sequence[str], path: str | None = None) -> dict[str, str]:
  """Prompts of a set: class -> text.

  Args:
    name: of `SETS`.
    classes: names as the data set writes them.
    path: file of the sentences; None takes ours, which know the classes of UCF-101 only.

  Raises:
    ValueError: no such set; or a file for a set that has none.
    DataError: the sentences lack classes, or have ones that are not known; the message lists them.
  """
  if name not in SETS:
    raise ValueError(f"prompt set {name!r} is not known: choose from {', '.join(SETS)}")
  if path is not None and name != "sentence":
    raise ValueError(f"the prompt set {name!r} is made of the names alone: {path} is not used")
  if name == "classname":
    return {label: label for label in classes}
  if name == "split":
    return {label: split_words(label) for label in classes}
  if path is None:
    return parse_sentences(ucf101_sentences.SENTENCES, "our sentences for UCF-101", classes)
  try:
    text = storage.read_bytes(path, _MAX_BYTES).decode("utf-8-sig")
  except ValueError as error:
    raise errors.DataError(f"{path} cannot be read: {error}") from error
  return parse_sentences(text, path, classes)


def split_words(label: str) -> str:
  """The words of a name in small letters: a word begins with each capital ("yo yo")."""
  return " ".join(_WORD.findall(label)).lower()


def parse_sentences(text: str, origin: str, classes: Sequence[str]) -> dict[str, str]:
  """Reads `class<TAB>sentence` lines; classes are compared without regard to case.

  Args:
    text: the lines; empty ones are skipped.
    origin: where they are from, for messages.
    classes: names as the data set writes them; each has to have a sentence.

  Returns:
    Class -> sentence, in the order of `classes`.

  Raises:
    DataError: a line has another form, a class comes twice, is missing, or is not known.
  """
  by_name = {label.lower(): label for label in classes}
  found: dict[str, str] = {}
  unknown = []
  for number, line in enumerate(text.splitlines(), 1):
    if not line.strip():
      continue
    name, tab, sentence = line.partition("\t")
    name, sentence = name.strip(), sentence.strip()
    if not tab or not name or not sentence:
      raise errors.DataError(f"{origin}:{number}: {line[:60]!r} is not 'class<TAB>sentence'")
    label = by_name.get(name.lower())
    if label is None:
      unknown.append(name)
    elif label in found:
      raise errors.DataError(f"{origin}:{number}: {label} has two sentences")
    else:
      found[label] = sentence
  missing = [label for label in classes if label not in found]
  if missing or unknown:
    raise errors.DataError(
      f"{origin}: no sentence for {', '.join(missing) or 'no class'}; not a class of the data set:"
      f" {', '.join(unknown) or 'none'}"
    )
  return {label: found[label] for label in classes}


def scaled(histogram: Mapping[str, int], count: int) -> dict[str, int]:
  """Divides `count` samples among classes as `histogram` does, by largest remainder.

  As many as the histogram has give the histogram itself. Of equal remainders the class that comes
  first by name has the sample.

  Raises:
    ValueError: there are no classes, or a number is negative.
  """
  total = sum(histogram.values())
  if total < 1 or min(histogram.values()) < 0 or count < 0:
    raise ValueError(f"{count} samples cannot be divided among {dict(histogram)}")
  labels = sorted(histogram)
  counts = {label: count * histogram[label] // total for label in labels}
  left = count - sum(counts.values())
  by_remainder = sorted(labels, key=lambda label: -(count * histogram[label] % total))
  for label in by_remainder[:left]:
    counts[label] += 1
  return counts
