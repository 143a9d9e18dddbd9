import dataclasses
import os
import pickle

import clip_shards
import numpy as np
import pytest

from vidjax import errors
from vidjax.data import fingerprint, sources, windows

GRID = windows.WindowGrid(4, 2.0)  # 1.5 s


def test_every_record_is_reached_across_shards(dataset, records):
  source = sources.open_source(str(dataset), "train", GRID)
  assert len(source) == 6
  assert [source[i].clip_id for i in range(6)] == [record.clip_id for record in records]
  assert source.name(0) == "clips-train.array_record-00000-of-00002[0]"
  assert source.name(4) == "clips-train.array_record-00001-of-00002[1]"


def test_source_pickles(dataset):
  source = sources.open_source(str(dataset), "train", GRID)
  assert source[2].clip_id == "clip02"  # readers are open now
  assert pickle.loads(pickle.dumps(source))[5].clip_id == "clip05"


def test_index_knows_durations(dataset):
  index = sources.load_index(str(dataset), "train")
  np.testing.assert_allclose(index.durations_s, [4, 4, 4, 4, 4, 4.8], rtol=1e-6)
  assert index.counts == (3, 3)


def test_the_shards_folder_itself_is_a_path_too(dataset):
  assert len(sources.open_source(str(dataset / "shards"), "train", GRID)) == 6


def test_short_clips_are_left_out(tmp_path, records):
  short = clip_shards.make_clip(9, clip_shards.steady(1.0))
  clip_shards.write_shards(tmp_path, [records[0], short, records[1]])
  source = sources.open_source(str(tmp_path), "train", GRID)
  assert [source[i].clip_id for i in range(len(source))] == ["clip00", "clip01"]
  assert source.name(1).endswith("[2]")
  assert len(sources.open_source(str(tmp_path), "train", windows.WindowGrid(1, 2.0))) == 3


def test_no_clip_long_enough_says_what_is_needed(dataset):
  with pytest.raises(errors.DataError, match=r"needs 7.5 s; the longest of 6 clips has 4.8") as e:
    sources.open_source(str(dataset), "train", windows.WindowGrid(16, 2.0))
  assert str(dataset) in str(e.value)
  assert e.value.exit_code == 3


def test_index_file_is_used_instead_of_the_records(tmp_path, records, monkeypatch):
  clip_shards.write_shards(tmp_path, records, shards=3)
  scanned = sources.load_index(str(tmp_path), "train")
  sources.write_index(str(tmp_path), "train")
  sources._load_index.cache_clear()
  monkeypatch.setattr(sources, "_scan", lambda *_: pytest.fail("read the shards"))
  loaded = sources.load_index(str(tmp_path), "train")
  np.testing.assert_array_equal(loaded.durations_s, scanned.durations_s)
  assert loaded.counts == scanned.counts == (2, 2, 2)


def test_index_file_of_other_shards_is_not_believed(tmp_path, records):
  clip_shards.write_shards(tmp_path, records[:2])
  sources.write_index(str(tmp_path), "train")
  os.utime(tmp_path / "shards" / "index-train.npz", (0, 0))
  clip_shards.write_shards(tmp_path, records)  # of the same size: files are filled up
  sources._open_shard.cache_clear()
  assert len(sources.load_index(str(tmp_path), "train").durations_s) == 6


def test_a_record_with_a_wrong_checksum_is_not_used(tmp_path, records):
  clip_shards.write_shards(tmp_path, records)
  (shard,) = (tmp_path / "shards").glob("*.array_record*")
  data = bytearray(shard.read_bytes())
  data[data.index(records[2].video) + 100] ^= 255
  shard.write_bytes(data)
  source = sources.open_source(str(tmp_path), "train", GRID)
  assert [source[i].clip_id for i in range(5)] == ["clip00", "clip01", "clip03", "clip04", "clip05"]


def test_a_record_that_is_no_clip_is_not_used(tmp_path, records):
  clip_shards.write_shards(tmp_path, [records[0], b"no example", records[1]])
  assert len(sources.open_source(str(tmp_path), "train", GRID)) == 2


def test_a_broken_shard_is_named(tmp_path, records):
  clip_shards.write_shards(tmp_path, records)
  (shard,) = (tmp_path / "shards").glob("*.array_record*")
  shard.write_bytes(shard.read_bytes()[:1000])
  with pytest.raises(errors.DataError, match="00000-of-00001 is not an ArrayRecord file, or"):
    sources.open_source(str(tmp_path), "train", GRID)


def test_a_missing_folder_is_an_input_error(tmp_path):
  with pytest.raises(FileNotFoundError, match="nowhere") as e:
    sources.open_source(str(tmp_path / "nowhere"), "train", GRID)
  assert errors.exit_code(e.value) == 2


def test_fingerprint_is_equal_for_moved_and_resharded_data(tmp_path, records):
  one = clip_shards.config(clip_shards.write_shards(tmp_path / "a", records))
  other = clip_shards.config(clip_shards.write_shards(tmp_path / "b", records, shards=3))
  assert fingerprint.data_fingerprint(one) == fingerprint.data_fingerprint(other)
  fingerprint.check_fingerprint(
    fingerprint.data_fingerprint(one), fingerprint.data_fingerprint(other)
  )


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"num_frames": 5}, "num_frames was 4, is 5"),
    ({"fps": 3.0}, "fps was 2.0, is 3.0"),
    ({"flip": True}, "flip was False, is True"),
  ],
)
def test_other_windows_are_refused(dataset, change, message):
  config = clip_shards.config(dataset)
  stored = fingerprint.data_fingerprint(config)
  current = fingerprint.data_fingerprint(dataclasses.replace(config, **change))
  with pytest.raises(errors.DataError, match=message) as e:
    fingerprint.check_fingerprint(stored, current)
  assert e.value.exit_code == 3


def test_other_clips_are_refused(tmp_path, records):
  stored = clip_shards.config(clip_shards.write_shards(tmp_path / "a", records))
  fewer = clip_shards.config(clip_shards.write_shards(tmp_path / "b", records[:5]))
  with pytest.raises(errors.DataError, match="clips was 6, is 5; usable_clips was 6, is 5"):
    fingerprint.check_fingerprint(
      fingerprint.data_fingerprint(stored), fingerprint.data_fingerprint(fewer)
    )


def test_clips_in_another_order_are_refused(tmp_path, records):
  stored = clip_shards.config(clip_shards.write_shards(tmp_path / "a", records))
  swapped = clip_shards.config(clip_shards.write_shards(tmp_path / "b", records[::-1]))
  with pytest.raises(errors.DataError, match="content was"):
    fingerprint.check_fingerprint(
      fingerprint.data_fingerprint(stored), fingerprint.data_fingerprint(swapped)
    )


def test_another_caption_is_another_content(tmp_path, records):
  stored = clip_shards.config(clip_shards.write_shards(tmp_path / "a", records))
  edited = [dataclasses.replace(records[0], captions_json='{"sidecar":"other"}'), *records[1:]]
  changed = clip_shards.config(clip_shards.write_shards(tmp_path / "b", edited))
  with pytest.raises(errors.DataError, match=r"trained on: content was '[0-9a-f]{16}', is"):
    fingerprint.check_fingerprint(
      fingerprint.data_fingerprint(stored), fingerprint.data_fingerprint(changed)
    )
