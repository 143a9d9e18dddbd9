"""Cosines of embeddings: CLIPSIM and temporal consistency."""

import math

import numpy as np
import pytest

from vidjax.metrics import similarity


def cosine(a, b):
  return a @ b / math.sqrt((a @ a) * (b @ b))


@pytest.fixture
def videos():
  rng = np.random.default_rng(0)
  frames = [rng.standard_normal((t, 6)).astype(np.float32) * t for t in (3, 1, 5, 2)]
  return frames, rng.standard_normal((4, 6)).astype(np.float32)


def test_clipsim_is_a_mean_over_videos_of_means_over_frames(videos):
  frames, captions = videos
  found = similarity.clipsim(frames, captions)
  expected = [
    np.mean([cosine(frame.astype(float), caption.astype(float)) for frame in video])
    for video, caption in zip(frames, captions, strict=True)
  ]
  np.testing.assert_allclose(found.values, expected, rtol=1e-12)
  assert found.estimate.value == pytest.approx(np.mean(expected), rel=1e-12)
  assert found.sd == pytest.approx(np.std(expected, ddof=1), rel=1e-12)
  assert found.standard_error == pytest.approx(found.sd / 2, rel=1e-12)
  half = found.estimate.high - found.estimate.value
  assert half == pytest.approx(1.959964 * found.standard_error, rel=1e-6)


def test_opposite_directions_are_minus_one():
  """No cut at 0, no factor 100, no length of the embedding."""
  text = np.array([1.0, 2.0])
  assert similarity.frame_caption(-3 * text[None], text) == pytest.approx(-1)
  assert similarity.frame_caption(np.array([[2.0, -1.0], [1.0, 2.0]]), text) == pytest.approx(0.5)


def test_frames_that_do_not_change_are_1_apart():
  rng = np.random.default_rng(1)
  frames = rng.standard_normal((4, 6))
  expected = np.mean([cosine(frames[t], frames[t + 1]) for t in range(3)])
  assert similarity.frame_to_frame(frames) == pytest.approx(expected, rel=1e-12)
  assert similarity.frame_to_frame(np.tile(frames[:1], (5, 1))) == pytest.approx(1)


def test_videos_of_one_caption_leave_together():
  values = np.repeat(np.random.default_rng(2).random(30), 4)
  alone, grouped = (
    similarity.over_videos(values, g).estimate for g in (None, np.repeat(np.arange(30), 4))
  )
  assert alone.value == grouped.value
  assert grouped.high - grouped.value == pytest.approx(2 * (alone.high - alone.value), rel=0.03)


def test_unusable_embeddings_are_refused(videos):
  frames, captions = videos
  with pytest.raises(ValueError, match="4 videos, 3 captions"):
    similarity.clipsim(frames, captions[:3])
  with pytest.raises(ValueError, match="have D=6 and the caption's D=5"):
    similarity.frame_caption(frames[0], captions[0, :5])
  with pytest.raises(ValueError, match="frame embeddings: row 1 is 0"):
    similarity.frame_caption(np.array([[1.0, 0.0], [0.0, 0.0]]), np.ones(2))
  with pytest.raises(ValueError, match="caption embedding: 1 of 1 rows hold NaN"):
    similarity.frame_caption(frames[0], np.full(6, np.nan))
  with pytest.raises(ValueError, match="frame embeddings: N=1"):
    similarity.frame_to_frame(frames[1])
  with pytest.raises(ValueError, match="N > 0"):
    similarity.over_videos([])
