"""Share of the frame under text: drawn subtitles and titles, nothing on pictures without any."""

import cv2
import numpy as np
import pytest

from data_pipelines import config, text_area
from tests import media
from vidjax.data import video

SIDE = config.LookConfig().text_short_side


def subtitled(frame, lines, scale):
  """Draws lines of text; returns the frame and the share of its area that they take."""
  frame, boxes = frame.copy(), 0
  height, width = frame.shape[:2]
  thick = max(1, round(scale * 2))
  for number, line in enumerate(lines):
    (w, h), below = cv2.getTextSize(line, cv2.FONT_HERSHEY_SIMPLEX, scale, thick)
    place = ((width - w) // 2, round(height * (0.92 - 0.14 * number)))
    cv2.putText(frame, line, place, cv2.FONT_HERSHEY_SIMPLEX, scale, (0, 0, 0), 3 * thick)
    cv2.putText(frame, line, place, cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), thick)
    boxes += w * (h + below)
  return frame, boxes / (height * width)


@pytest.mark.parametrize("side", [360, 720])
def test_the_area_is_that_of_the_lines(side):
  (clean,) = media.shot(1, 1, height=side, width=side * 16 // 9)
  assert text_area.text_area(clean, SIDE) == 0
  for lines in (["A line of text below"], ["A line of text below", "and another one over it"]):
    frame, share = subtitled(clean, lines, side / 360)
    assert text_area.text_area(frame, SIDE) == pytest.approx(share, rel=0.45)


def test_small_subtitles_are_found():
  (clean,) = media.shot(2, 1, height=720, width=1280)
  frame, share = subtitled(clean, ["Subtitles of this size are common on the net"], 1.2)
  assert 0.01 < share < 0.04
  assert text_area.text_area(frame, SIDE) > 0.5 * share


@pytest.mark.parametrize("seed", range(4))
def test_smooth_pictures_have_no_text(seed):
  """The detector takes some for one large box."""
  knots = np.random.default_rng(seed).uniform(0, 255, (9, 16, 3)).astype(np.float32)
  smooth = cv2.resize(knots, (854, 480), interpolation=cv2.INTER_CUBIC)
  assert text_area.text_area(np.clip(smooth, 0, 255).astype(np.uint8), SIDE) == 0


@pytest.mark.parametrize(
  ("name", "low", "high"),
  [
    ("awesome_movie.mov", 0.25, 0.6),  # a sheet of paper with three words
    ("asl_book.mkv", 0, 0.02),
    ("basketball.mp4", 0, 0.02),
    ("ios9_rotated.mov", 0, 0.02),
    ("flower.webm", 0, 0.01),
  ],
)
def test_real_frames(shared_data, name, low, high):
  path = str(shared_data / "videos" / name)
  (frame,) = video.read_frames_at(path, [video.probe(path).duration_s / 2])
  assert low <= text_area.text_area(frame, SIDE) <= high


def test_frames_of_any_shape():
  for height, width in ((8, 8), (16, 400), (400, 16), (33, 31)):
    assert text_area.text_area(np.full((height, width, 3), 90, np.uint8), SIDE) == 0
