import json
import os
import pickle

import clip_shards
import numpy as np
import pytest

from vidjax import errors
from vidjax.data import records as shard_records
from vidjax.data import schedule
from vidjax.data.sources import shards


def open_shards(path):
  return shards.open_source(str(path), "train", {})


def usable(path, **changes):
  """Ids of the clips that a stream over the data set shows."""
  (stream,) = schedule.open_schedule(clip_shards.config(path, **changes), 0).videos.streams
  (member,) = stream.members
  return [member.source[member.number(i)].clip_id for i in range(member.count)]


def test_every_record_is_reached_across_shards(dataset, records):
  source = open_shards(dataset)
  assert len(source.listing) == 6
  assert [source[i].clip_id for i in range(6)] == [record.clip_id for record in records]
  assert source.name(0) == "clips-train.array_record-00000-of-00002[0]"
  assert source.name(4) == "clips-train.array_record-00001-of-00002[1]"


def test_a_source_travels_without_its_listing(dataset):
  source = open_shards(dataset)
  assert source[2].clip_id == "clip02"  # readers are open now
  travelled = pickle.loads(pickle.dumps(source))
  assert travelled[5].clip_id == "clip05"
  assert len(travelled.listing) == 0
  assert travelled.listing.digest == source.listing.digest


def test_listing_knows_durations_rates_and_sizes(dataset):
  listing = open_shards(dataset).listing
  np.testing.assert_allclose(listing.durations_s, [4, 4, 4, 4, 4, 4.8], rtol=1e-6)
  np.testing.assert_allclose(listing.fps, [12, 12, 12, 12, 12, 9 / 4.8], rtol=1e-6)
  assert listing.sizes.tolist() == [[64, 64]] * 6


def test_a_clip_reads_scaled_frames_and_time_stamps(dataset, records):
  clip = open_shards(dataset)[3]
  frames_THWC = clip.read(np.array([0.0, 1.0]), (32, 48))
  assert frames_THWC.shape == (2, 48, 48, 3)  # covers, is not cut yet
  np.testing.assert_allclose(clip.times_s(), clip_shards.steady(4.0), atol=1e-4)
  assert clip.captions == {"sidecar": "clip number 3"}


def test_the_shards_folder_itself_is_a_path_too(dataset):
  assert len(usable(dataset / "shards")) == 6


def test_short_and_slow_clips_are_left_out(tmp_path, records):
  short = clip_shards.make_clip(9, clip_shards.steady(1.0))
  slow = clip_shards.make_clip(8, clip_shards.steady(8.0, fps=1.0))
  clip_shards.write_shards(tmp_path, [records[0], short, slow, records[1]])
  assert usable(tmp_path) == ["clip00", "clip01"]
  assert usable(tmp_path, num_frames=1) == ["clip00", "clip09", "clip08", "clip01"]
  assert usable(tmp_path, fps=1.0, num_frames=3) == ["clip00", "clip08", "clip01"]


def test_no_clip_long_enough_says_what_is_needed(dataset):
  with pytest.raises(errors.DataError, match=r"needs 7.5 s; the longest of 6 clips has 4.8") as e:
    usable(dataset, num_frames=16)
  assert str(dataset) in str(e.value)
  assert e.value.exit_code == 3


def test_index_file_is_used_instead_of_the_records(tmp_path, records, monkeypatch):
  clip_shards.write_shards(tmp_path, records, shards=3)
  scanned = shards.load_index(str(tmp_path), "train")
  shards.write_index(str(tmp_path), "train")
  shards._load_index.cache_clear()
  monkeypatch.setattr(shards, "_scan", lambda *_: pytest.fail("read the shards"))
  loaded = shards.load_index(str(tmp_path), "train")
  for field in ("durations_s", "fps", "sizes", "digest"):
    expected = getattr(scanned.listing, field)
    np.testing.assert_array_equal(getattr(loaded.listing, field), expected)
  assert loaded.counts == scanned.counts == (2, 2, 2)


def test_index_file_of_other_shards_is_not_believed(tmp_path, records):
  clip_shards.write_shards(tmp_path, records[:2])
  shards.write_index(str(tmp_path), "train")
  os.utime(tmp_path / "shards" / "index-train.npz", (0, 0))
  clip_shards.write_shards(tmp_path, records)  # of the same size: files are filled up
  shard_records.open_shard.cache_clear()
  assert len(shards.load_index(str(tmp_path), "train").listing) == 6


