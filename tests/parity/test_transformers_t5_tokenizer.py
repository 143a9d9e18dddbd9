"""T5's tokenizer against transformers, on a small model learned here."""

import sys

from caption_corpus import captions
import numpy as np
import pytest
import transformers
from transformers.utils import sentencepiece_model_pb2_new

from vidjax.encoders import sentencepiece_tokenizer, tokenizers

TEXTS = [
  "",
  "A dog runs",
  "  The DOG'S   running\n",
  "unseenwords, they'll've!?! don't",
  "naïve cafe\u0301 2023 北京²½ ½cup x_y ΣΑ ﬁre",
  "emoji 🐕🐕 and\ttabs — dashes...",
  "ｆｕｌｌ width \u3000 space\u00a0that \u200b is none \ufeff",
  "a ▁ mark▁of spaces",
  "long " * 200,
]


@pytest.fixture
def theirs(tmp_path, monkeypatch):
  """Writes a tokenizer with our code and reads it with theirs."""
  # Theirs parses the file with code of the sentencepiece package, which asks for a protobuf as new
  # as itself; the same code is in transformers, for any protobuf.
  name = "sentencepiece.sentencepiece_model_pb2"
  monkeypatch.setitem(sys.modules, name, sentencepiece_model_pb2_new)

  def run(ours):
    tokenizers.save(ours, tmp_path)
    return transformers.AutoTokenizer.from_pretrained(tmp_path)

  return run


@pytest.mark.parametrize("vocab_size", [48, 60])
def test_ids_are_those_of_transformers(theirs, vocab_size):
  ours = sentencepiece_tokenizer.learn(captions(), vocab_size, length=100)
  their = theirs(ours)
  assert isinstance(their, transformers.T5Tokenizer)
  assert (len(their), their.model_max_length) == (vocab_size, 100)
  assert (their.pad_token_id, their.eos_token_id, their.unk_token_id) == (0, 1, 2)
  for text in [*TEXTS, *captions(20)]:
    expected = their(text, padding="max_length", truncation=True).input_ids
    np.testing.assert_array_equal(ours(text), expected, err_msg=repr(text))
