import collections
import dataclasses
import io

import av
import clip_shards
import numpy as np
import pytest

from vidjax import errors
from vidjax.data import schedule, schema


def make_reader(path, seed=0, **changes):
  (stream,) = schedule.open_schedule(clip_shards.config(path, **changes), seed).videos.streams
  return stream


def expected_frames(times_s, moments):
  return [int(np.searchsorted(times_s, moment + 1e-4, side="right")) - 1 for moment in moments]


def test_windows_are_true_in_time_also_at_a_variable_rate(dataset, records):
  reader = make_reader(dataset)
  times_s = {f"clip{i:02d}": clip_shards.steady(4.0) for i in range(5)}
  times_s["clip05"] = np.array([0.0, 0.1, 0.2, 1.3, 1.4, 2.0, 2.6, 3.0, 3.9])
  seen = collections.Counter()
  for index in range(30):
    sample = reader.at(index)
    clip, frames = clip_shards.read_numbers(sample.frames)
    assert sample.clip_id == f"clip{clip:02d}"
    moments = sample.start_s + np.arange(4) / sample.fps
    assert frames == expected_frames(times_s[sample.clip_id], moments)
    seen[sample.clip_id] += 1
  assert set(seen.values()) == {5}  # five epochs


def test_a_sample_is_a_function_of_seed_and_index(dataset):
  one, other = make_reader(dataset).at(17), make_reader(dataset).at(17)
  np.testing.assert_array_equal(one.frames, other.frames)
  assert (one.clip_id, one.start_s) == (other.clip_id, other.start_s)
  starts = {make_reader(dataset, seed).at(17).start_s for seed in range(5)}
  assert len(starts) == 5


def test_windows_move_from_epoch_to_epoch(dataset):
  reader = make_reader(dataset)
  starts = [s.start_s for s in map(reader.at, range(60)) if s.clip_id == "clip01"]
  assert len(set(starts)) == 10
  assert max(starts) > 1.5  # of 2.5 s
  assert min(starts) < 1.0


def test_an_image_is_one_frame_from_anywhere(dataset):
  reader = make_reader(dataset, num_frames=1)
  shown = [reader.at(index) for index in range(40)]
  assert {sample.frames.shape for sample in shown} == {(1, 64, 64, 3)}
  frames = {clip_shards.read_numbers(sample.frames)[1][0] for sample in shown}
  assert len(frames) > 15


def test_pixels_are_scaled_and_cut(dataset):
  sample = make_reader(dataset, height=16, width=8).at(0)
  assert sample.frames.shape == (4, 16, 8, 3)
  assert sample.frames.dtype == np.uint8


def test_half_the_samples_are_mirrored(dataset):
  plain, flipping = make_reader(dataset), make_reader(dataset, flip=True)
  mirrored = 0
  for index in range(40):
    a_THWC, b_THWC = plain.at(index).frames, flipping.at(index).frames
    if not np.array_equal(a_THWC, b_THWC):
      np.testing.assert_array_equal(a_THWC[:, :, ::-1], b_THWC)
      mirrored += 1
  assert 10 < mirrored < 30


def test_nothing_is_mirrored_whose_caption_tells_left_from_right(tmp_path, records):
  texts = {"a": "moves to the left", "b": "moves"}
  record = dataclasses.replace(records[0], captions_json=schema.to_json(texts))
  path = clip_shards.write_shards(tmp_path, [record])
  plain, flipping = make_reader(path), make_reader(path, flip=True)
  mirrored = []
  for index in range(40):
    sample = flipping.at(index)
    if not np.array_equal(sample.frames, plain.at(index).frames):
      mirrored.append(sample.caption)
  assert set(mirrored) == {"moves"}
  assert len(mirrored) > 4


def test_captions_are_drawn_among_all(tmp_path, records):
  texts = {"a": "one", "b": "two", "c": "three"}
  record = dataclasses.replace(records[0], captions_json=schema.to_json(texts))
  reader = make_reader(clip_shards.write_shards(tmp_path, [record]))
  assert {reader.at(index).caption for index in range(30)} == {"one", "two", "three"}


