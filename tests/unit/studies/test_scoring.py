"""Numbers of clips whose motion, colour and likeness are known."""

import numpy as np
import pytest

from benchmarks.studies import scoring
from vidjax.data.sources import procedural


def moving(speed: float, frames: int = 8) -> np.ndarray:
  """A smooth texture that goes right by `speed` pixels a frame; (T, 64, 64, 3) in [0, 1]."""
  x = np.arange(64)[None, :, None] - speed * np.arange(frames)[:, None, None, None]
  y = np.arange(64)[:, None, None]
  waves = np.sin(2 * np.pi * x / 40) + np.cos(2 * np.pi * (x + 2 * y) / 50)
  return np.broadcast_to(0.5 + 0.2 * waves, (frames, 64, 64, 3)).astype(np.float32)


@pytest.mark.parametrize("speed", [1.0, 2.0, 4.0])
def test_motion_is_in_pixels_at_a_shorter_side_of_16(speed):
  assert scoring.motion_per_frame(moving(speed)) == pytest.approx(speed / 4, rel=0.2)


def test_motion_of_a_still_is_none():
  assert scoring.motion_per_frame(moving(0.0)) < 0.01


def test_motion_tells_the_speeds_of_the_clips_apart():
  """On the kind of clips that models are trained on, against their true motion."""
  true, measured = [], []
  for duration_s in (2.0, 16.0):
    options = {"duration_s": duration_s, "fps": 16.0, "height": 64, "width": 64, "camera": 1.0}
    options |= {"cuts": 0.0, "backgrounds": "clouds", "num_clips": 3}
    source = procedural.open_source("", "holdout", options)
    for number in range(3):
      clip = source[number]
      frames = clip.read(np.arange(7) / 4, (64, 64)) / np.float32(255)
      true.append(clip.motion_score)
      measured.append(4 * scoring.motion_per_frame(frames))
  assert min(measured[:3]) > 2 * max(measured[3:])
  assert np.corrcoef(true, measured)[0, 1] > 0.9


def test_numbers_of_clips():
  rng = np.random.default_rng(0)
  first = rng.uniform(0.2, 0.8, (2, 16, 16, 3)).astype(np.float32)
  still = np.repeat(first[:, None], 4, axis=1)
  same = scoring.clip_numbers(first, still, 4.0)
  assert same["motion"] < 0.1
  assert same["first_frame_psnr"] == 60.0
  assert same["distance_to_first"] == pytest.approx(0.0, abs=1e-5)
  assert same["oversaturation"] == pytest.approx(0.0, abs=1e-6)

  gray = first.mean(axis=-1, keepdims=True)
  stronger = gray[:, None] + 1.5 * (still - gray[:, None])
  loud = scoring.clip_numbers(first, stronger, 4.0)
  assert loud["oversaturation"] == pytest.approx(np.log(1.5), rel=1e-3)
  assert loud["distance_to_first"] > 0
  pale = scoring.clip_numbers(first, gray[:, None] + 0.5 * (still - gray[:, None]), 4.0)
  assert pale["oversaturation"] == 0.0

  error = scoring.clip_numbers(first, np.clip(still + 0.1, 0, 1), 4.0)
  assert error["first_frame_psnr"] == pytest.approx(20.0, abs=0.1)
  assert len(error["clips"]["motion"]) == 2
  assert len(error["frames"]["oversaturation"]) == 4


def test_motion_per_second_goes_with_the_frame_rate():
  clips = moving(2.0)[None]
  slow, fast = (scoring.clip_numbers(clips[:, 0], clips, fps) for fps in (4.0, 16.0))
  assert fast["motion"] == pytest.approx(4 * slow["motion"])
  assert fast["motion_per_frame"] == slow["motion_per_frame"]
