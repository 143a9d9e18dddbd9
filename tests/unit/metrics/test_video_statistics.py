"""Statistics of pixels: movement, flicker, and the frame that image-to-video was given."""

import dataclasses
import math

import numpy as np
import pytest

from vidjax.metrics import video_statistics
from vidjax.metrics.video_statistics import VideoRecord, aggregate, measure, psnr, ssim


def noise(seed, *shape):
  return np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)


def test_movement_and_flicker():
  video = noise(0, 5, 12, 13)
  x = video.astype(float)
  difference = np.mean([np.abs(x[t + 1] - x[t]).mean() for t in range(4)])
  record = measure(video)
  assert record.frame_difference == pytest.approx(difference, rel=1e-12)
  assert record.temporal_flicker == pytest.approx((255 - difference) / 255, rel=1e-12)
  assert (record.static, record.first_frame_psnr, record.first_frame_ssim) == (0, None, None)
  black_white = np.stack([np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 255, np.uint8)])
  assert measure(black_white).frame_difference == 255
  assert measure(black_white).temporal_flicker == 0


def test_static_is_below_half_a_level():
  video = np.repeat(noise(1, 1, 8, 8) // 2, 3, axis=0)
  assert dataclasses.astuple(measure(video))[:3] == (0, 1, 1)
  video[1, :, :4] += 1  # half of the values move by one level: half a level
  assert (measure(video).frame_difference, measure(video).static) == (0.5, 0)
  video[1, 0, 0, 0] -= 1
  assert measure(video).static == 1


def by_windows(x_HW, y_HW):
  """Wang et al. (2004), one window at a time."""
  offsets = np.arange(11) - 5
  w = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 1.5**2))
  w /= w.sum()
  values = []
  for i in range(x_HW.shape[0] - 10):
    for j in range(x_HW.shape[1] - 10):
      x, y = x_HW[i : i + 11, j : j + 11], y_HW[i : i + 11, j : j + 11]
      mx, my = (w * x).sum(), (w * y).sum()
      vx, vy = (w * (x - mx) ** 2).sum(), (w * (y - my) ** 2).sum()
      cov = (w * (x - mx) * (y - my)).sum()
      c1, c2 = 2.55**2, 7.65**2
      values.append((2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2)))
  return np.mean(values)


def test_ssim_is_the_one_of_the_paper():
  x = noise(2, 15, 18)
  y = np.clip(x.astype(int) + np.random.default_rng(3).integers(-60, 60, x.shape), 0, 255)
  y = y.astype(np.uint8)
  expected = np.mean(
    [by_windows(x[..., c].astype(float), y[..., c].astype(float)) for c in range(3)]
  )
  assert ssim(x, y) == pytest.approx(expected, rel=1e-10)
  assert ssim(x, x) == pytest.approx(1, rel=1e-12)
  assert ssim(x, 255 - x) < 0


def test_psnr():
  x = noise(4, 9, 9)
  y = np.where(x < 128, x + 5, x - 5).astype(np.uint8)
  assert psnr(x, y) == pytest.approx(20 * math.log10(255 / 5), rel=1e-12)
  assert psnr(x, x) == 100


def test_first_frame_is_compared_with_the_given_one():
  video = noise(5, 3, 16, 16)
  record = measure(video, video[1])
  assert record.first_frame_psnr == psnr(video[0], video[1])
  assert record.first_frame_ssim == ssim(video[0], video[1])
  assert measure(video, video[0]).first_frame_psnr == 100


def test_sets_have_intervals():
  records = [VideoRecord(d, 1 - d / 255, float(d < 0.5)) for d in (0.0, 2.0, 3.0, 7.0)]
  found = aggregate(records)
  assert found.keys() == {"frame_difference", "temporal_flicker", "static"}
  assert found["frame_difference"].value == 3
  error = np.std([0, 2, 3, 7], ddof=1) / 2
  assert found["frame_difference"].high == pytest.approx(3 + 1.959964 * error, rel=1e-6)
  assert found["temporal_flicker"].high <= 1
  # Wilson's interval of 1 in 4.
  assert (found["static"].low, found["static"].high) == pytest.approx((0.0456, 0.6994), abs=1e-4)
  none = aggregate(records[1:])["static"]
  assert (none.value, none.low) == (0, 0)
  assert none.high == pytest.approx(0.5615, abs=1e-4)
  grouped = aggregate(records * 2, np.tile(np.arange(4), 2))
  assert grouped["frame_difference"].high == pytest.approx(3 + 1.959964 * error, rel=1e-6)


def test_given_frames_are_for_all_or_none():
  with_frame, without = VideoRecord(1.0, 0.9, 0.0, 30.0, 0.8), VideoRecord(1.0, 0.9, 0.0)
  assert aggregate([with_frame] * 3)["first_frame_psnr"].value == 30
  assert aggregate([with_frame] * 3).keys() == video_statistics.UNITS.keys()
  with pytest.raises(ValueError, match="first_frame_psnr: 1 of 2 videos lack it"):
    aggregate([with_frame, without])
  with pytest.raises(ValueError, match="no videos"):
    aggregate([])


@pytest.mark.parametrize(
  ("video", "given", "message"),
  [
    (np.zeros((2, 16, 16, 3)), None, r"uint8 \(T, H, W, 3\), got float64"),
    (noise(0, 16, 16), None, r"got uint8 of shape \(16, 16, 3\)"),
    (noise(0, 1, 16, 16), None, "video of 1 frame"),
    (noise(0, 2, 16, 16), np.zeros((16, 16, 3)), r"frame must be uint8 .* got float64"),
    (noise(0, 2, 16, 16), noise(0, 16, 17), r"first frame is \(16, 16, 3\) and the given one"),
    (noise(0, 2, 10, 16), noise(0, 10, 16), "10 x 16 pixels are too small for SSIM"),
  ],
)
def test_unusable_videos_are_refused(video, given, message):
  with pytest.raises(ValueError, match=message):
    measure(video, given)
