"""Data sets by weight, views by shape, pictures beside videos."""

import collections
import dataclasses
import itertools

import clip_shards
import numpy as np
import pytest

from vidjax import errors
from vidjax.data import loader, schedule
from vidjax.data.config import ImagesConfig, SetConfig

BATCH = 4


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
  """Three data sets: clips 0-4, clips 10-12, and clips 20-25 of which half say they are upright."""
  made = {}
  for name, numbers in {"a": range(5), "b": range(10, 13), "c": range(20, 26)}.items():
    clips = []
    for number in numbers:
      upright = {"width": 32, "height": 64} if name == "c" and number % 2 else {}
      clips.append(clip_shards.make_clip(number, clip_shards.steady(3.0), **upright))
    made[name] = clip_shards.write_shards(tmp_path_factory.mktemp(name), clips)
  return {name: str(path) for name, path in made.items()}


def mixed(folders, weights, **changes):
  sets = tuple(SetConfig(path=folders[name], weight=weight) for name, weight in weights.items())
  return dataclasses.replace(clip_shards.config(""), path="", sets=sets, **changes)


def batches(config, count, *, batch=BATCH, first=0, seed=3, **hosts):
  with loader.make_loader(
    config, global_batch=batch, start_sample=first, seed=seed, tokenizer=None, **hosts
  ) as stream:
    return list(itertools.islice(stream, count))


