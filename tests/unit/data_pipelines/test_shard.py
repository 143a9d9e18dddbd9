"""Records and shards: TFDS opens them, our light reader sees the same, no old shard stays."""

import dataclasses
import subprocess
import sys

from array_record.python import array_record_module
import pytest

from data_pipelines import shard
from vidjax import errors
from vidjax.data import schema

RECORD = schema.ClipRecord(
  clip_id="abc",
  source="some/vidéo.mp4",
  video=b"\x00\x01mp4\xff",
  num_frames=96,
  fps=23.976,
  width=342,
  height=256,
  start_time_s=1.5,
  end_time_s=5.5,
  motion_score=1.25,
  captions_json=schema.to_json({"sidecar": "Ein Hund läuft."}),
  scores_json=schema.to_json({"motion_std": 0.5}),
)


def test_records_survive_a_round_trip():
  read = schema.parse_record(schema.serialize_record(RECORD))
  assert read == dataclasses.replace(RECORD, fps=read.fps)
  assert read.fps == pytest.approx(23.976, rel=1e-6)
  assert read.captions == {"sidecar": "Ein Hund läuft."}
  assert schema.serialize_record(read) == schema.serialize_record(RECORD)


def test_bytes_that_are_no_record():
  with pytest.raises(errors.DataError, match=r"not a tf\.train\.Example"):
    schema.parse_record(b"\xff\xff\xff")
  with pytest.raises(errors.DataError, match="lacks the field"):
    schema.parse_record(b"")


def test_the_light_reader_does_not_import_tfds():
  code = "import sys, vidjax.data.schema; print('tensorflow_datasets' in sys.modules)"
  done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
  assert done.stdout.strip() == "False"


def test_tfds_writes_the_same_message():
  features = schema.tfds_features()
  encoded = features.encode_example(dataclasses.asdict(RECORD))
  assert schema.parse_record(features.serialize_example(encoded)) == schema.parse_record(
    schema.serialize_record(RECORD)
  )


@pytest.fixture
def written(tmp_path):
  """Ten train records in three shards and two held out, beside a shard of an earlier run."""
  folder = tmp_path / "shards"
  folder.mkdir()
  (folder / schema.shard_name("train", 0, 9)).write_bytes(b"old")
  (folder / "features.json").write_text("old")
  stored, shards = [], []
  for i in range(12):
    path = tmp_path / f"record{i}"
    path.write_bytes(schema.serialize_record(dataclasses.replace(RECORD, clip_id=f"clip{i}")))
    split = "holdout" if i >= 10 else "train"
    stored.append(shard.Stored(f"clip{i}", split, str(path), path.stat().st_size))
  for split, count in (("train", 3), ("holdout", 1)):
    for index in range(count):
      mine = [s for s in stored if s.split == split and shard.stretch(s.clip_id, count) == index]
      shards.append(shard.write_shard(folder, split, index, count, mine))
  shard.write_metadata(folder, shards)
  return folder


@pytest.mark.filterwarnings(r"ignore:label\(\) is deprecated:DeprecationWarning")
def test_tfds_opens_the_shards_without_tensorflow(written):
  import tensorflow_datasets as tfds

  builder = tfds.builder_from_directory(str(written))
  train, holdout = builder.as_data_source("train"), builder.as_data_source("holdout")
  assert (len(train), len(holdout)) == (10, 2)
  ours = [
    schema.parse_record(data)
    for path in schema.shard_files(written, "train")
    for data in array_record_module.ArrayRecordReader(str(path)).read_all()
  ]
  assert [row["clip_id"].decode() for row in train] == [record.clip_id for record in ours]
  assert train[3]["video"] == RECORD.video
  assert train[3]["source"].decode() == RECORD.source
  assert train[3]["motion_score"] == 1.25
  assert "tensorflow" not in sys.modules


def test_the_order_is_that_of_the_hash_whatever_the_number_of_shards(written):
  ids = [
    schema.parse_record(data).clip_id
    for path in schema.shard_files(written, "train")
    for data in array_record_module.ArrayRecordReader(str(path)).read_all()
  ]
  assert ids == sorted((f"clip{i}" for i in range(10)), key=shard.order)


def test_shards_of_an_earlier_run_are_removed(written):
  names = {path.name for path in written.iterdir()}
  expected = {schema.shard_name("train", i, 3) for i in range(3)}
  expected |= {schema.shard_name("holdout", 0, 1), "dataset_info.json", "features.json"}
  assert names == expected | {"SHA256SUMS"}


def test_checksums_are_those_of_the_files(written):
  command = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
  done = subprocess.run(command, cwd=written, capture_output=True, text=True)
  assert done.returncode == 0, done.stdout
  names = [
    schema.shard_name("holdout", 0, 1),
    *(schema.shard_name("train", i, 3) for i in range(3)),
  ]
  assert done.stdout.splitlines() == [f"{name}: OK" for name in names]
  with open(written / names[2], "r+b") as file:
    file.seek(100)
    file.write(b"!")
  done = subprocess.run(command, cwd=written, capture_output=True, text=True)
  assert f"{names[2]}: FAILED" in done.stdout


def test_shard_files_takes_the_result_folder_too_and_checks_the_set(written):
  assert schema.shard_files(written.parent, "train") == schema.shard_files(written, "train")
  with pytest.raises(errors.DataError, match="no ArrayRecord shard"):
    schema.shard_files(written, "test")
  with pytest.raises(FileNotFoundError, match="does not exist"):
    schema.shard_files(written / "absent", "train")
  (written / schema.shard_name("train", 1, 3)).unlink()
  with pytest.raises(errors.DataError, match="incomplete"):
    schema.shard_files(written, "train")


def test_number_of_shards():
  assert [shard.num_shards(b, 10) for b in (0, 4_000_000, 16_000_000, 104_000_000)] == [1, 1, 2, 10]
