import collections
import itertools

import pytest

from vidjax.data import order


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 16, 17, 100, 1000])
def test_permute_is_a_permutation(size):
  images = [order.permute(i, size, permutation=3) for i in range(size)]
  assert sorted(images) == list(range(size))


def test_permute_handles_hundreds_of_millions_without_a_table():
  size = 577_000_000
  images = {order.permute(i, size, permutation=3) for i in range(0, size, 5_000_000)}
  assert len(images) == 116
  assert max(images) < size
  assert max(images) > size * 0.9
  assert min(images) < size * 0.1


@pytest.mark.parametrize("size", [4, 5])
def test_permutations_reach_every_place_equally_often(size):
  keys = 4000
  for position in range(size):
    counts = collections.Counter(order.permute(position, size, key) for key in range(keys))
    expected = keys / size
    chi_square = sum((counts[i] - expected) ** 2 / expected for i in range(size))
    assert chi_square < 25  # 4 degrees of freedom: p < 1e-4


def test_neighbours_do_not_stay_neighbours():
  size = 512
  images = [order.permute(i, size, permutation=8) for i in range(size)]
  adjacent = sum(abs(a - b) == 1 for a, b in itertools.pairwise(images))
  assert adjacent < 10  # 2 are expected


def test_an_epoch_shows_every_clip_once_and_the_next_one_in_another_order():
  clips = 50
  epochs = [[order.clip_at(e * clips + i, clips, seed=7) for i in range(clips)] for e in range(3)]
  assert all(sorted(epoch) == list(range(clips)) for epoch in epochs)
  assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


def test_seeds_do_not_share_epochs():
  clips = 50

  def epoch(seed, number):
    return [order.clip_at(number * clips + i, clips, seed) for i in range(clips)]

  assert epoch(0, 1) != epoch(1, 0)
  assert epoch(0, 0) != epoch(1, 0)


def test_substitutes_differ_between_attempts_and_stay_in_range():
  drawn = [order.clip_at(5, 1000, seed=0, attempt=a) for a in range(1, 20)]
  assert len(set(drawn)) > 15
  assert all(0 <= clip < 1000 for clip in drawn)


def test_uniform_covers_the_interval_and_draws_are_independent():
  numbers = [order.uniform(0, i, order.Draw.WINDOW) for i in range(4000)]
  assert all(0 <= x < 1 for x in numbers)
  assert sum(numbers) / 4000 == pytest.approx(0.5, abs=0.02)
  others = [order.uniform(0, i, order.Draw.FLIP) for i in range(4000)]
  product = sum((x - 0.5) * (y - 0.5) for x, y in zip(numbers, others, strict=True)) / 4000
  assert abs(product) < 0.006  # 1/12 if they were equal; 4.5 standard errors


def test_the_order_never_changes():
  # Runs that are under way count on these numbers.
  assert [order.clip_at(i, 10, seed=1) for i in range(12)] == GOLDEN_CLIPS
  assert order.clip_at(3, 10, seed=1, attempt=1) == GOLDEN_SUBSTITUTE
  assert order.uniform(1, 2, order.Draw.WINDOW) == GOLDEN_UNIFORM


GOLDEN_CLIPS = [8, 9, 3, 2, 4, 6, 5, 7, 1, 0, 0, 1]
GOLDEN_SUBSTITUTE = 4
GOLDEN_UNIFORM = 0.9230679990763786


@pytest.mark.parametrize("hosts", [1, 2, 4])
def test_host_rows_concatenate_to_the_batch(hosts):
  rows = [row for p in range(hosts) for row in order.host_rows(8, p, hosts)]
  assert rows == list(range(8))


@pytest.mark.parametrize("batch", [0, -4, 6])
def test_host_rows_refuse_what_does_not_divide(batch):
  with pytest.raises(ValueError, match=r"batch_size=.* 4 hosts: set .* multiple of 4"):
    order.host_rows(batch, 0, 4)
