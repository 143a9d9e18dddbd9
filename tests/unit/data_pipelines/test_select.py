"""Verdicts are functions of the clips alone, and say which threshold was missed."""

import dataclasses

import pytest

from data_pipelines import config, select, tables

BASE = tables.Clip(
  clip_id="a",
  source="a.mp4",
  source_sha256="0",
  cut_start_frame=0,
  cut_end_frame=200,
  start_frame=0,
  end_frame=200,
  start_time_s=0.0,
  end_time_s=8.0,
  start_boundary="file",
  end_boundary="file",
  fps=25.0,
  source_fps=25.0,
  width=640,
  height=360,
  rotation=0,
  motion_score=1.0,
)
SELECT = config.SelectConfig(min_seconds=4.0, min_motion_score=0.1, min_short_side=200)


@pytest.mark.parametrize(
  ("changes", "reasons"),
  [
    ({}, ()),
    ({"end_time_s": 4.0}, ()),
    ({"end_time_s": 3.9}, ("too_short",)),
    ({"motion_score": 0.09}, ("low_motion",)),
    ({"motion_score": None, "end_time_s": 0.3}, ("too_short",)),
    ({"fps": 2.0}, ("low_frame_rate",)),
    ({"height": 180, "motion_score": 0.0}, ("low_motion", "low_resolution")),
  ],
)
def test_reasons_name_the_missed_thresholds(changes, reasons):
  clip = dataclasses.replace(BASE, **changes)
  found = select.drop_reasons(clip, SELECT, SELECT.min_motion_score)
  assert found == reasons
  assert select.decided(clip, found).kept is not bool(reasons)


def test_motion_quantile():
  counts = {100: 1, 200: 1, 300: 1, 400: 1}  # scores 0.1, 0.2, 0.3, 0.4
  for share, expected in [(0.0, 0.05), (0.25, 0.2), (0.5, 0.3), (0.74, 0.3), (0.75, 0.4)]:
    some = config.SelectConfig(min_motion_score=0.05, drop_most_static=share)
    assert select.motion_threshold(counts, some) == pytest.approx(expected)
  high = config.SelectConfig(min_motion_score=0.35, drop_most_static=0.25)
  assert select.motion_threshold(counts, high) == 0.35
  assert select.motion_threshold({}, SELECT) == SELECT.min_motion_score


def _candidate(name, bits, *, source=None, side=360, seconds=8.0):
  return select.Candidate(name, source or name, f"{bits:048x}", (-side, -seconds, name, 0))


def test_of_near_duplicates_the_largest_stays():
  original = (1 << 190) - 1
  small = _candidate("small", original ^ 0b111, side=240)
  large = _candidate("large", original, side=720)
  other = _candidate("other", original >> 60)
  for group in ([small, large, other], [other, large, small]):
    assert list(select.duplicates(group, 4)) == ["small"]
    assert list(select.duplicates(group, 2)) == []


def test_clips_of_one_source_are_no_duplicates():
  group = [_candidate("a", 1, source="v"), _candidate("b", 1, source="v")]
  assert list(select.duplicates(group, 4)) == []


def test_near_hashes_share_a_band():
  value = int("9" * 48, 16)
  for distance in range(config.MAX_HASH_DISTANCE + 1):
    spread = sum(1 << (bit * 192 // max(distance, 1)) for bit in range(distance))
    assert set(select.bands(f"{value:048x}")) & set(select.bands(f"{value ^ spread:048x}"))
  assert list(select.bands("")) == []


def test_holdout_depends_on_the_clip_alone_and_never_takes_all():
  some = config.SelectConfig(holdout_fraction=0.2, holdout_min_clips=3)
  ids = [f"clip{i}" for i in range(500)]
  held = {i for i in ids if select.is_holdout(i, frozenset(), some)}
  assert 60 < len(held) < 140
  assert held & set(ids[:50]) == {i for i in ids[:50] if select.is_holdout(i, frozenset(), some)}
  smallest = sorted(ids, key=select.holdout_order)[:3]
  assert select.holdout_ids(smallest, 500, some) == set(smallest)
  assert len(select.holdout_ids(smallest, 4, some)) == 2
  assert select.holdout_ids(smallest[:1], 1, some) == frozenset()
