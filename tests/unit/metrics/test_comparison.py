"""The random-feature comparison ranks clips of real video as a person would."""

import numpy as np
import pytest

from vidjax.data import transforms, video
from vidjax.metrics import comparison, random_features

# One shot each, with things that move; seconds of the shot.
CLIPS = {
  "videos/chaplin.mp4": (0, 9.5),
  "videos/basketball.mp4": (0, 11.0),
  "videos/v_SoccerJuggling_g23_c01.avi": (0, 7.9),
  "videos/vtest_10s.avi": (0, 9.9),
  "videos/flower.webm": (0, 4.9),
}
T, H, W = 16, 64, 96


@pytest.fixture(scope="module")
def real_NTHWC(shared_data):  # noqa: N802  (a shape suffix, as everywhere)
  windows = []
  for start in (0.2, 0.8):
    for name, (low, high) in CLIPS.items():
      first = low + start * (high - low - 3.75)
      frames = video.read_frames_at(str(shared_data / name), first + np.arange(T) / 4)
      windows.append(transforms.cover_crop(frames, H, W))
  return np.stack(windows).astype(np.float32) / 255


@pytest.fixture(scope="module")
def ranked(real_NTHWC):
  rng = np.random.default_rng(0)
  first = np.repeat(real_NTHWC[:, :1], T, axis=1)
  fakes = {
    "mean_frame": np.broadcast_to(real_NTHWC.mean((0, 1)), real_NTHWC.shape),
    "first_frame": first,
    "moves_a_tenth": first + 0.1 * (real_NTHWC - first),
    "moves_a_third": first + 0.3 * (real_NTHWC - first),
    "drifts": np.stack([np.roll(first[:, 0], t, axis=2) for t in range(T)], axis=1),
    "noise": rng.random(real_NTHWC.shape, np.float32),
    "grey": np.clip(0.5 + 0.05 * rng.standard_normal(real_NTHWC.shape), 0, 1),
  }
  return comparison.compare(real_NTHWC, fakes)


def test_floor_is_far_below_the_mean_frame(ranked):
  floor, mean_frame = ranked[comparison.REAL_SPLIT], ranked["mean_frame"]
  for term in ("distance", "appearance", "motion"):
    assert floor[term].value < 0.1 * mean_frame[term].value
  assert floor["distance"].high < mean_frame["distance"].low


def test_little_true_motion_beats_a_frozen_frame(ranked):
  order = ["first_frame", "moves_a_tenth", "moves_a_third", comparison.REAL_SPLIT]
  motion = [ranked[name]["motion"].value for name in order]
  assert motion == sorted(motion, reverse=True)
  assert ranked["moves_a_tenth"]["motion"].high < ranked["first_frame"]["motion"].value
  assert ranked["drifts"]["motion"].value < 0.2 * ranked["first_frame"]["motion"].value


def test_pictures_beat_noise_and_grey(ranked):
  for bad in ("noise", "grey"):
    assert ranked["first_frame"]["appearance"].value < 0.1 * ranked[bad]["appearance"].value
    assert ranked["moves_a_tenth"]["distance"].value < 0.7 * ranked[bad]["distance"].value


def test_frozen_video_has_motion_features_of_exactly_zero(real_NTHWC):
  frozen = np.repeat(real_NTHWC[0, :1], T, axis=0)
  appearance_TK, motion_PK = random_features.features(frozen)
  assert appearance_TK.shape == (T, 32)
  assert motion_PK.shape == (T - 1, 32)
  assert not motion_PK.any()


def test_distance_is_the_sum_and_differences_are_in_levels(ranked):
  for terms in ranked.values():
    total = terms["appearance"].value + terms["motion"].value
    assert terms["distance"].value == pytest.approx(total, rel=1e-12)
  assert ranked["first_frame"]["frame_difference"].value == 0
  # Mean |a - b| of two uniform numbers is 1/3.
  assert ranked["noise"]["frame_difference"].value == pytest.approx(255 / 3, rel=0.01)


def test_weights_are_the_same_everywhere():
  """A change of a weight, a size or a gain makes old results incomparable: rename NAME with it."""
  assert random_features.NAME == "random-conv-1"
  ramp = np.linspace(0, 1, 2 * 32 * 48 * 3, dtype=np.float32).reshape(2, 32, 48, 3)
  appearance_TK, motion_PK = random_features.features(ramp)
  golden = [0.04175012, 0.04010652, 0.42352089], [1.1485543, 0.6706016, 1.2766465]
  np.testing.assert_allclose(appearance_TK[0, [1, 2, 7]], golden[0], rtol=2e-4)
  np.testing.assert_allclose(motion_PK[0, [1, 2, 7]], golden[1], rtol=2e-4)


@pytest.mark.parametrize(
  ("shape", "fill", "message"),
  [
    ((4, 1, 8, 8, 3), 0.5, r"got shape \(4, 1, 8, 8, 3\)"),
    ((4, 2, 8, 9, 3), 0.5, r"fake windows are \(2, 8, 9, 3\) each, the real ones \(2, 8, 8, 3\)"),
    ((1, 2, 8, 8, 3), 0.5, "fake: 1 windows, at least 2"),
    ((4, 2, 8, 8, 3), 255.0, r"must be finite and in \[0, 1\], got \[255, 255\]"),
    ((4, 2, 8, 8, 3), np.nan, r"must be finite"),
  ],
)
def test_unusable_windows_are_refused(shape, fill, message):
  real = np.zeros((4, 2, 8, 8, 3), np.float32)
  with pytest.raises(ValueError, match=message):
    comparison.compare(real, {"fake": np.full(shape, fill, np.float32)})


def test_progress_counts_all_windows():
  windows = np.random.default_rng(0).random((4, 2, 8, 8, 3), np.float32)
  seen = []
  comparison.compare(windows, {"a": windows, "b": windows}, progress=seen.append)
  assert seen == list(range(1, 13))
