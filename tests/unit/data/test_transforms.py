import numpy as np
import pytest

from vidjax.data import transforms


@pytest.mark.parametrize(
  ("source", "target", "cover"),
  [
    ((480, 854), (256, 384), (256, 455)),  # wider than the target: height decides
    ((854, 480), (256, 384), (683, 384)),  # upright: width decides
    ((256, 384), (256, 384), (256, 384)),
    ((100, 100), (200, 300), (300, 300)),  # growing
    ((20, 1000), (256, 256), (256, 12800)),
  ],
)
def test_cover_size_keeps_the_shape_and_covers(source, target, cover):
  assert transforms.cover_size(source, target) == cover


def test_crop_is_central():
  columns = np.arange(100, dtype=np.uint8)
  video_THWC = np.broadcast_to(columns[None, None, :, None], (2, 40, 100, 3))
  result_THWC = transforms.cover_crop(video_THWC, 40, 20)
  assert result_THWC.shape == (2, 40, 20, 3)
  np.testing.assert_array_equal(result_THWC[1, 5, :, 2], columns[40:60])


def test_odd_overhang_loses_the_last_row():
  rows = np.arange(5, dtype=np.uint8)
  video_THWC = np.broadcast_to(rows[None, :, None, None], (1, 5, 4, 3))
  result_THWC = transforms.cover_crop(video_THWC, 4, 4)
  np.testing.assert_array_equal(result_THWC[0, :, 0, 0], rows[:4])


def test_shrinking_averages_areas():
  checks = np.indices((64, 64)).sum(axis=0) % 2 * 255  # one pixel black, one white: aliases
  video_THWC = np.repeat(checks.astype(np.uint8)[None, :, :, None], 3, axis=3)
  result_THWC = transforms.cover_crop(video_THWC, 16, 16)
  assert np.ptp(result_THWC) == 0
  assert abs(int(result_THWC[0, 0, 0, 0]) - 127.5) <= 1


def test_mean_is_kept_by_a_fractional_scale():
  rng = np.random.default_rng(0)
  video_THWC = rng.integers(0, 256, (1, 90, 150, 3), np.uint8)
  result_THWC = transforms.cover_crop(video_THWC, 36, 60)
  assert result_THWC.mean() == pytest.approx(video_THWC.mean(), abs=0.5)
  assert result_THWC.std() < video_THWC.std() / 2


def test_growing_reaches_the_size():
  video_THWC = np.full((3, 10, 10, 3), 200, np.uint8)
  result_THWC = transforms.cover_crop(video_THWC, 32, 48)
  assert result_THWC.shape == (3, 32, 48, 3)
  assert set(np.unique(result_THWC)) == {200}


def test_mirror_exchanges_left_and_right():
  video_THWC = np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 3)
  mirrored_THWC = transforms.mirror(video_THWC)
  np.testing.assert_array_equal(mirrored_THWC[:, :, 0], video_THWC[:, :, 3])
  assert mirrored_THWC.flags.c_contiguous
  np.testing.assert_array_equal(transforms.mirror(mirrored_THWC), video_THWC)
