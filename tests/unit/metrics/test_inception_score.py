"""The inception score against the two reference codes, written out here, and known values."""

import math

import numpy as np
import pytest

from vidjax.metrics import inception_score
from vidjax.metrics.inception_score import STYLEGAN_V, Scheme, of_logits, of_probabilities, tgan2

ANY = Scheme()


def probabilities(seed, n, classes, sharpness=3.0):
  p = np.exp(sharpness * np.random.default_rng(seed).standard_normal((n, classes)))
  return p / p.sum(axis=1, keepdims=True)


def stylegan_v(p, splits):
  """Shuffles whole rows, as that code does."""
  p = p.copy()
  np.random.RandomState(42).shuffle(p)
  scores = []
  for i in range(splits):
    part = p[i * len(p) // splits : (i + 1) * len(p) // splits]
    scores.append(np.exp((part * (np.log(part) - np.log(part.mean(0)))).sum(1).mean()))
  return np.mean(scores), np.std(scores)


def test_stylegan_v():
  p = probabilities(0, 2048, 101)
  ours, (mean, sd) = of_probabilities(p, STYLEGAN_V), stylegan_v(p, 10)
  assert ours.estimate.value == pytest.approx(mean, rel=1e-12)
  assert ours.sd == pytest.approx(sd, rel=1e-9)
  assert (len(ours.splits), ours.samples) == (10, 2048)
  assert ours.estimate.low < mean < ours.estimate.high
  # The same samples in one split score higher: a split has fewer to know q from.
  assert of_probabilities(p, ANY).estimate.value != pytest.approx(mean, rel=1e-3)


def test_tgan2_with_probabilities_of_0():
  p = probabilities(1, 2 * 2048, 7)
  p[:900] = np.eye(7)[np.arange(900) % 7]
  scores = []
  for part in (p[:2048] + 1e-20, p[2048:] + 1e-20):
    scores.append(np.exp((part * (np.log(part) - np.log(part.mean(0)))).sum(1).mean()))
  ours = of_probabilities(p, tgan2(loops=2))
  np.testing.assert_allclose(ours.splits, scores, rtol=1e-12)
  assert ours.estimate.value == pytest.approx(np.mean(scores), rel=1e-12)
  # 1e-20 is below rounding here: with and without it agree, where plain logarithms give NaN.
  without = of_probabilities(p, Scheme(splits=2))
  assert without.estimate.value == pytest.approx(ours.estimate.value, rel=1e-12)


def test_logits_and_probabilities_agree():
  logits = 5 * np.random.default_rng(2).standard_normal((500, 11))
  p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
  scheme = Scheme(splits=3, shuffle=7)
  ours = of_logits(logits + 900.0, scheme)  # whose exponentials overflow
  np.testing.assert_allclose(ours.splits, of_probabilities(p, scheme).splits, rtol=1e-11)


def test_known_scores():
  """Sure and even over classes: their number. Unsure, or sure of one class: 1."""
  sure = np.eye(8)[np.arange(80) % 8]
  assert of_probabilities(sure, ANY).estimate.value == pytest.approx(8, rel=1e-14)
  assert of_logits(1e5 * sure, ANY).estimate.value == pytest.approx(8, rel=1e-14)
  for same in (np.full((80, 8), 1 / 8), np.tile(np.eye(8)[3], (80, 1))):
    estimate = of_probabilities(same, ANY).estimate
    assert (estimate.value, estimate.low) == pytest.approx((1, 1), rel=1e-14)


def test_interval_leaves_out_whole_groups():
  p = probabilities(3, 200, 4)
  groups = np.random.default_rng(0).choice([0, 1, 2, 4, 5], 200)
  ours = of_probabilities(p, ANY, groups)
  value, used = of_probabilities(p, ANY).estimate.value, [0, 1, 2, 4, 5]
  left_out = [of_probabilities(p[groups != g], ANY).estimate.value for g in used]
  h = np.array([200 / np.sum(groups == g) for g in used])
  pseudo = h * value - (h - 1) * left_out
  error = math.sqrt(np.mean((pseudo - (pseudo / h).sum()) ** 2 / (h - 1)))
  assert ours.estimate.high - value == pytest.approx(1.959964 * error, rel=1e-6)


def test_interval_has_the_width_of_the_spread_over_draws():
  runs = [of_probabilities(probabilities(seed, 400, 10), ANY).estimate for seed in range(60)]
  spread = np.std([run.value for run in runs], ddof=1)
  assert 0.75 < np.mean([(run.high - run.value) / 1.96 for run in runs]) / spread < 1.4


def test_no_interval_where_a_split_would_be_empty():
  p = probabilities(4, 40, 2)
  assert math.isnan(of_probabilities(p, Scheme(splits=20), np.arange(40) // 4).estimate.low)


@pytest.mark.parametrize(
  ("p", "scheme", "message"),
  [
    (
      probabilities(0, 100, 4),
      STYLEGAN_V,
      "this scheme is defined for exactly 2048",
    ),
    (probabilities(0, 100, 4), tgan2(), "for exactly 20480"),
    (probabilities(0, 100, 4), Scheme(splits=101), "splits=101: N=100 samples allow 1 to 100"),
    (np.ones((100, 1)), ANY, "C=1: an inception score needs at least 2"),
    (np.full((100, 4), 0.3), ANY, r"row 0 has sum 1\.2 .*are these logits"),
    (np.array([[0.5, 0.5], [1.5, -0.5]] * 20), ANY, r"row 1 has sum 1 and smallest value -0\.5"),
    (np.full((1, 4), 0.25), ANY, "N=1, a covariance|N=1, "),
    (np.full((40, 4), np.nan), ANY, "40 of 40 rows hold NaN"),
  ],
)
def test_unusable_probabilities_are_refused(p, scheme, message):
  with pytest.raises(ValueError, match=message):
    of_probabilities(p, scheme)


def test_few_samples_per_class_warn():
  with pytest.warns(UserWarning, match="N=39 samples for C=4 classes: with fewer than 10"):
    inception_score.of_logits(np.zeros((39, 4)), ANY)
