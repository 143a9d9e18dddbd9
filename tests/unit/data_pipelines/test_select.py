"""Verdicts are functions of the clips alone, and say which threshold was missed."""

import dataclasses

import pytest

from data_pipelines import config, select, tables, thresholds

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
    ({"height": 180, "motion_score": 0.0}, ("low_resolution", "low_motion")),
  ],
)
def test_reasons_name_the_missed_thresholds(changes, reasons):
  clip = dataclasses.replace(BASE, **changes)
  rules = thresholds.motion(SELECT)
  found = select.drop_reasons(clip, SELECT)
  found += thresholds.missed(clip, rules, thresholds.limits({}, rules))
  assert found == reasons
  assert select.decided(clip, found).kept is not bool(reasons)


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
