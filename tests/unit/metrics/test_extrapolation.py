"""The extrapolated Fréchet distance and the floor, against distances that are known exactly."""

import math

import numpy as np
import pytest

from tests import feature_sets
from vidjax.metrics import extrapolation, floor, frechet_distance, intervals
from vidjax.metrics.groups import GroupStats, groups_of


def draw(rng, n, dims=20):
  """Sets whose laws are 4.0 apart: shifted by 0.2 in, and 1.4 times as wide along, each axis."""
  return rng.standard_normal((n, dims)), 1.4 * rng.standard_normal((n, dims)) + 0.2


TRUE = 20 * (0.2**2 + 0.4**2)


def test_value_is_free_of_the_bias():
  """48.95 at 2048 samples, 20.06 at infinitely many: the law is known, so the truth is."""
  real, fake = feature_sets.make("well_conditioned")
  g = np.random.Generator(np.random.PCG64(0))
  mix = g.standard_normal((400, 400)) / 20
  true = 400 * 0.1**2 + 0.2**2 * np.square(mix).sum()
  assert true == pytest.approx(20.06, abs=0.005)
  estimate = extrapolation.frechet_infinity(real, fake)
  assert estimate.value == pytest.approx(true, abs=1.5)  # four times the spread over draws
  assert estimate.low < true < estimate.high


def test_interval_has_the_width_of_the_spread_over_draws():
  rng = np.random.default_rng(0)
  runs = [extrapolation.frechet_infinity(*draw(rng, 300)) for _ in range(60)]
  values = np.array([run.value for run in runs])
  spread = values.std(ddof=1)
  assert values.mean() == pytest.approx(TRUE, abs=4 * spread / math.sqrt(60))
  claimed = np.mean([(run.high - run.value) / 1.96 for run in runs])
  assert 0.75 < claimed / spread < 1.4
  plain = [frechet_distance(*draw(rng, 300)) for _ in range(10)]
  assert np.mean(plain) > TRUE + 3 * spread  # what there was to remove


def test_points_are_those_of_plain_subsets():
  """The same value from features: 15 sizes, distances of the rows, a fit by another routine."""
  real, fake = draw(np.random.default_rng(1), 200)
  fake = fake[:160]
  order = np.random.default_rng(3).permutation(20)
  x, y, start = [], [], 0
  for size in range(6, 21):
    chosen = order[np.arange(start, start + size) % 20]
    rows = [part[np.isin(np.arange(len(part)) % 20, chosen)] for part in (real, fake)]
    x.append((200 / len(rows[0]) + 160 / len(rows[1])) / 2)
    y.append(frechet_distance(*rows, ddof=1))
    start += size
  expected = np.polynomial.Polynomial.fit(x, y, 1).convert().coef[0]
  ours = extrapolation.frechet_infinity(real, fake, ddof=1, seed=3)
  assert ours.value == pytest.approx(expected, rel=1e-7)
  assert ours.value != extrapolation.frechet_infinity(real, fake, ddof=1, seed=4).value


def test_clips_of_one_video_count_once():
  """Three equal clips of each video have the bias, and the truth, of one clip of each."""
  real, fake = draw(np.random.default_rng(2), 400)
  ids = [f"video{i}" for i in range(400)]
  one = extrapolation.frechet_infinity(real, fake, groups=(groups_of(ids), groups_of(ids)))
  labels = groups_of([name for name in ids for _ in range(3)])
  three = np.repeat(real, 3, axis=0), np.repeat(fake, 3, axis=0)
  assert extrapolation.frechet_infinity(*three, groups=(labels, labels)).value == pytest.approx(
    one.value, rel=1e-6
  )


def test_too_few_samples_are_refused():
  rng = np.random.default_rng(0)
  with pytest.raises(ValueError, match="N=60 real and 60 fake samples the smallest subset has 18,"
                     " but more than D=20 are needed there; use at least about 70"):  # fmt: skip
    extrapolation.frechet_infinity(*draw(rng, 60))
  assert math.isfinite(extrapolation.frechet_infinity(*draw(rng, 80)).value)
  labels = np.arange(200) % 9
  with pytest.raises(ValueError, match="from 9 groups: samples of at least 10 groups"):
    extrapolation.frechet_infinity(*draw(rng, 200), groups=(labels, labels))


def test_floor_is_the_distance_of_the_halves():
  real, _ = draw(np.random.default_rng(4), 400)
  found = floor.real_floor(real, ddof=1)
  first = np.arange(400) // 20 % 2 == 0
  assert (found.n_first, found.n_second) == (200, 200)
  halves = real[first], real[~first]
  assert found.frechet.value == pytest.approx(frechet_distance(*halves, ddof=1), rel=1e-10)
  assert found.infinity is not None
  assert found.kid is not None
  assert found.kid.value == pytest.approx(
    intervals.frechet_and_kid(*halves, ddof=1)["kid"].value, rel=1e-9, abs=1e-12
  )
  # Both halves follow one law: only the plain value is far from 0.
  assert found.frechet.low > 0.5
  assert found.infinity.low < 0 < found.infinity.high
  assert found.kid.low < 0 < found.kid.high


def test_floor_by_ids_has_no_video_in_both_halves():
  rng = np.random.default_rng(5)
  videos = rng.standard_normal((100, 6))
  real, ids = np.tile(videos, (4, 1)), [f"v{i % 100}" for i in range(400)]
  found = floor.real_floor(real, ids=ids)
  second = groups_of(ids, 40) % 2 == 1
  assert found.n_second == second.sum() != 200
  assert found.frechet.value == pytest.approx(
    frechet_distance(real[~second], real[second]), rel=1e-9
  )
  # Rows that count as independent: each video is twice in either half, nothing is between them.
  assert floor.real_floor(real).frechet.value < 1e-10 < found.frechet.low


def test_statistics_of_processes_give_the_same_floor():
  real, _ = draw(np.random.default_rng(6), 300)
  ids = [f"v{i}" for i in range(300)]
  cells = floor.half_groups(300, ids)
  parts = [GroupStats.of(real[i::3], cells[i::3], 40) for i in range(3)]
  merged = floor.floor_of_groups(parts[1] + parts[2] + parts[0], ddof=0)
  whole = floor.real_floor(real, ids=ids)
  assert merged.frechet.value == pytest.approx(whole.frechet.value, rel=1e-11)
  assert merged.infinity is not None
  assert whole.infinity is not None
  assert merged.infinity.high == pytest.approx(whole.infinity.high, rel=1e-5)


@pytest.mark.filterwarnings("ignore:N=")
def test_small_floors():
  real, _ = draw(np.random.default_rng(7), 9)
  found = floor.real_floor(real)
  assert (found.n_first, found.n_second, found.infinity) == (5, 4, None)
  with pytest.raises(ValueError, match="real features: N=3, this needs at least 4"):
    floor.real_floor(real[:3])
  with pytest.raises(ValueError, match=r"halves of \d and \d samples.*more than one video"):
    floor.real_floor(real, ids=["a"] * 9)
  with pytest.raises(ValueError, match="8 ids for 9 samples"):
    floor.real_floor(real, ids=["a"] * 8)
