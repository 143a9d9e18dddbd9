"""Captions to token ids: the tokenizers of CLIP and T5 from their files, and bytes for tests."""

import dataclasses
from typing import Any, Protocol

import numpy as np

from vidjax import storage
from vidjax.encoders.clip_tokenizer import ClipTokenizer
from vidjax.encoders.sentencepiece_tokenizer import FILE, SentencePieceTokenizer

RANDOM_TINY = "random:tiny"
_SETTINGS = "tokenizer_config.json"
_BYTES = "vidjax.ByteTokenizer"


class Tokenizer(Protocol):
  """What turns a caption into the ids that a text encoder takes."""

  @property
  def length(self) -> int:
    """Number of ids of every caption, padding included."""
    ...

  @property
  def begin(self) -> int | None:
    """Id before the text; None if nothing is."""
    ...

  @property
  def end(self) -> int:
    """Id after the text."""
    ...

  @property
  def pad(self) -> int:
    """Id of the padding."""
    ...

  def __call__(self, text: str) -> np.ndarray:
    """Token ids of `text`: int32 (length,); what is too long is cut."""
    ...

  def write(self, folder: storage.Path) -> dict[str, Any]:
    """Writes the files of the vocabulary; returns the settings that `save` writes beside them."""
    ...


def load(spec: str) -> Tokenizer:
  """The tokenizer of the text encoder `spec`.

  Args:
    spec: folder of a text encoder, with `vocab.json` and `merges.txt` (CLIP) or `spiece.model` (T5)
      in it or in `tokenizer` beside it; or "random:tiny".

  Raises:
    ValueError: no tokenizer files of this encoder are there, or broken ones.
  """
  if spec == RANDOM_TINY:
    return ByteTokenizer()
  root = storage.Path(spec)
  model_type = _model_type(root)
  for folder in (root, root.parent / "tokenizer"):
    settings = _settings(folder)
    if settings.get("tokenizer_class") == _BYTES:
      return ByteTokenizer(length=settings["model_max_length"])
    if model_type != "t5" and all((folder / name).exists() for name in _CLIP_FILES):
      return ClipTokenizer.from_files(folder, settings)
    if not model_type.startswith("clip") and (folder / FILE).exists():
      return SentencePieceTokenizer.from_files(folder, settings)
  wanted = [f"no {' and '.join(_CLIP_FILES)} (CLIP)"] if model_type != "t5" else []
  wanted += [f"no {FILE} (T5)"] if not model_type.startswith("clip") else []
  raise ValueError(
    f"encoders.text={spec!r}: {' and '.join(wanted)} there or in ../tokenizer: copy the tokenizer"
    " folder of the model beside it"
  )


_CLIP_FILES = ("vocab.json", "merges.txt")


def save(tokenizer: Tokenizer, folder: storage.PathLike) -> None:
  """Writes the files that `load` reads; transformers reads those of CLIP and T5, too."""
  root = storage.Path(folder)
  storage.write_json(root / _SETTINGS, tokenizer.write(root))


def unread(tokenizer: Tokenizer, text: str) -> str:
  """The end of `text` that does not fit into the ids of a caption; "" if all of it does."""
  text = " ".join(text.split())
  ids = tokenizer(text)
  low, high = 0, len(text)  # the shortest beginning that gives the same ids
  while low < high:
    middle = (low + high) // 2
    if np.array_equal(tokenizer(text[:middle]), ids):
      high = middle
    else:
      low = middle + 1
  return text[low:].strip()


@dataclasses.dataclass(frozen=True)
class ByteTokenizer:
  """UTF-8 bytes as tokens: 0 pads, 1 begins, 2 ends, 3 + b is byte b."""

  length: int = 64
  begin: int = 1
  end: int = 2
  pad: int = 0

  def __call__(self, text: str) -> np.ndarray:
    """See `Tokenizer`."""
    data = text.strip().encode("utf-8")[: self.length - 2]
    ids = np.full(self.length, self.pad, np.int32)
    ids[: len(data) + 2] = [self.begin, *(3 + byte for byte in data), self.end]
    return ids

  def write(self, folder: storage.Path) -> dict[str, Any]:
    """See `Tokenizer`; bytes need no vocabulary."""
    del folder
    about = "UTF-8 bytes: 0 pads, 1 begins, 2 ends, 3 + b is byte b"
    return {"tokenizer_class": _BYTES, "model_max_length": self.length, "about": about}


def _settings(folder: storage.Path) -> dict[str, Any]:
  settings = {}
  for name in ("special_tokens_map.json", _SETTINGS):
    if (folder / name).exists():
      settings.update(storage.read_json(folder / name))
  return settings


def _model_type(root: storage.Path) -> str:
  """Which encoder the tokenizer is for, as its config says; "" if there is none."""
  path = root / "config.json"
  return str(storage.read_json(path).get("model_type", "")) if path.exists() else ""
