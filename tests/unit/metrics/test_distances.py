"""All distances at once are those of the single functions."""

import numpy as np
import pytest

from vidjax.metrics import distances, extrapolation, floor, intervals
from vidjax.metrics.groups import groups_of


def sets():
  rng = np.random.default_rng(0)
  return rng.standard_normal((200, 8)), 1.3 * rng.standard_normal((170, 8)) + 0.2


def same(ours, theirs):
  for field in ("value", "low", "high"):
    assert getattr(ours, field) == pytest.approx(getattr(theirs, field), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("with_ids", [False, True])
def test_each_distance_is_that_of_its_own_function(with_ids):
  real, fake = sets()
  ids = ([f"r{i // 2}" for i in range(200)], [f"f{i // 2}" for i in range(170)])
  groups = (groups_of(ids[0]), groups_of(ids[1])) if with_ids else None
  found = distances.frechet_distances(real, fake, ddof=1, ids=ids if with_ids else None)
  single = intervals.frechet_and_kid(real, fake, ddof=1, groups=groups)
  same(found.frechet, single["frechet"])
  same(distances.kid_with_interval(real, fake, ids if with_ids else None), single["kid"])
  same(found.infinity, extrapolation.frechet_infinity(real, fake, ddof=1, groups=groups))
  alone = floor.real_floor(real, ddof=1, ids=ids[0] if with_ids else None)
  assert (found.floor.n_first, found.floor.n_second) == (alone.n_first, alone.n_second)
  same(found.floor.frechet, alone.frechet)
  same(found.floor.infinity, alone.infinity)
  assert found.floor.kid is None
  assert alone.kid is not None


@pytest.mark.filterwarnings("ignore:N=")
def test_small_sets_have_no_extrapolation():
  real, fake = sets()
  found = distances.frechet_distances(real[:9], fake[:4])
  assert found.infinity is None
  assert found.floor.infinity is None
  assert found.frechet.value > 0


def test_progress_counts_groups():
  seen = []
  distances.frechet_distances(*sets(), progress=seen.append)
  assert seen == list(range(1, 21))