def set_of(clip_id):
  return "abc"[int(clip_id.removeprefix("clip")) // 10]


def test_data_sets_keep_their_weights_and_each_its_own_epochs(folders):
  config = mixed(folders, {"a": 3.0, "b": 1.0})
  shown = [clip for batch in batches(config, 20) for clip in batch["clip_ids"]]
  assert collections.Counter(map(set_of, shown)) == {"a": 60, "b": 20}
  of_a = [clip for clip in shown if set_of(clip) == "a"]
  epochs = [of_a[i : i + 5] for i in range(0, 60, 5)]
  assert all(len(set(epoch)) == 5 for epoch in epochs)
  assert len(set(map(tuple, epochs))) > 6


def test_a_second_data_set_does_not_change_what_the_first_gives(folders):
  alone = batches(clip_shards.config(folders["a"]), 10)
  both = batches(mixed(folders, {"a": 1.0, "b": 1.0}), 20)
  of_a = [clip for batch in both for clip in batch["clip_ids"] if set_of(clip) == "a"]
  assert of_a == [clip for batch in alone for clip in batch["clip_ids"]]


def test_each_set_has_its_own_template_and_mirror(folders):
  config = mixed(folders, {"a": 1.0, "b": 1.0})
  a, b = config.sets
  config = dataclasses.replace(config, sets=(a, dataclasses.replace(b, template="film: {caption}")))
  for batch in batches(config, 3):
    for clip, caption in zip(batch["clip_ids"], batch["captions"], strict=True):
      assert caption.startswith("film: clip") == (set_of(clip) == "b")


def test_every_kth_step_shows_pictures_alone(folders):
  images = ImagesConfig(every_steps=4, sets=(SetConfig(path=folders["b"]),), height=32, width=32)
  config = dataclasses.replace(clip_shards.config(folders["a"]), images=images)
  seen = batches(config, 16)
  shapes = [batch["video_BTHWC"].shape[1:] for batch in seen]
  assert shapes == ([(4, 64, 64, 3)] * 3 + [(1, 32, 32, 3)]) * 4
  for step, batch in enumerate(seen):
    assert {set_of(clip) for clip in batch["clip_ids"]} == {"b" if step % 4 == 3 else "a"}
    assert batch["sample_index_B"].tolist() == list(range(step * BATCH, step * BATCH + BATCH))
  # The videos go on as if there were no pictures: none is left out.
  videos = [clip for step, b in enumerate(seen) if step % 4 != 3 for clip in b["clip_ids"]]
  alone = batches(clip_shards.config(folders["a"]), 12)
  assert videos == [clip for batch in alone for clip in batch["clip_ids"]]


def test_rows_of_each_batch_are_pictures(folders):
  images = ImagesConfig(rows=1, sets=(SetConfig(path=folders["b"]),))
  config = dataclasses.replace(clip_shards.config(folders["a"]), images=images)
  for step, batch in enumerate(batches(config, 6)):
    assert batch["video_BTHWC"].shape == (3, 4, 64, 64, 3)
    assert batch["images"]["video_BTHWC"].shape == (1, 1, 64, 64, 3)
    assert {set_of(clip) for clip in batch["clip_ids"]} == {"a"}
    assert {set_of(clip) for clip in batch["images"]["clip_ids"]} == {"b"}
    rows = [*batch["sample_index_B"], *batch["images"]["sample_index_B"]]
    assert rows == list(range(step * BATCH, step * BATCH + BATCH))


def test_pictures_may_be_frames_of_the_videos(folders):
  config = dataclasses.replace(clip_shards.config(folders["a"]), images=ImagesConfig(rows=2))
  frames = set()
  for batch in batches(config, 12):
    for video_THWC in batch["images"]["video_BTHWC"]:
      clip, (frame,) = clip_shards.read_numbers(video_THWC)
      frames.add((clip, frame))
  assert len(frames) > 15
  assert {clip for clip, _ in frames} == set(range(5))


def test_a_batch_has_one_view_and_views_their_share(folders):
  config = mixed(folders, {"c": 1.0}, buckets=((64, 64), (64, 32)))
  seen = batches(config, 20)
  shapes = collections.Counter(batch["video_BTHWC"].shape[2:4] for batch in seen)
  assert shapes == {(64, 64): 10, (64, 32): 10}
  for batch in seen:
    upright = {int(clip.removeprefix("clip")) % 2 for clip in batch["clip_ids"]}
    assert upright == {int(batch["video_BTHWC"].shape[3] == 32)}


def test_views_keep_the_weights_of_the_data_sets(folders):
  config = mixed(folders, {"a": 1.0, "c": 1.0}, buckets=((64, 64), (64, 32)))
  opened = schedule.open_schedule(config, 0)
  weights = collections.Counter()
  for number, stream in enumerate(opened.videos.streams):
    share = opened.videos.turns.count(number, 1000) / 1000
    for place, member in enumerate(stream.members):
      of_stream = stream.turns.count(place, 1000) / 1000
      weights[set_of(member.source[member.number(0)].clip_id)] += share * of_stream
  assert weights == pytest.approx({"a": 0.5, "c": 0.5}, abs=2e-3)


def test_an_empty_view_is_left_out(folders):
  config = mixed(folders, {"a": 1.0}, buckets=((64, 64), (32, 128)))
  (stream,) = schedule.open_schedule(config, 0).videos.streams
  assert (stream.view.height, stream.view.width) == (64, 64)


def test_rates_are_drawn_and_told(folders):
  config = dataclasses.replace(
    clip_shards.config(folders["a"]), num_frames=3, fps_choices=(1.0, 4.0)
  )
  rates = collections.Counter()
  for batch in batches(config, 10):
    rates.update(batch["fps_B"].tolist())
    for fps, video_THWC in zip(batch["fps_B"], batch["video_BTHWC"], strict=True):
      _, frames = clip_shards.read_numbers(video_THWC)
      assert np.abs(np.diff(frames) - 12 / fps).max() <= 1
  assert set(rates) == {1.0, 4.0}
  assert min(rates.values()) > 8


def test_a_stride_takes_every_nth_frame(folders):
  config = dataclasses.replace(clip_shards.config(folders["a"]), num_frames=5, stride=3)
  starts = set()
  for batch in batches(config, 5):
    np.testing.assert_allclose(batch["fps_B"], 4.0, rtol=1e-4)
    for video_THWC in batch["video_BTHWC"]:
      _, frames = clip_shards.read_numbers(video_THWC)
      assert np.diff(frames).tolist() == [3, 3, 3, 3]
      starts.add(frames[0])
  assert len(starts) > 8


def test_scores_come_along_or_the_clip_is_replaced(tmp_path):
  clips = [
    clip_shards.make_clip(i, clip_shards.steady(3.0), scores_json=f'{{"elevation": {i}.5}}')
    for i in range(3)
  ]
  clips.append(clip_shards.make_clip(3, clip_shards.steady(3.0)))
  path = clip_shards.write_shards(tmp_path, clips)
  config = dataclasses.replace(
    clip_shards.config(path), scores=("elevation",), max_rejected_share=0.5
  )
  with loader.make_loader(config, global_batch=4, start_sample=0, seed=0, tokenizer=None) as stream:
    for batch in itertools.islice(stream, 4):
      expected = [int(clip.removeprefix("clip")) + 0.5 for clip in batch["clip_ids"]]
      assert batch["elevation_B"].tolist() == expected
    ((clip, error),) = stream.rejected.items()
  assert clip.startswith("clip03")
  assert "no score 'elevation', only []" in error


JOINT = {
  "every": {"images": ImagesConfig(every_steps=3)},
  "rows": {"images": ImagesConfig(rows=4)},
  "views": {"buckets": ((64, 64), (64, 32))},
  "all": {"images": ImagesConfig(every_steps=3), "buckets": ((64, 64), (64, 32))},
}


def content(batch):
  parts = [batch] + ([batch["images"]] if "images" in batch else [])
  return [
    list(
      zip(
        part["sample_index_B"].tolist(),
        part["clip_ids"],
        part["window_start_s"],
        [pixels.tobytes() for pixels in part["video_BTHWC"]],
        strict=True,
      )
    )
    for part in parts
  ]


@pytest.mark.parametrize("changes", JOINT.values(), ids=JOINT)
def test_hosts_and_interruptions_change_nothing(folders, changes):
  config = mixed(folders, {"a": 2.0, "c": 1.0}, **changes)
  whole = batches(config, 9, batch=8)
  for hosts in (2, 4):
    of_hosts = [
      batches(config, 9, batch=8, process_index=p, process_count=hosts) for p in range(hosts)
    ]
    for step, batch in enumerate(whole):
      pieces = [content(host[step]) for host in of_hosts]
      joined = [[row for piece in pieces for row in piece[k]] for k in range(len(pieces[0]))]
      assert joined == content(batch)
      assert {host[step]["sample_ids_hash"] for host in of_hosts} == {batch["sample_ids_hash"]}
  later = batches(dataclasses.replace(config, num_workers=1), 4, batch=8, first=5 * 8)
  assert [content(b) for b in later] == [content(b) for b in whole[5:]]


@pytest.mark.parametrize("changes", JOINT.values(), ids=JOINT)
def test_another_batch_size_keeps_the_ratio_and_about_the_place(folders, changes):
  """Of several streams, each repeats or leaves out what is in a few batches."""
  opened = schedule.open_schedule(mixed(folders, {"a": 2.0, "c": 1.0}, **changes), 0)
  larger = dataclasses.replace(opened, image_rows=opened.image_rows * 12 // 8)

  def places(by, first, batch):
    parts = (part for n in range(9) for part in by.parts(first + batch * n, batch))
    return {(part.images, part.stream): part.first for part in parts}

  for first in (8 * 1000, 8 * 1001 + 4):
    before, after = places(opened, first, 8), places(larger, first, 12)
    assert before.keys() == after.keys()
    assert all(abs(before[key] - after[key]) <= 8 * 12 for key in before)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"path": ""}, "data.path is empty"),
    ({"sets": (SetConfig(path="x"),)}, "data.path and data.sets: set one of them"),
    ({"kind": "tapes"}, "data kind 'tapes': choose from shards, tfds"),
    ({"images": ImagesConfig(rows=4)}, "rows=4 leaves no video in batch_size=4"),
    ({"template": "nothing"}, "data.template='nothing'"),
  ],
)
def test_settings_without_meaning_are_refused(folders, changes, message):
  config = dataclasses.replace(clip_shards.config(folders["a"]), **changes)
  with pytest.raises(ValueError, match=message):
    batches(config, 1)


def test_a_weight_that_is_none_is_named(folders):
  with pytest.raises(ValueError, match=r"data.sets\[1\].weight=0.0"):
    batches(mixed(folders, {"a": 1.0, "b": 0.0}), 1)


def test_two_ways_to_mix_pictures_in_are_one_too_many():
  with pytest.raises(ValueError, match="set one of them"):
    ImagesConfig(every_steps=8, rows=2)
  with pytest.raises(ValueError, match="at least 2"):
    ImagesConfig(every_steps=1)


def test_rows_that_do_not_divide_over_hosts_are_refused(folders):
  config = dataclasses.replace(clip_shards.config(folders["a"]), images=ImagesConfig(rows=3))
  with pytest.raises(ValueError, match="divide by 2 hosts"):
    batches(config, 1, process_count=2)


def test_a_set_without_a_window_is_named(folders):
  config = mixed(folders, {"a": 1.0, "b": 1.0}, num_frames=8)
  with pytest.raises(errors.DataError, match="no clip of the split 'train' holds a window of 8"):
    batches(config, 1)
