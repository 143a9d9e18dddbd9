"""The kernel distances against independent formulas and published digits."""

import itertools

import numpy as np
import pytest

from tests import feature_sets
from vidjax import metrics
from vidjax.metrics.kid import jedi_mmd, kernel_sums


def by_matrices(x, y):
  """Unbiased squared MMD from whole kernel matrices."""
  x, y = x.astype(np.float64), y.astype(np.float64)
  xx, yy, xy = ((a @ b.T / x.shape[1] + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
  n, m = len(x), len(y)
  return (
    (xx.sum() - np.trace(xx)) / (n * (n - 1))
    + (yy.sum() - np.trace(yy)) / (m * (m - 1))
    - 2 * xy.mean()
  )


@pytest.mark.parametrize("name", feature_sets.KID)
def test_kid_reference_values(name):
  real, fake = feature_sets.make(name)
  ours = metrics.kid(real, fake)
  assert ours == pytest.approx(feature_sets.KID[name], rel=2e-12)
  assert ours == pytest.approx(by_matrices(real, fake), abs=1e-10, rel=1e-11)


def test_kid_of_unequal_counts():
  real, fake = feature_sets.make("small")
  assert metrics.kid(real[:150], fake[:90]) == pytest.approx(
    by_matrices(real[:150], fake[:90]), rel=1e-12
  )


def test_groups_without_one_are_the_rest():
  """Empty groups, unequal ones, and ones that are larger than a block of the kernel matrix."""
  rng = np.random.default_rng(0)
  real, fake = rng.standard_normal((1300, 4)), rng.standard_normal((40, 4)) + 0.5
  ends = [0, 1100, 1100, 1150, 1300], [0, 0, 13, 20, 40]
  groups = [
    [x[a:b] for a, b in itertools.pairwise(end)] for x, end in zip((real, fake), ends, strict=True)
  ]
  sums = kernel_sums(*groups)
  assert sums.mmd2() == pytest.approx(by_matrices(real, fake), rel=1e-11)
  for g in range(4):
    rest = [np.concatenate([part for i, part in enumerate(side) if i != g]) for side in groups]
    assert sums.mmd2(g) == pytest.approx(by_matrices(*rest), rel=1e-11)


@pytest.mark.parametrize("name", feature_sets.JEDI)
def test_jedi_reference_values(name):
  assert jedi_mmd(*feature_sets.make(name)) == pytest.approx(feature_sets.JEDI[name], rel=5e-12)


def test_jedi_is_the_biased_statistic():
  real, fake = feature_sets.make("small")
  x, y = real[:150].astype(np.float64), fake[:90].astype(np.float64)
  xx, yy, xy = ((a @ b.T / 16) ** 2 for a, b in ((x, x), (y, y), (x, y)))
  expected = 100 * (xx.mean() + yy.mean() - 2 * xy.mean())
  assert jedi_mmd(x, y) == pytest.approx(expected, rel=1e-12)
  assert jedi_mmd(x, x) == 0
