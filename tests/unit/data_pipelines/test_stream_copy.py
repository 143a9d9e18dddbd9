"""Copied clips: the source's own frames, from key frame to key frame, never across a cut."""

import dataclasses
import fractions
import types

import numpy as np
import pytest

from data_pipelines import analyse, config, cut, encode, stream_copy
from tests import media
from vidjax.data import video

CURATE = config.CurateConfig(
  select=config.SelectConfig(min_seconds=0.1), encode=config.EncodeConfig(copy=True, short_side=48)
)


def copied(path, tmp_path):
  found = analyse.analyse(path.parent, path.name, tmp_path / "cache", CURATE)
  assert found.reject is None
  return list(stream_copy.copy_source(str(path), found.clips))


def decoded(source) -> np.ndarray:
  with video.FrameReader(source) as reader:
    frames = [frame.picture.to_ndarray(format="rgb24") for frame in reader]
    assert not reader.errors
  return np.stack(frames)


def two_shots(**kwargs):
  return np.concatenate([media.shot(1, 47, **kwargs), media.shot(2, 52, **kwargs)])


@pytest.mark.parametrize(
  ("name", "codec"),
  [("v.mp4", "libx264"), ("v.mkv", "libx264"), ("v.webm", "libvpx-vp9"), ("v.mov", "libx265")],
)
def test_frames_are_those_of_the_source(tmp_path, name, codec):
  path = media.write(tmp_path / name, two_shots(), fps=25, codec=codec, gop=10)
  whole, clips = decoded(str(path)), copied(path, tmp_path)
  assert [(clip.cut_start_frame, clip.cut_end_frame) for clip, _ in clips] == [(0, 47), (47, 99)]
  for clip, data in clips:
    assert data is not None
    assert clip.cut_start_frame <= clip.start_frame
    assert clip.start_frame + 30 <= clip.end_frame <= clip.cut_end_frame
    np.testing.assert_array_equal(decoded(data), whole[clip.start_frame : clip.end_frame])
    times_s = video.probe(data).times_s
    np.testing.assert_allclose(times_s, np.arange(len(times_s)) / 25, atol=2e-3)
    assert clip.fps == pytest.approx(25, rel=1e-2)
  assert clips[1][0].end_frame == 99


@pytest.mark.parametrize(
  ("start", "end", "expected"),
  [
    (0, 25, (0, 20)),
    (5, 40, (10, 40)),
    (11, 19, (19, 19)),  # no key frame inside
    (11, 29, (20, 20)),  # only one
    (41, 60, (60, 60)),  # the last one is before it
    (33, 60, (40, 60)),  # the end of the file ends it
  ],
)
def test_cuts_move_inwards_to_key_frames(start, end, expected):
  found = types.SimpleNamespace(key_frames=[0, 10, 20, 30, 40], num_frames=60)
  shot = cut.Shot(start, end, "hard", "hard", start, end)
  moved = cut.snapped(shot, found)
  assert (moved.clip_start, moved.clip_end) == expected
  assert (moved.start, moved.end) == (start, end)


def test_an_empty_span_gives_no_bytes(tmp_path):
  path = media.write(tmp_path / "v.mp4", media.shot(1, 20), fps=25)
  found = analyse.analyse(path.parent, path.name, tmp_path / "cache", CURATE)
  empty = dataclasses.replace(found.clips[0], end_frame=0, end_time_s=0.0)
  assert list(stream_copy.copy_source(str(path), [empty])) == [(empty, None)]


def test_rotation_aspect_and_variable_rates_are_kept(tmp_path):
  times_s = np.cumsum(np.r_[0, np.random.default_rng(0).choice([0.04, 0.08, 0.2], 40)])
  path = media.write(
    tmp_path / "v.mp4",
    media.shot(3, 41),
    times_s=times_s,
    rotation=90,
    aspect=fractions.Fraction(3, 2),
    gop=12,
  )
  ((clip, data),) = copied(path, tmp_path)
  info = video.probe(data)
  assert (info.width, info.height, info.rotation) == (clip.width, clip.height, 90)
  np.testing.assert_allclose(info.times_s, times_s, atol=2e-3)
  record = encode.to_record(clip, data)
  assert (record.width, record.height, record.num_frames) == (clip.width, clip.height, 41)


def test_what_cannot_be_copied_is_encoded(tmp_path):
  path = media.write(tmp_path / "v.avi", two_shots(), fps=25, codec="mpeg4", gop=10)
  found = analyse.analyse(path.parent, path.name, tmp_path / "cache", CURATE)
  assert [data for _, data in stream_copy.copy_source(str(path), found.clips)] == [None, None]
  stored = list(encode.store_source(str(path), found.clips, CURATE.encode))
  assert [video.probe(data).num_frames for _, data in stored] == [47, 52]
  assert video.probe(stored[0][1]).height == 48
