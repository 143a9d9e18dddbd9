"""The Fréchet and kernel distances against values that independent code computed."""

import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest

from tests import feature_sets
from vidjax import metrics
from vidjax.metrics.frechet import FeatureStats, frechet_from_stats, merge


@pytest.mark.filterwarnings("ignore:N=256 samples")
@pytest.mark.parametrize("name", feature_sets.FRECHET)
def test_reference_values(name):
  real, fake = feature_sets.make(name)
  for ddof, value in enumerate(feature_sets.FRECHET[name][1:]):
    ours = metrics.frechet_distance(real, fake, ddof=ddof)
    assert ours == pytest.approx(value, rel=5e-12)  # the printed digits
    assert ours == pytest.approx(feature_sets.by_qr(real, fake, ddof), rel=1e-12)


@pytest.mark.filterwarnings("ignore:N=")
@pytest.mark.parametrize("name", feature_sets.FRECHET)
def test_identical_sets_are_at_zero(name):
  real, _ = feature_sets.make(name)
  for few in (real, real[:8]):
    assert 0 <= metrics.frechet_distance(few, few) < 1e-10


@pytest.mark.filterwarnings("ignore:N=256 samples")
@pytest.mark.parametrize("name", feature_sets.FRECHET)
def test_an_allowed_error_is_kept(name):
  """Half the time where the spectrum allows it; all digits where it does not."""
  real, fake = (FeatureStats.of(x) for x in feature_sets.make(name))
  exact = frechet_from_stats(real, fake)
  variance = np.trace(real.covariance(0)) + np.trace(fake.covariance(0))
  for allowed in (1e-15, 1e-9, 1e-7, 1e-3):
    assert (
      abs(frechet_from_stats(real, fake, allowed=allowed) - exact) <= allowed * variance + 1e-10
    )


@pytest.mark.parametrize("rank", [1, 7, 19, 20])
def test_directions_without_variance_do_not_count(rank):
  """More samples than dimensions, but fewer directions: half of the digits go if noise counts."""
  for seed in range(40):  # rounding makes a covariance positive definite in some of them
    rng = np.random.default_rng([rank, seed])
    real = rng.standard_normal((60, rank)) @ rng.standard_normal((rank, 20))
    fake = rng.standard_normal((60, 20)) * 1.5 + 1
    expected = feature_sets.by_qr(real, fake, 0)
    assert metrics.frechet_distance(real, fake) == pytest.approx(expected, rel=1e-11)
  constant = np.full((50, 8), 3.0)
  assert metrics.frechet_distance(constant, constant + 2) == pytest.approx(32)


def test_known_gaussians():
  """Diagonal covariances commute: the distance is a sum of squared differences of deviations."""
  corners = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]], np.float64)
  real, fake = corners * [3.0, 1.0], corners * [1.0, 4.0] + [10.0, 0.0]
  assert metrics.frechet_distance(real, fake) == pytest.approx(100 + 4 + 9, rel=1e-14)


@pytest.mark.parametrize("shards", [1, 7, 64])
def test_merging_shards_in_any_order_changes_nothing(shards):
  real, fake = feature_sets.make("nearly_singular")
  whole = metrics.frechet_distance(real, fake)
  order = np.random.default_rng(shards).permutation(shards)
  merged = []
  for x in (real, fake):
    parts = np.array_split(x, shards)
    merged.append(merge(FeatureStats.of(parts[i]) for i in order))
  assert frechet_from_stats(*merged) == pytest.approx(whole, rel=1e-12)


def test_merging_keeps_digits_far_from_the_origin():
  x = np.random.default_rng(0).standard_normal((500, 8))
  merged = merge(FeatureStats.of(part) for part in np.array_split(x + 1e6, 9))
  np.testing.assert_allclose(merged.covariance(1), np.cov(x, rowvar=False), rtol=1e-6, atol=1e-8)


def test_low_precision_features_are_taken():
  real, fake = feature_sets.make("small")
  real16, fake16 = real.astype(ml_dtypes.bfloat16), fake.astype(ml_dtypes.bfloat16)
  exact = metrics.frechet_distance(real16.astype(np.float64), fake16.astype(np.float64))
  assert metrics.frechet_distance(real16, fake16) == exact


@pytest.mark.parametrize(
  ("real", "fake", "message"),
  [
    (np.zeros((1, 4)), np.zeros((9, 4)), "real features: N=1"),
    (np.zeros((9, 4)), np.zeros((0, 4)), "fake features: N=0"),
    (np.zeros((9, 4)), np.zeros((9, 5)), "D=4 and fake features D=5"),
    (np.zeros((9, 4, 2)), np.zeros((9, 4)), r"got shape \(9, 4, 2\)"),
    (np.zeros(9), np.zeros((9, 4)), r"got shape \(9,\)"),
    (np.zeros((9, 4)), np.full((9, 4), "a"), "dtype <U1"),
    (np.zeros((9, 4)), np.zeros((9, 4), complex), "dtype complex128"),
  ],
)
def test_unusable_features_are_refused(real, fake, message):
  for distance in (metrics.frechet_distance, metrics.kid):
    with pytest.raises(ValueError, match=message):
      distance(real, fake)


def test_rows_that_are_not_finite_are_counted():
  real = np.zeros((9, 4))
  real[[3, 5], [0, 1]] = np.nan, np.inf
  with pytest.raises(ValueError, match="2 of 9 rows hold NaN or infinity, the first is row 3"):
    metrics.frechet_distance(real, np.zeros((9, 4)))


def test_few_samples_warn():
  x = np.random.default_rng(0).standard_normal((5, 8))
  with pytest.warns(UserWarning, match="N=5 samples in D=8"):
    metrics.frechet_distance(x, x)


def test_ddof_is_0_or_1():
  x = np.random.default_rng(0).standard_normal((9, 2))
  with pytest.raises(ValueError, match="ddof=2: use 0"):
    metrics.frechet_distance(x, x, ddof=2)


def test_stats_survive_plain_arrays(tmp_path):
  real, _ = feature_sets.make("nearly_singular")
  stats = FeatureStats.of(real)
  np.savez(tmp_path / "stats.npz", **stats.to_arrays())
  with np.load(tmp_path / "stats.npz") as arrays:
    read = FeatureStats.from_arrays(arrays)
  assert read.n == stats.n
  assert read.mean.tobytes() == stats.mean.tobytes()
  assert read.m2.tobytes() == stats.m2.tobytes()


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"m2": None}, "have no array m2"),
    (
      {"mean": np.zeros(3, np.float32)},
      r"mean must be finite float64 of shape \(3,\), got float32",
    ),
    ({"m2": np.zeros((3, 2))}, r"m2 must be finite float64 of shape \(3, 3\)"),
    ({"m2": np.full((3, 3), np.nan)}, "m2 must be finite"),
    ({"n": np.array(0)}, "n must be one positive integer, got array\\(0\\)"),
    ({"n": np.array([5])}, "n must be one positive integer"),
  ],
)
def test_damaged_arrays_are_refused(change, message):
  arrays = FeatureStats.of(np.eye(5, 3)).to_arrays() | change
  with pytest.raises(ValueError, match=message):
    FeatureStats.from_arrays({k: v for k, v in arrays.items() if v is not None})


def test_import_needs_neither_jax_nor_scipy():
  code = "import sys, vidjax.metrics; print(sorted({'jax', 'scipy', 'flax'} & set(sys.modules)))"
  out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
  assert out.stdout.strip() == "[]"
