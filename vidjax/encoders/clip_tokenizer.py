"""CLIP's byte-pair encoding, from its files."""

from collections.abc import Iterator, Mapping
import dataclasses
import functools
import itertools
from typing import Any
import unicodedata

import numpy as np

from vidjax import storage

_END_OF_WORD = "</w>"


@dataclasses.dataclass(frozen=True)
class ClipTokenizer:
  """CLIP's byte-pair encoding (arXiv 2103.00020, section 2.4), on lower-case text.

  Attributes:
    ids: id of each piece; the end of a word is part of its last piece, as `</w>`.
    ranks: for each pair of pieces that may be joined, when; lower first.
    length: number of ids of every caption.
    begin: id before the text.
    end: id after it.
    pad: id of the padding: 0 in Stable Diffusion 2, the end token in CLIP itself.
  """

  ids: dict[str, int]
  ranks: dict[tuple[str, str], int]
  length: int
  begin: int
  end: int
  pad: int

  @classmethod
  def from_files(cls, folder: storage.Path, settings: Mapping[str, Any]) -> "ClipTokenizer":
    """Reads `vocab.json` and `merges.txt`; `settings` are those beside them."""
    ids = storage.read_json(folder / "vocab.json")
    lines = storage.read_text(folder / "merges.txt").splitlines()
    merges = [tuple(line.split()) for line in lines if line and not line.startswith("#version")]
    begin, end, pad = (
      _token(settings.get(key), default)
      for key, default in (
        ("bos_token", "<|startoftext|>"),
        ("eos_token", "<|endoftext|>"),
        ("pad_token", "<|endoftext|>"),
      )
    )
    for token in (begin, end, pad):
      if token not in ids:
        raise ValueError(
          f"{folder / 'vocab.json'} has no token {token!r}: is it CLIP's vocabulary?"
        )
    return cls(
      ids=ids,
      ranks={pair: rank for rank, pair in enumerate(merges) if len(pair) == 2},
      # Converters write huge numbers for "no limit".
      length=min(int(settings.get("model_max_length", 77)), 77),
      begin=ids[begin],
      end=ids[end],
      pad=ids[pad],
    )

  def write(self, folder: storage.Path) -> dict[str, Any]:
    """Writes the vocabulary as transformers has it; returns the settings that go beside it."""
    tokens = {index: token for token, index in self.ids.items()}
    merges = "".join(f"{left} {right}\n" for left, right in self.ranks)
    storage.write_text(folder / "merges.txt", "#version: 0.2\n" + merges)
    storage.write_json(folder / "vocab.json", self.ids)
    return {
      "tokenizer_class": "CLIPTokenizer",
      "model_max_length": self.length,
      "do_lower_case": True,
      "bos_token": tokens[self.begin],
      "eos_token": tokens[self.end],
      "unk_token": tokens[self.end],
      "pad_token": tokens[self.pad],
    }

  def __call__(self, text: str) -> np.ndarray:
    """Token ids of `text`, see `tokenizers.Tokenizer`."""
    pieces = [piece for word in _words(text) for piece in self._encode(word)]
    pieces = [self.begin, *pieces[: self.length - 2], self.end]
    return np.array(pieces + [self.pad] * (self.length - len(pieces)), np.int32)

  def _encode(self, word: str) -> list[int]:
    """Joins neighbouring pieces of `word`, the most common pair first, until none is left."""
    alphabet = _byte_alphabet()
    pieces = [alphabet[byte] for byte in word.encode("utf-8")]
    pieces[-1] += _END_OF_WORD
    while len(pieces) > 1:
      pairs = list(itertools.pairwise(pieces))
      best = min(pairs, key=lambda pair: self.ranks.get(pair, len(self.ranks)))
      if best not in self.ranks:
        break
      joined, i = [], 0
      while i < len(pieces):
        together = tuple(pieces[i : i + 2]) == best
        joined.append("".join(pieces[i : i + 1 + together]))
        i += 1 + together
      pieces = joined
    unknown = self.end
    return [self.ids.get(piece, unknown) for piece in pieces]


def _words(text: str) -> Iterator[str]:
  """Splits normalised text into contractions, runs of letters, single digits, runs of the rest."""
  text = " ".join(unicodedata.normalize("NFC", text).split()).lower()
  i = 0
  while i < len(text):
    contraction = next((c for c in _CONTRACTIONS if text.startswith(c, i)), "")
    kind = _kind(text[i])
    end = i + (len(contraction) or 1)
    if not contraction and kind in ("letter", "other"):
      while end < len(text) and _kind(text[end]) == kind:
        end += 1
    if kind != "space":
      yield text[i:end]
    i = end


_CONTRACTIONS = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d")


def _kind(character: str) -> str:
  if character.isspace():
    return "space"
  return {"L": "letter", "N": "number"}.get(unicodedata.category(character)[0], "other")


@functools.cache
def _byte_alphabet() -> list[str]:
  """A printable character for each byte: itself where it prints, else one from U+0100 on."""
  printable = {
    *range(ord("!"), ord("~") + 1),
    *range(ord("¡"), ord("¬") + 1),
    *range(ord("®"), 256),
  }
  others = iter(range(256, 512))
  return [chr(byte if byte in printable else next(others)) for byte in range(256)]


def _token(setting: Any, default: str) -> str:
  """A special token as its text: files hold either that or an object with `content`."""
  if isinstance(setting, dict):
    return setting["content"]
  return default if setting is None else setting
