import numpy as np
import pytest

from vidjax.data import windows


def test_sixteen_frames_at_four_fps_span_three_and_three_quarter_seconds():
  grid = windows.WindowGrid(16, 4.0)
  assert grid.span_s == 3.75
  np.testing.assert_allclose(grid.moments(1.5), 1.5 + np.arange(16) * 0.25)


def test_fits_asks_for_the_span():
  grid = windows.WindowGrid(5, 4.0)
  np.testing.assert_array_equal(
    grid.fits(np.array([0.9, 0.999, 1.0, 24 / 23.999, np.nan])), [False, False, True, True, False]
  )


def test_fits_forgives_the_rounding_of_a_float32_rate():
  rate = float(np.float32(23.976))
  grid = windows.WindowGrid(2, 23.976 / 24)
  assert grid.fits(24 / rate)


@pytest.mark.parametrize(("fraction", "start_s"), [(0.0, 0.0), (0.5, 2.0), (0.999999, 4.0)])
def test_start_spreads_over_the_clip(fraction, start_s):
  grid = windows.WindowGrid(5, 4.0)
  assert grid.start_s(5.0, fraction) == pytest.approx(start_s, abs=1e-5)


def test_an_image_may_be_anywhere_in_the_clip():
  grid = windows.WindowGrid(1, 4.0)
  assert grid.span_s == 0
  assert grid.start_s(5.0, 0.9) == pytest.approx(4.5)
  assert grid.moments(4.5).tolist() == [4.5]


def test_a_clip_as_long_as_the_window_has_one_start():
  grid = windows.WindowGrid(5, 4.0)
  assert grid.start_s(1.0, 0.7) == 0.0
  assert grid.start_s(1.0 - 1e-5, 0.7) == 0.0
