import dataclasses

import numpy as np
import pytest

from vidjax import errors
from vidjax.evaluation.datasets import Caption, ClipRule, Item, draw_captions


def taken(count, item_id="v", **rule):
  found = ClipRule(**rule).indices(count, item_id)
  return None if found is None else found.tolist()


@pytest.mark.parametrize(
  ("rule", "count", "expected"),
  [
    ({"frames": 3}, 10, [0, 1, 2]),
    ({"frames": 3, "stride": 4}, 9, [0, 4, 8]),
    ({"frames": 4, "start": "centre"}, 10, [3, 4, 5, 6]),
    ({"frames": 4, "start": "centre"}, 11, [3, 4, 5, 6]),
    ({"frames": 2, "start": "centre", "stride": 3}, 8, [2, 5]),
    ({"frames": 3, "start": "random"}, 3, [0, 1, 2]),
    ({"frames": 3, "stride": 4}, 8, None),
    ({"frames": 3, "start": "centre"}, 2, None),
    ({"frames": 5, "short": "loop"}, 2, [0, 1, 0, 1, 0]),
    ({"frames": 4, "short": "loop", "stride": 2, "start": "random"}, 5, [0, 2, 4, 1]),
  ],
)
def test_frames_that_a_rule_takes(rule, count, expected):
  assert taken(count, **rule) == expected


def test_random_starts_depend_on_seed_and_id_alone_and_reach_every_place():
  starts = [taken(20, f"v{i}", start="random", frames=16)[0] for i in range(400)]
  assert starts[7] == taken(20, "v7", start="random", frames=16)[0]
  assert np.bincount(starts, minlength=5).min() > 400 / 5 / 2
  assert max(starts) == 4
  other = [taken(20, f"v{i}", start="random", frames=16, seed=1)[0] for i in range(400)]
  assert other != starts
  assert taken(1000, "video7010", start="random", frames=16)[0] == 663, (
    "a released draw has changed"
  )


def test_too_few_frames_are_an_error_that_says_what_is_needed():
  rule = ClipRule(frames=16, stride=2, short="error")
  assert rule.span == 31
  with pytest.raises(
    errors.DataError, match=r"^v: 30 frames, .* 16 at a stride of 2, .* needs 31;"
  ):
    rule.indices(30, "v")
  with pytest.raises(errors.DataError, match="v: no frame"):
    ClipRule(short="loop").indices(0, "v")


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"start": "center"}, "start='center', choose from first, centre, random"),
    ({"short": "drop"}, "short='drop', choose from discard, loop, error"),
    ({"frames": 0}, "frames=0, it is at least 1"),
    ({"stride": 0}, "stride=0, it is at least 1"),
    ({"fps": 0.0}, "fps=0.0, it is positive"),
  ],
)
def test_rules_that_make_no_sense_are_refused(change, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(ClipRule(), **change)


def item(name, numbers):
  captions = tuple(Caption(f"text {n}", n) for n in numbers)
  return Item(name, None, captions, source=None)


def test_drawn_captions_depend_on_seed_and_id_alone():
  items = [item(f"video{i}", range(20 * i, 20 * i + 20)) for i in range(300)]
  drawn = draw_captions(items, 0)
  assert drawn == draw_captions(items[::-1], 0)
  assert drawn["video7"] == draw_captions([items[7]], 0)["video7"]
  assert draw_captions(items, 1) != drawn
  places = np.bincount([number % 20 for number in drawn.values()], minlength=20)
  assert places.min() > 3, "each of the captions is drawn somewhere"
  assert all(number // 20 == int(name[5:]) for name, number in drawn.items())


def test_videos_without_captions_cannot_be_drawn_from():
  with pytest.raises(ValueError, match=r"2 videos \(a, c\) without a caption"):
    draw_captions([item("a", []), item("b", [3]), item("c", [])], 0)
