import numpy as np
import pytest

from vidjax.data import windows
from vidjax.data.clip import Clip, Listing

NAN = float("nan")
INF = float("inf")


def listing(durations_s, fps=24.0):
  durations_s = np.array(durations_s, np.float64)
  rates = np.broadcast_to(np.array(fps, np.float64), durations_s.shape)
  return Listing(durations_s, rates, np.zeros((len(durations_s), 2), np.int32), "")


def clip(duration_s, times_s=None):
  def read(moments_s, size):
    raise AssertionError("placing a window reads no frames")

  return Clip("id", "file", duration_s, read, lambda: np.asarray(times_s))


def test_sixteen_frames_at_four_fps_span_three_and_three_quarter_seconds():
  grid = windows.WindowGrid(16, 4.0)
  assert grid.span_s == 3.75
  moments_s, fps = grid.place(clip(5.25), 1 - 1e-12)
  np.testing.assert_allclose(moments_s, 1.5 + np.arange(16) * 0.25)
  assert fps == 4.0


def test_fits_asks_for_the_span():
  grid = windows.WindowGrid(5, 4.0)
  fits = grid.fits(listing([0.9, 0.999, 1.0, 24 / 23.999, NAN]))
  np.testing.assert_array_equal(fits, [False, False, True, True, False])


def test_fits_asks_for_the_rate():
  grid = windows.WindowGrid(5, 4.0)
  fits = grid.fits(listing([9, 9, 9, 9], [2.0, 3.5, 3.7, 4.0]))
  np.testing.assert_array_equal(fits, [False, False, True, True])
  assert windows.WindowGrid(1, 4.0).fits(listing([9], 0.5)).all()


def test_fits_forgives_the_rounding_of_a_float32_rate():
  rate = float(np.float32(23.976))
  assert windows.WindowGrid(2, 23.976 / 24).fits(listing([24 / rate])).all()


def test_pictures_hold_single_frames_only():
  pictures = listing([INF, INF], INF)
  assert windows.WindowGrid(1, 4.0).fits(pictures).all()
  assert not windows.WindowGrid(2, 4.0).fits(pictures).any()
  assert windows.StrideGrid(1, 2).fits(pictures).all()
  assert not windows.StrideGrid(2, 2).fits(pictures).any()
  moments_s, _ = windows.WindowGrid(1, 4.0).place(clip(INF), 0.5)
  assert moments_s.tolist() == [0.0]


@pytest.mark.parametrize(("fraction", "start_s"), [(0.0, 0.0), (0.5, 2.0), (0.999999, 4.0)])
def test_start_spreads_over_the_clip(fraction, start_s):
  moments_s, _ = windows.WindowGrid(5, 4.0).place(clip(5.0), fraction)
  assert moments_s[0] == pytest.approx(start_s, abs=1e-5)


def test_an_image_may_be_anywhere_in_the_clip():
  grid = windows.WindowGrid(1, 4.0)
  assert grid.span_s == 0
  assert grid.place(clip(5.0), 0.9)[0] == pytest.approx([4.5])


def test_a_clip_as_long_as_the_window_has_one_start():
  grid = windows.WindowGrid(5, 4.0)
  assert grid.place(clip(1.0), 0.7)[0][0] == 0.0
  assert grid.place(clip(1.0 - 1e-5), 0.7)[0][0] == 0.0


def test_a_stride_counts_frames_and_not_time():
  times_s = np.array([0.0, 0.1, 0.5, 0.6, 1.4, 1.5, 2.0, 2.2])
  grid = windows.StrideGrid(3, 2)
  starts = [grid.place(clip(2.3, times_s), f)[0].tolist() for f in (0.0, 0.3, 0.6, 0.99)]
  assert starts == [[0.0, 0.5, 1.4], [0.1, 0.6, 1.5], [0.5, 1.4, 2.0], [0.6, 1.5, 2.2]]
  assert grid.place(clip(2.3, times_s), 0.0)[1] == pytest.approx(2 / 1.4)  # its mean rate


def test_a_stride_asks_for_frames():
  fits = windows.StrideGrid(3, 2).fits(listing([5 / 24, 4 / 24, NAN, 10.0]))
  np.testing.assert_array_equal(fits, [True, False, False, True])
  with pytest.raises(ValueError, match="has 4 frames, a window takes 5"):
    windows.StrideGrid(3, 2).place(clip(1.0, [0.0, 0.1, 0.2, 0.3]), 0.0)
