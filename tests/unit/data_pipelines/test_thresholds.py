"""Thresholds: absolute ones, shares of the clips at a stage, the stricter, in either direction."""

import dataclasses

import numpy as np
import pytest

from data_pipelines import config, thresholds
from tests.unit.data_pipelines.test_select import BASE

SELECT = config.SelectConfig(min_motion_score=0.05)


def motion_limit(scores, **settings):
  rules = thresholds.motion(dataclasses.replace(SELECT, **settings))
  counts = {}
  for score in scores:
    for step in thresholds.steps(dataclasses.replace(BASE, motion_score=score), rules):
      counts[step] = counts.get(step, 0) + 1
  return thresholds.limits(counts, rules).get("low_motion")


def test_a_share_of_the_lowest_is_dropped():
  scores = [0.4, 0.1, 0.3, 0.2]
  for share, expected in [(0.0, 0.05), (0.25, 0.2), (0.5, 0.3), (0.74, 0.3), (0.75, 0.4)]:
    assert motion_limit(scores, drop_most_static=share) == pytest.approx(expected, abs=1e-4)


def test_a_share_is_never_exceeded():
  """Clips of one score stay together, so fewer are dropped where they would be too many."""
  scores = [0.1, 0.1, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
  for share, dropped in [(0.25, 0), (0.37, 0), (0.38, 3), (0.5, 4)]:
    limit = motion_limit(scores, min_motion_score=0.0, drop_most_static=share)
    assert limit
    assert sum(score < limit for score in scores) == dropped, share


def test_the_stricter_of_both_thresholds_counts():
  assert motion_limit([0.1, 0.2], min_motion_score=0.35, drop_most_static=0.5) == 0.35
  assert motion_limit([], drop_most_static=0.5) == 0.05
  assert motion_limit([]) == 0.05


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_shares_are_those_of_a_sort(share):
  scores = np.random.default_rng(0).gamma(2.0, size=1000)
  limit = motion_limit(scores, min_motion_score=0.0, drop_most_static=share)
  assert (scores < limit).mean() == pytest.approx(share, abs=0.002)


def test_the_highest_can_be_dropped_as_well():
  select = config.SelectConfig(max_text_area=0.5, drop_most_text=0.25)
  rules = thresholds.looks(select)
  clips = [dataclasses.replace(BASE, text_area=a) for a in (0.0, 0.1, 0.2, 0.3)]
  counts = {}
  for clip in clips:
    for step in thresholds.steps(clip, rules):
      counts[step] = counts.get(step, 0) + 1
  limits = thresholds.limits(counts, rules)
  assert [thresholds.missed(c, rules, limits) for c in clips] == [(), (), (), ("text",)]
  rules = thresholds.looks(config.SelectConfig(max_text_area=0.07))
  found = [thresholds.missed(c, rules, thresholds.limits({}, rules)) for c in clips]
  assert found == [(), ("text",), ("text",), ("text",)]


def test_clips_without_a_score_pass():
  rules = thresholds.captions(config.SelectConfig(min_clip_similarity=0.3))
  limits = thresholds.limits({}, rules)
  assert limits == {"low_similarity": 0.3}
  assert thresholds.missed(BASE, rules, limits) == ()
  low = dataclasses.replace(BASE, clip_similarity=0.2)
  assert thresholds.missed(low, rules, limits) == ("low_similarity",)


def test_shake_is_read_from_the_other_scores():
  rules = thresholds.motion(config.SelectConfig(max_shake=0.3))
  limits = thresholds.limits({}, rules)
  shaky = dataclasses.replace(BASE, scores={"motion_shake": 0.4})
  assert thresholds.missed(shaky, rules, limits) == ("shaky",)
  assert thresholds.missed(BASE, rules, limits) == ()