def test_nothing_known_is_empty_caption_and_no_motion(tmp_path, records):
  record = dataclasses.replace(records[0], captions_json="{}", motion_score=float("nan"))
  sample = make_reader(clip_shards.write_shards(tmp_path, [record])).at(0)
  assert sample.caption == ""
  assert sample.motion_score == 0.0


@pytest.mark.parametrize("name", ["nasa_13013_vfr.mp4", "bikes.mp4"])
def test_windows_of_real_video_are_the_frames_a_full_decode_shows(shared_data, tmp_path, name):
  data = (shared_data / "videos" / name).read_bytes()
  with av.open(io.BytesIO(data)) as container:
    frames = [(frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
  times_s = np.array([time_s for time_s, _ in frames]) - frames[0][0]
  height, width = frames[0][1].shape[:2]
  duration_s = times_s[-1] + np.median(np.diff(times_s))
  record = clip_shards.make_clip(0, clip_shards.steady(1.0))
  record = dataclasses.replace(
    record, video=data, num_frames=len(times_s), fps=len(times_s) / duration_s
  )
  path = clip_shards.write_shards(tmp_path, [record])
  reader = make_reader(path, fps=4.0, height=height, width=width)
  for index in range(3):
    sample = reader.at(index)
    expected = expected_frames(times_s, sample.start_s + np.arange(4) / 4.0)
    assert len(set(expected)) > 1
    for shown_HWC, frame in zip(sample.frames, expected, strict=True):
      near = range(max(0, frame - 2), min(len(frames), frame + 3))
      differences = {i: np.abs(shown_HWC.astype(int) - frames[i][1]).mean() for i in near}
      assert differences[frame] == min(differences.values())
      assert differences[frame] < 1.0  # colour conversion rounds


@pytest.fixture
def damaged(tmp_path, records):
  """Six clips, of which number 2 cannot be decoded."""
  broken = dataclasses.replace(records[2], video=b"\0" * 1000)
  return clip_shards.write_shards(tmp_path, [*records[:2], broken, *records[3:]])


def test_a_bad_clip_is_replaced_by_the_same_other_one(damaged, dataset):
  reader, again, intact = make_reader(damaged), make_reader(damaged), make_reader(dataset)
  replaced = 0
  for index in range(12):
    sample = reader.at(index)
    assert sample.clip_id != "clip02"
    if intact.at(index).clip_id == "clip02":
      ((name, error),) = sample.rejected
      assert name.startswith("clip02 (clips-train.array_record-00000-of-00001[2])")
      assert "InvalidDataError" in error
      assert sample.clip_id == again.at(index).clip_id
      replaced += 1
    else:
      assert sample.rejected == ()
      assert sample.clip_id == intact.at(index).clip_id
  assert replaced == 2


def test_only_bad_clips_is_an_error_that_names_them(tmp_path, records):
  broken = [dataclasses.replace(record, video=b"") for record in records[:2]]
  reader = make_reader(clip_shards.write_shards(tmp_path, broken))
  with pytest.raises(errors.DataError, match=r"sample 0, nor any of 8 substitutes: clip0") as e:
    reader.at(0)
  assert e.value.exit_code == 3


def test_fixed_windows_take_each_clip_in_turn(dataset):
  reader = make_reader(dataset)
  chosen = [reader.fixed(number, 15) for number in range(15)]
  counts = collections.Counter(sample.clip_id for sample in chosen)
  assert sorted(counts.values()) == [2, 2, 2, 3, 3, 3]
  for clip, count in counts.items():
    starts = [sample.start_s for sample in chosen if sample.clip_id == clip]
    slack_s = (4.8 if clip == "clip05" else 4.0) - 1.5
    np.testing.assert_allclose(starts, (np.arange(count) + 0.5) / count * slack_s, rtol=1e-6)


def test_fewer_fixed_windows_than_clips_are_middles_of_different_clips(dataset):
  reader = make_reader(dataset)
  chosen = [reader.fixed(number, 4) for number in range(4)]
  assert len({sample.clip_id for sample in chosen}) == 4
  assert all(s.start_s == pytest.approx(1.25) for s in chosen if s.clip_id != "clip05")
