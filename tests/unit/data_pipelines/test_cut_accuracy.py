"""Boundaries of edited videos that are known: how many are found, and how they are counted."""

import edited_videos
from edited_videos import Boundary
import pytest

from benchmarks import cut_accuracy


def test_boundaries_are_counted_once():
  truth = [Boundary("hard", 10, 10), Boundary("dissolve", 40, 50), Boundary("fade", 80, 99)]
  found = [(12, "hard"), (13, "hard"), (45, "dissolve"), (82, "fade"), (98, "fade"), (60, "fade")]
  score = cut_accuracy.score(found, truth)
  assert (score.cuts, score.cuts_found, score.cuts_false) == (1, 1, 1)
  assert score.gradual == score.gradual_found == {"dissolve": 1, "fade": 1}
  assert score.gradual_false == 1
  assert score.f1 == pytest.approx(2 / 3)
  missed = cut_accuracy.score([(7, "hard"), (37, "dissolve")], truth)
  assert (missed.cuts_found, missed.cuts_false, missed.recall) == (0, 1, 0.0)


def test_a_seed_gives_the_same_video(tmp_path):
  one, other = (edited_videos.write(tmp_path / name, 5, 3) for name in ("a.mp4", "b.mp4"))
  assert one == other
  assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


# 86 videos, 2,064 boundaries. A turn takes a quarter of them, a minute of one core.
QUARTERS = [range(2 + 21 * i, 23 + 21 * i) for i in range(4)]


@pytest.mark.parametrize(
  "seeds",
  [range(2), *(pytest.param(some, marks=pytest.mark.slow, id=str(some)) for some in QUARTERS)],
)
def test_edited_videos(tmp_path, seeds):
  total = cut_accuracy.Score()
  for seed in seeds:
    path = tmp_path / f"{seed}.mp4"
    edited = edited_videos.write(path, seed, 25)
    total += cut_accuracy.score(cut_accuracy.ours(str(path)), edited.boundaries)
  assert total.f1 >= 0.97, total
  assert total.recall >= 0.8, total
