"""CLIP's tokenizer against transformers, on a small vocabulary learned here."""

import collections
import itertools
import json

import numpy as np
import pytest
import transformers

from vidjax.encoders import clip_tokenizer, tokenizers

CORPUS = (
  "a dog runs through the snow, the dog's tail wags! two dogs running, runner's 3 prizes; it's an"
  " old naïve café — 北京 in winter 2023 :) they'll say they've run and i'd ran"
)
TEXTS = [
  "",
  "A dog runs",
  "  The DOG'S   running\n",
  "unseenwords, they'll've!?! don't",
  "naïve cafe\u0301 2023 北京²½ ½cup x_y ΣΑ",
  "emoji 🐕🐕 and\ttabs — dashes...",
  "long " * 200,
]


def learn_files(folder, rounds):
  """Byte-pair encoding as CLIP's files have it: joins the most frequent pair, `rounds` times."""
  alphabet = clip_tokenizer._byte_alphabet()
  words = [
    [*(alphabet[b] for b in word.encode()[:-1]), alphabet[word.encode()[-1]] + "</w>"]
    for word in CORPUS.lower().split()
  ]
  merges = []
  for _ in range(rounds):
    counts = collections.Counter(pair for word in words for pair in itertools.pairwise(word))
    pair = max(sorted(counts), key=lambda p: counts[p])
    merges.append(pair)
    words = [join(word, pair) for word in words]
  tokens = [*alphabet, *(c + "</w>" for c in alphabet), *("".join(pair) for pair in merges)]
  tokens += ["<|startoftext|>", "<|endoftext|>"]
  (folder / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(tokens)}))
  lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
  (folder / "merges.txt").write_text("\n".join(lines) + "\n")


def join(word, pair):
  joined = []
  for piece in word:
    if joined and (joined[-1], piece) == pair:
      joined[-1] += piece
    else:
      joined.append(piece)
  return joined


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp("tokenizer")
  learn_files(folder, rounds=60)
  return folder


@pytest.mark.parametrize("text", TEXTS)
def test_ids_are_those_of_transformers(folder, text):
  theirs = transformers.CLIPTokenizer.from_pretrained(folder)
  expected = theirs(text, padding="max_length", max_length=77, truncation=True).input_ids
  ours = tokenizers.load(str(folder))
  np.testing.assert_array_equal(ours(text), expected)


def test_written_files_are_read_by_both(folder, tmp_path):
  ours = tokenizers.load(str(folder))
  tokenizers.save(ours, tmp_path / "tokenizer")
  assert tokenizers.load(str(tmp_path / "text_encoder")) == ours  # in the folder beside it
  theirs = transformers.CLIPTokenizer.from_pretrained(tmp_path / "tokenizer")
  expected = theirs(CORPUS, padding="max_length", max_length=77, truncation=True).input_ids
  np.testing.assert_array_equal(ours(CORPUS), expected)
