"""The layout of every array of a training state is that on file."""

from tests.golden.shardings import FILE, text


def test_shardings_are_those_on_file():
  assert text() == FILE.read_text(), "if this is meant: python -m tests.golden.shardings"
