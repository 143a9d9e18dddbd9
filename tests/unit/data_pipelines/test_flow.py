"""The motion score: pixels per second at a shorter side of 16, whatever the frame rate."""

import itertools

import cv2
import numpy as np
import pytest

from data_pipelines import flow, signals
from tests import media


def score(tiny_THWC, times_s):
  end_s = times_s[-1] + (times_s[-1] - times_s[-2])
  return flow.motion_scores(tiny_THWC, times_s, 0.0, end_s)["motion_score"]


def panning(speed, times_s):
  """Tiny frames of a smooth texture that moves by `speed` pixels per second."""
  x, y = np.meshgrid(np.arange(28), np.arange(16))
  frames = [
    128 + 60 * np.sin((x + speed * t) * 0.5) + 60 * np.cos((y + (x + speed * t)) * 0.3)
    for t in times_s
  ]
  gray = np.clip(np.stack(frames), 0, 255).astype(np.uint8)
  return np.repeat(gray[..., None], 3, axis=-1)


@pytest.mark.parametrize("speed", [1.0, 2.0])
def test_score_is_the_speed_in_pixels_per_second(speed):
  times_s = np.arange(96) / 24
  assert score(panning(speed, times_s), times_s) == pytest.approx(speed, rel=0.25)


def test_score_does_not_depend_on_the_frame_rate():
  at_24, at_60 = np.arange(96) / 24, np.arange(240) / 60
  uneven = np.sort(np.r_[np.arange(0, 4, 0.5), np.random.default_rng(1).uniform(0, 4, 30)])
  expected = score(panning(1.5, at_24), at_24)
  assert score(panning(1.5, at_60), at_60) == pytest.approx(expected, rel=1e-6)
  assert score(panning(1.5, uneven), uneven) == pytest.approx(expected, rel=0.05)


def test_still_frames_score_zero_and_short_spans_nothing():
  times_s = np.arange(48) / 24
  assert score(panning(0.0, times_s), times_s) == pytest.approx(0.0, abs=0.05)
  assert flow.motion_scores(panning(1.0, times_s), times_s, 0.0, 0.5) == {}


@pytest.mark.parametrize("name", ["basketball.mp4", "chaplin.mp4", "vtest_10s.avi"])
def test_score_agrees_with_flow_on_full_frames(shared_data, name):
  """The same formula on full gray frames, scaled down in one step."""
  from vidjax.data import video

  path = str(shared_data / "videos" / name)
  found = signals.read_signals(path)
  grid_s = np.arange(0, found.end_s - 1e-3, 0.5)
  frames = video.read_frames_at(path, grid_s)
  scale = 16 / min(frames.shape[1:3])
  size = (round(frames.shape[2] * scale), round(frames.shape[1] * scale))
  gray = [
    cv2.resize(cv2.cvtColor(f, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA)
    for f in frames
  ]
  speeds = [
    np.linalg.norm(signals.farneback(a, b), axis=-1).mean() * 2 for a, b in itertools.pairwise(gray)
  ]
  ours = flow.motion_scores(found.tiny, found.times_s, 0.0, found.end_s)
  assert ours["motion_score"] == pytest.approx(float(np.mean(speeds)), rel=0.05)


def test_tiny_frames_have_a_shorter_side_of_sixteen(tmp_path):
  for size in ({"height": 72, "width": 128}, {"height": 130, "width": 66}):
    path = media.write(tmp_path / "x.mkv", media.shot(1, 4, **size))
    assert min(signals.read_signals(str(path)).tiny.shape[1:3]) == 16


def seen_by(path_T3):
  """Tiny frames of a camera over a texture: (right, down, logarithm of the size) of the picture."""
  rng = np.random.default_rng(5)
  ground = np.zeros((540, 960, 3), np.float32)
  for step, strength in ((120, 110), (40, 60), (8, 45)):
    knots = rng.uniform(-1, 1, (540 // step + 2, 960 // step + 2, 3)).astype(np.float32)
    ground += strength * cv2.resize(knots, (960, 540), interpolation=cv2.INTER_CUBIC)
  ground = np.clip(ground + 128, 0, 255).astype(np.uint8)
  frames = []
  for right, down, growth in path_T3:
    scale = 180 / 16 * np.array([right, down])
    zoom = np.exp(growth)
    shift = np.array([160, 90]) + scale - zoom * np.array([480, 270])
    matrix = np.array([[zoom, 0, shift[0]], [0, zoom, shift[1]]], np.float32)
    frame = cv2.warpAffine(ground, matrix, (320, 180))
    frames.append(cv2.resize(frame, (28, 16), interpolation=cv2.INTER_AREA))
  return np.stack(frames)


def path(right=0.0, down=0.0, growth=0.0, trembling=0.0, fps=24):
  """Four seconds with speeds per second, and a trembling in pixels (RMS)."""
  times_s = np.arange(4 * fps) / fps
  path_T3 = times_s[:, None] * np.array([right, down, growth])
  path_T3[:, :2] += np.random.default_rng(3).normal(0, trembling / 2**0.5, (len(times_s), 2))
  return path_T3, times_s


def moved(**how):
  """Scores of what a camera on `path` sees."""
  path_T3, times_s = path(**how)
  return flow.motion_scores(seen_by(path_T3), times_s, 0.0, 4.0)


def test_pan_has_a_direction():
  right = moved(right=3.0)
  assert right["motion_pan_x"] == pytest.approx(3.0, rel=0.15)
  assert abs(right["motion_pan_y"]) < 0.1
  up = moved(down=-2.0)
  assert up["motion_pan_y"] == pytest.approx(-2.0, rel=0.15)
  assert right["motion_static"] == up["motion_static"] == 0.0
  assert moved()["motion_static"] == 1.0


@pytest.mark.parametrize("growth", [0.1, -0.05])
def test_zoom_is_the_growth_per_second(growth):
  assert moved(growth=growth)["motion_zoom"] == pytest.approx(growth, rel=0.1)
  assert abs(moved(right=3.0)["motion_zoom"]) < 0.01


@pytest.mark.parametrize("fps", [24, 60])
def test_shake_is_trembling_and_not_panning(fps):
  for trembling in (0.16, 0.32, 0.8):
    path_T3, times_s = path(trembling=trembling, fps=fps)
    expected = pytest.approx(flow.shake(path_T3[:, :2], times_s), rel=0.15)
    assert 0.8 * trembling < expected.expected < 1.2 * trembling
    assert moved(trembling=trembling, fps=fps)["motion_shake"] == expected
    assert moved(right=3.0, trembling=trembling, fps=fps)["motion_shake"] == expected
  assert moved(fps=fps)["motion_shake"] == 0.0
  assert moved(right=4.0, down=1.0, fps=fps)["motion_shake"] < 0.03


def test_shake_of_hardly_any_frames():
  for count in (0, 1, 2):
    assert flow.shake(np.zeros((count, 2)), np.arange(count) / 24) == 0.0
  assert flow.shake(np.array([[0, 0], [1, 0], [0, 0.0]]), np.arange(3) / 24) > 0.3
