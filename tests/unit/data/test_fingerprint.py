import dataclasses

import clip_shards
import pytest

from vidjax import errors
from vidjax.data import fingerprint


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
