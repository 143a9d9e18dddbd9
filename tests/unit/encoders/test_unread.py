"""What of a prompt a text encoder does not get to read."""

import pytest

from vidjax.encoders import tokenizers


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("", ""),
    ("short", ""),
    ("x" * 14, ""),
    ("x" * 15, "x"),
    ("fourteen chars and more", "and more"),
  ],
)
def test_bytes_beyond_the_length(text, expected):
  tokenizer = tokenizers.ByteTokenizer(length=16)
  assert tokenizers.unread(tokenizer, text) == expected
