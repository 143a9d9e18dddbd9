"""T5's tokenizer: a SentencePiece model from its file, or learned from captions.

Source: SentencePiece (arXiv 1808.06226), by its own package; ids and end token are those of T5
(arXiv 1910.10683).
"""

from collections.abc import Iterable, Mapping
import dataclasses
import functools
import io
import re
from typing import Any

import numpy as np
import sentencepiece

from vidjax import storage

FILE = "spiece.model"
MODEL_TYPES = ("unigram", "bpe")

# T5 was trained on 512 tokens, which its files state. Captions of video are far shorter (128 tokens
# are about 90 English words), and attention to padding costs as much as to words.
LENGTH, TRAINED_LENGTH = 128, 512

# What transformers calls T5's tokenizer, whose models are of type unigram; others have no class.
_T5_CLASS, _NO_CLASS = "T5Tokenizer", "vidjax.SentencePieceTokenizer"
_PAD, _END, _UNKNOWN = 0, 1, 2


@dataclasses.dataclass(frozen=True)
class SentencePieceTokenizer:
  """A SentencePiece model as T5 uses it: pieces, the end token, padding; nothing begins a text.

  Ids are those of transformers' T5Tokenizer, but for special tokens that a caption spells out, such
  as `</s>` or its sentinels `<extra_id_N>`: these are plain text here.

  Attributes:
    model: content of the model's file.
    length: number of ids of every caption.
    sentinels: how many sentinels transformers puts behind the vocabulary.
    tokenizer_class: of transformers, for the settings beside the file.
  """

  model: bytes = dataclasses.field(repr=False)
  length: int = LENGTH
  sentinels: int = 100
  tokenizer_class: str = _T5_CLASS

  @classmethod
  def from_files(
    cls, folder: storage.Path, settings: Mapping[str, Any]
  ) -> "SentencePieceTokenizer":
    """Reads `spiece.model`; `settings` are those beside it.

    `model_max_length` of the settings is the length if it is below the 512 that T5 was trained on,
    which stand in its files and mean 128 here.

    Raises:
      ValueError: the file is no SentencePiece model, or has no padding or end token.
    """
    path = folder / FILE
    content = storage.read_bytes(path)
    try:
      processor = _processor(content)
    except RuntimeError as exc:
      raise ValueError(f"{path} is not a SentencePiece model: copy it again") from exc
    if processor.pad_id() < 0 or processor.eos_id() < 0:
      raise ValueError(f"{path} has no padding or no end token: is it T5's?")
    stated = int(settings.get("model_max_length", TRAINED_LENGTH))
    return cls(
      content,
      length=stated if stated < TRAINED_LENGTH else LENGTH,
      sentinels=settings.get("extra_ids", 100),
      tokenizer_class=settings.get("tokenizer_class", _T5_CLASS),
    )

  @property
  def vocab_size(self) -> int:
    """Number of ids, without sentinels."""
    return _processor(self.model).vocab_size()

  @property
  def begin(self) -> None:
    """Nothing is before the text."""
    return None

  @property
  def end(self) -> int:
    """Id after the text."""
    return _processor(self.model).eos_id()

  @property
  def pad(self) -> int:
    """Id of the padding."""
    return _processor(self.model).pad_id()

  def pieces(self, text: str) -> list[int]:
    """Ids of the text itself, however many."""
    return _processor(self.model).encode(text, out_type=int)

  def __call__(self, text: str) -> np.ndarray:
    """Token ids of `text`, see `tokenizers.Tokenizer`."""
    ids = [*self.pieces(text)[: self.length - 1], self.end]
    return np.array(ids + [self.pad] * (self.length - len(ids)), np.int32)

  def write(self, folder: storage.Path) -> dict[str, Any]:
    """Writes the model's file; returns the settings that go beside it."""
    storage.write_bytes(folder / FILE, self.model)
    return {
      "tokenizer_class": self.tokenizer_class,
      "model_max_length": self.length,
      "extra_ids": self.sentinels,
      "eos_token": "</s>",
      "unk_token": "<unk>",
      "pad_token": "<pad>",
    }


def learn(
  captions: Iterable[str],
  vocab_size: int,
  *,
  model_type: str = MODEL_TYPES[0],
  length: int = LENGTH,
) -> SentencePieceTokenizer:
  """Learns a model from captions: the same of the same captions in the same order.

  Args:
    captions: single lines; at least one that is not empty.
    vocab_size: number of ids, with those of padding (0), end (1) and what is unknown (2).
    model_type: one of `MODEL_TYPES`; transformers' T5Tokenizer reads "unigram" only.
    length: of the tokenizer.

  Raises:
    ValueError: the captions do not give such a vocabulary; the message says which they do.
  """
  file = io.BytesIO()
  try:
    sentencepiece.SentencePieceTrainer.Train(
      sentence_iterator=iter(captions),
      model_writer=file,
      vocab_size=vocab_size,
      model_type=model_type,
      pad_id=_PAD,
      eos_id=_END,
      unk_id=_UNKNOWN,
      bos_id=-1,
      num_threads=_THREADS,
      max_sentence_length=_LONGEST,
      minloglevel=_ERRORS_ONLY,
    )
  except RuntimeError as exc:
    raise ValueError(_explain(vocab_size, str(exc))) from exc
  return SentencePieceTokenizer(
    file.getvalue(),
    length,
    sentinels=0,
    tokenizer_class=_T5_CLASS if model_type == "unigram" else _NO_CLASS,
  )


_THREADS = 16  # sums are in the order of the threads: a fixed number gives the same model anywhere
_LONGEST = 1 << 16  # bytes; longer captions are not learned from
_ERRORS_ONLY = 2


def _explain(vocab_size: int, message: str) -> str:
  """What a user can do about a failure of the trainer."""
  if most := re.search(r"too high.*<= (\d+)", message):
    return (
      f"vocab_size={vocab_size} is too high: these captions give at most {most[1]} pieces; lower"
      " it, or add captions"
    )
  if least := re.search(r"smaller than required_chars.*?(\d+) vs (\d+)", message):
    return (
      f"vocab_size={vocab_size} is too low: the characters of these captions alone are"
      f" {least[2]} pieces"
    )
  return f"vocab_size={vocab_size}: no model can be learned from these captions: {message}"


@functools.lru_cache(maxsize=4)
def _processor(model: bytes) -> sentencepiece.SentencePieceProcessor:
  """The model ready for use, once a process: tokenizers travel as bytes."""
  processor = sentencepiece.SentencePieceProcessor()
  processor.LoadFromSerializedProto(model)
  return processor
