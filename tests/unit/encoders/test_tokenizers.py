"""Tokenizers: bytes, and what is missing."""

import pickle

import numpy as np
import pytest

from vidjax.encoders import tokenizers


def test_bytes_between_begin_and_end():
  ids = tokenizers.load("random:tiny")(" Aé ")
  assert ids.dtype == np.int32
  assert ids.shape == (64,)
  assert ids[:6].tolist() == [1, 3 + ord("A"), 3 + 0xC3, 3 + 0xA9, 2, 0]
  assert not ids[5:].any()


def test_long_text_is_cut_before_the_end_token():
  ids = tokenizers.ByteTokenizer(length=8)("x" * 100)
  assert ids.tolist() == [1, *[3 + ord("x")] * 6, 2]


def test_a_written_byte_tokenizer_comes_back(tmp_path):
  tokenizer = tokenizers.ByteTokenizer(length=20)
  tokenizers.save(tokenizer, tmp_path / "tokenizer")
  assert tokenizers.load(str(tmp_path / "text_encoder")) == tokenizer


def test_tokenizers_travel_to_decoding_processes():
  tokenizer = tokenizers.load("random:tiny")
  copy = pickle.loads(pickle.dumps(tokenizer))
  np.testing.assert_array_equal(copy("a cat"), tokenizer("a cat"))


def test_missing_files_are_named(tmp_path):
  with pytest.raises(ValueError, match=r"no vocab.json and merges.txt"):
    tokenizers.load(str(tmp_path))
