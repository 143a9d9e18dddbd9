"""What each place makes of a run is what is on file."""

import pytest

from tests.golden.launched import CASES, FOLDER, text


@pytest.mark.parametrize("name", CASES)
def test_launches_are_those_on_file(name, monkeypatch):
  for variable in ("XLA_FLAGS", "LIBTPU_INIT_ARGS"):
    monkeypatch.delenv(variable, raising=False)
  saved = (FOLDER / f"{name}.txt").read_text()
  assert text(name) == saved, "if this is meant: python -m tests.golden.launched"


def test_there_is_a_case_for_every_file():
  assert {path.stem for path in FOLDER.iterdir()} == set(CASES)
