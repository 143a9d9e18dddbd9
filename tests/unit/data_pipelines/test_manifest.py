"""Lists of videos: what they say of a file, and what is wrong with one, by row."""

import json

import pyarrow as pa
from pyarrow import parquet
import pytest

from data_pipelines import ingest, manifest
from vidjax.errors import DataError

ROWS = [
  {"file_name": "b/two.mp4", "text": "a dog", "caption_long": "a dog runs", "views": 12, "by": "x"},
  {"file_name": "one.mp4", "text": " ", "caption_long": "a cat", "views": 0.5, "by": "7 days"},
]


@pytest.fixture(params=["csv", "jsonl", "parquet"])
def path(request, tmp_path):
  path = tmp_path / f"list.{request.param}"
  match request.param:
    case "csv":
      lines = [",".join(map(str, row.values())) for row in ROWS]
      path.write_text("\n".join([",".join(ROWS[0]), *lines]))
    case "jsonl":
      path.write_text("\n".join(map(json.dumps, ROWS)))
    case "parquet":
      parquet.write_table(pa.Table.from_pylist(ROWS), path)
  return path


def test_what_is_known_of_files(path):
  assert manifest.read(path) == {
    "b/two.mp4": manifest.Known({"text": "a dog", "long": "a dog runs"}, {"views": 12.0}),
    "one.mp4": manifest.Known({"long": "a cat"}, {"views": 0.5}),
  }


def test_a_listing_has_its_files_also_those_that_are_not_there(path):
  (path.parent / "one.mp4").touch()
  (path.parent / "three.mp4").touch()
  found = ingest.find(str(path))
  assert (found.root, found.media) == (str(path.parent), ("b/two.mp4", "one.mp4"))
  assert found.known["one.mp4"].captions == {"long": "a cat"}
  before = found.signature
  (path.parent / "b").mkdir()
  (path.parent / "b" / "two.mp4").touch()
  assert ingest.find(str(path)).signature != before


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("", "has no rows"),
    ('{"file": "a.mp4"}', "row 0 names no file in the column 'file_name'"),
    ('{"file_name": "a.mp4"}\n{"file_name": "a.mp4"}', "row 1 names a.mp4 again"),
    ('{"file_name": "../a.mp4"}', r"row 0.*\.\./a\.mp4"),
    ('{"file_name": "/etc/a.mp4"}', "row 0.*/etc/a.mp4"),
    ("{", "line 1 is not JSON"),
  ],
)
def test_what_is_wrong_is_named(tmp_path, text, message):
  (tmp_path / "list.jsonl").write_text(text)
  with pytest.raises(DataError, match=message):
    ingest.find(f"{tmp_path}/list.jsonl")


def test_a_list_that_is_not_there(tmp_path):
  with pytest.raises(FileNotFoundError, match="there is no such list"):
    ingest.find(f"{tmp_path}/list.csv")
