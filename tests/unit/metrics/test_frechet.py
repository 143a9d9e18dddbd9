"""The Fréchet and kernel distances against values that independent code computed."""

import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest

from vidjax import metrics
from vidjax.metrics.frechet import FeatureStats, frechet_from_stats, merge

# (seed, n, d, scale, shift, rank) and the distances that QR of the centred features plus a nuclear
# norm gives for them in float64; good to 50-digit arithmetic within 3e-14. KID: torchmetrics and
# torch-fidelity agree with these to 12 digits.
CASES = {
  "well_conditioned": ((0, 2048, 400, 1.2, 0.1, None), 48.9506038779, 48.9723995315),
  "fewer_samples_than_dims": ((1, 256, 400, 1.2, 0.1, None), 245.828213979, 246.762648657),
  "same_law": ((2, 2048, 400, 1.0, 0.0, None), 24.2348961926, 24.2465128145),
  "small": ((3, 256, 16, 1.3, 0.25, None), 3.65587985954, 3.66432715011),
  "nearly_singular": ((4, 2048, 400, 1.1, 0.05, 40), 335.183351303, 335.339090761),
}
KID = {"well_conditioned": 0.0324961729058, "small": 0.649223027302, "same_law": 0.000547392830693}


def features(seed, n, d, scale, shift, rank):
  g = np.random.Generator(np.random.PCG64(seed))
  mix = g.standard_normal((d, d)) / np.sqrt(d) if rank is None else g.standard_normal((rank, d))
  pair = []
  for _ in range(2):
    if rank is None:
      pair.append(g.standard_normal((n, d)) @ mix)
    else:
      x = g.standard_normal((n, rank)) @ mix
      pair.append(x + 1e-3 * g.standard_normal((n, d)))
  return pair[0].astype(np.float32), (pair[1] * scale + shift).astype(np.float32)


def by_qr(x, y, ddof):
  """The distance without forming a covariance."""
  x, y = x.astype(np.float64), y.astype(np.float64)
  rx = np.linalg.qr(x - x.mean(0), mode="r") / np.sqrt(len(x) - ddof)
  ry = np.linalg.qr(y - y.mean(0), mode="r") / np.sqrt(len(y) - ddof)
  cross = np.linalg.svd(rx @ ry.T, compute_uv=False).sum()
  return ((x.mean(0) - y.mean(0)) ** 2).sum() + (rx**2).sum() + (ry**2).sum() - 2 * cross


@pytest.mark.filterwarnings("ignore:N=256 samples")
@pytest.mark.parametrize("name", CASES)
def test_reference_values(name):
  spec, *expected = CASES[name]
  real, fake = features(*spec)
  for ddof, value in enumerate(expected):
    ours = metrics.frechet_distance(real, fake, ddof=ddof)
    assert ours == pytest.approx(value, rel=5e-12)  # the printed digits
    assert ours == pytest.approx(by_qr(real, fake, ddof), rel=1e-12)


def test_identical_sets_are_at_zero():
  real, _ = features(*CASES["nearly_singular"][0])
  assert 0 <= metrics.frechet_distance(real, real) < 1e-9


def test_known_gaussians():
  """Diagonal covariances commute: the distance is a sum of squared differences of deviations."""
  corners = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]], np.float64)
  real, fake = corners * [3.0, 1.0], corners * [1.0, 4.0] + [10.0, 0.0]
  assert metrics.frechet_distance(real, fake) == pytest.approx(100 + 4 + 9, rel=1e-14)


@pytest.mark.parametrize("shards", [1, 7, 64])
def test_merging_shards_in_any_order_changes_nothing(shards):
  real, fake = features(*CASES["nearly_singular"][0])
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
  real, fake = features(*CASES["small"][0])
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


@pytest.mark.parametrize("name", KID)
def test_kid_reference_values(name):
  assert metrics.kid(*features(*CASES[name][0])) == pytest.approx(KID[name], rel=2e-12)


def test_kid_of_unequal_counts():
  real, fake = features(*CASES["small"][0])
  x, y = real[:150].astype(np.float64), fake[:90].astype(np.float64)

  def k(a, b):
    return (a @ b.T / 16 + 1) ** 3

  xx, yy = k(x, x), k(y, y)
  expected = (
    (xx.sum() - np.trace(xx)) / (150 * 149)
    + (yy.sum() - np.trace(yy)) / (90 * 89)
    - 2 * k(x, y).mean()
  )
  assert metrics.kid(real[:150], fake[:90]) == pytest.approx(expected, rel=1e-12)


def test_import_needs_neither_jax_nor_scipy():
  code = "import sys, vidjax.metrics; print(sorted({'jax', 'scipy', 'flax'} & set(sys.modules)))"
  out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
  assert out.stdout.strip() == "[]"