def test_index_file_of_an_older_form_is_not_believed(tmp_path, records):
  clip_shards.write_shards(tmp_path, records)
  np.savez(tmp_path / "shards" / "index-train.npz", shards=np.array(["other"]))
  assert len(shards.load_index(str(tmp_path), "train").listing) == 6


def test_shards_of_another_version_are_refused(tmp_path, records):
  clip_shards.write_shards(tmp_path, records)
  info = tmp_path / "shards" / "dataset_info.json"
  info.write_text(json.dumps({"version": "1.7.0"}))
  assert len(open_shards(tmp_path).listing) == 6
  info.write_text(json.dumps({"version": "2.0.0"}))
  with pytest.raises(errors.DataError, match=r"dataset_info.json: the field 'version' is '2.0.0'"):
    open_shards(tmp_path)


def test_a_record_with_a_wrong_checksum_is_not_used(tmp_path, records):
  clip_shards.write_shards(tmp_path, records)
  (shard,) = (tmp_path / "shards").glob("*.array_record*")
  data = bytearray(shard.read_bytes())
  data[data.index(records[2].video) + 100] ^= 255
  shard.write_bytes(data)
  assert usable(tmp_path) == ["clip00", "clip01", "clip03", "clip04", "clip05"]


def test_a_record_that_is_no_clip_is_not_used(tmp_path, records):
  clip_shards.write_shards(tmp_path, [records[0], b"no example", records[1]])
  assert len(usable(tmp_path)) == 2


def test_a_broken_shard_is_named(tmp_path, records):
  clip_shards.write_shards(tmp_path, records)
  (shard,) = (tmp_path / "shards").glob("*.array_record*")
  shard.write_bytes(shard.read_bytes()[:1000])
  with pytest.raises(errors.DataError, match="00000-of-00001 is not an ArrayRecord file, or"):
    open_shards(tmp_path)


def test_a_missing_shard_is_named(tmp_path, records):
  clip_shards.write_shards(tmp_path, records, shards=3)
  (tmp_path / "shards" / "clips-train.array_record-00001-of-00003").unlink()
  with pytest.raises(errors.DataError, match="has 2 shards of the split 'train', but their names"):
    open_shards(tmp_path)


def test_a_missing_folder_is_an_input_error(tmp_path):
  with pytest.raises(FileNotFoundError, match="nowhere") as e:
    open_shards(tmp_path / "nowhere")
  assert errors.exit_code(e.value) == 2


def test_an_unknown_option_is_refused(dataset):
  with pytest.raises(ValueError, match="'shards' has no option 'colour'"):
    shards.open_source(str(dataset), "train", {"colour": 1})


def write_subset(path, ids):
  import pyarrow as pa
  from pyarrow import parquet

  parquet.write_table(pa.table({"clip_id": ids}), path)
  return {"subset": str(path)}


def test_a_subset_shows_the_chosen_clips_alone(dataset, tmp_path):
  options = write_subset(tmp_path / "a.parquet", ["clip03", "clip01", "elsewhere"])
  assert usable(dataset, options=options) == ["clip01", "clip03"]
  whole = open_shards(dataset).listing.digest
  some = shards.open_source(str(dataset), "train", options)
  others = write_subset(tmp_path / "b.parquet", ["clip03", "clip02"])
  digests = {whole, some.listing.digest}
  digests.add(shards.open_source(str(dataset), "train", others).listing.digest)
  assert len(digests) == 3  # a run that is resumed notices
  assert some[5].clip_id == "clip05"  # numbers are those of the shards
  assert pickle.loads(pickle.dumps(some)).listing.chosen is None


def test_a_subset_of_something_else_is_refused(dataset, tmp_path):
  options = write_subset(tmp_path / "a.parquet", ["x", "y"])
  with pytest.raises(errors.DataError, match="none of its 2 clips is in"):
    shards.open_source(str(dataset), "train", options)
  with pytest.raises(errors.DataError, match="does not exist"):
    shards.open_source(str(dataset), "train", {"subset": str(tmp_path / "none.parquet")})
  with pytest.raises(ValueError, match="no option 'subsets': it knows subset"):
    shards.open_source(str(dataset), "train", {"subsets": "x"})


def test_an_index_without_ids_is_made_anew(dataset, tmp_path, records):
  shards.write_index(str(dataset), "train")
  (file,) = (dataset / "shards").glob("index-train.npz")
  with np.load(file) as stored:
    old = {name: stored[name] for name in stored.files if name != "clip_ids"}
  np.savez(file, **old)
  shards._load_index.cache_clear()
  options = write_subset(tmp_path / "a.parquet", ["clip02"])
  assert usable(dataset, options=options) == ["clip02"]
