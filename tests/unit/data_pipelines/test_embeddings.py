"""The table of embeddings: its columns, and that numbers stay numbers on their way into it."""

import tracemalloc

import numpy as np
from pyarrow import parquet
import pytest

from data_pipelines import embeddings
from data_pipelines.paths import Paths


@pytest.mark.parametrize("at_once", [7, 100])
def test_what_is_written_is_what_was_given(tmp_path, monkeypatch, at_once):
  monkeypatch.setattr(embeddings, "_CLIPS_AT_ONCE", at_once)
  rng = np.random.default_rng(0)
  given = {f"c{i:02d}": rng.normal(size=(3, 8)).astype(np.float32) for i in range(20)}
  pairs = list(given.items())[::-1]
  name = embeddings._write(((1, 3), pairs), Paths("", str(tmp_path), ""))
  assert name == "part-00001-of-00003.parquet"
  table = parquet.read_table(tmp_path / "embeddings" / name)
  assert str(table.schema.field("embedding").type) == "fixed_size_list<element: float>[24]"
  assert table["clip_id"].to_pylist() == sorted(given)
  for row in table.to_pylist():
    np.testing.assert_array_equal(np.float32(row["embedding"]), given[row["clip_id"]].ravel())


def test_memory_is_that_of_the_numbers(tmp_path):
  """As Python's floats they would be ten times as large."""
  count, width = 2000, 768
  given = np.zeros((count, 3, width), np.float32)
  pairs = [(f"{i:06d}", given[i]) for i in range(count)]
  tracemalloc.start()
  embeddings._write(((0, 1), pairs), Paths("", str(tmp_path), ""))
  _, most = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert most < 2.5 * given.nbytes
