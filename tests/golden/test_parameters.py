"""Names, shapes and sharding roles of all parameters are those on file."""

import pytest

from tests.golden.parameters import FOLDER, text
from vidjax.models.unet import PRESETS


@pytest.mark.parametrize("preset", PRESETS)
def test_parameters_are_those_on_file(preset):
  expected = (FOLDER / f"{preset}.txt").read_text()
  assert text(preset) == expected, "if this is meant: python -m tests.golden.parameters"


def test_no_file_is_left_of_a_preset_that_is_gone():
  assert {path.stem for path in FOLDER.glob("*.txt")} == set(PRESETS)
