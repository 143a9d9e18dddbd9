"""Repeats are found by hash and by embedding, and the best picture of them stays."""

import numpy as np
import pytest

from data_pipelines import config, duplicates


def _candidate(name, bits, *, source=None, side=360, seconds=8.0):
  return duplicates.Candidate(name, source or name, (-side, -seconds, name, 0), hash=f"{bits:048x}")


def test_of_near_duplicates_the_largest_stays():
  original = (1 << 190) - 1
  small = _candidate("small", original ^ 0b111, side=240)
  large = _candidate("large", original, side=720)
  other = _candidate("other", original >> 60)
  for group in ([small, large, other], [other, large, small]):
    assert list(duplicates.by_hash(group, 4)) == ["small"]
    assert list(duplicates.by_hash(group, 2)) == []


def test_clips_of_one_source_are_no_duplicates():
  group = [_candidate("a", 1, source="v"), _candidate("b", 1, source="v")]
  assert list(duplicates.by_hash(group, 4)) == []


def _pair_by_pair(group, max_distance):
  """What the search has to find, said in the simplest way."""
  ranked = sorted(group, key=lambda c: c.rank)
  for i, later in enumerate(ranked):
    if any(
      better.source != later.source
      and (int(better.hash, 16) ^ int(later.hash, 16)).bit_count() <= max_distance
      for better in ranked[:i]
    ):
      yield later.clip_id


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("blocks", [(64, 4096), (1, 1), (7, 5)])
def test_blocks_find_what_a_search_pair_by_pair_finds(seed, blocks, monkeypatch):
  """On random sets of close hashes, flat ones among them, of few sources and with equal ranks."""
  monkeypatch.setattr(duplicates, "_HASHES_AT_ONCE", blocks)
  rng = np.random.default_rng(seed)
  count = int(rng.integers(100, 300))
  originals = [int.from_bytes(rng.bytes(24)) for _ in range(8)]
  originals += [0, (1 << 192) - 1, originals[0] >> 96]
  group = []
  for i in range(count):
    bits = originals[int(rng.integers(len(originals)))]
    for bit in rng.integers(0, 192, int(rng.integers(0, 9))):
      bits ^= 1 << int(bit)
    source, side = f"v{rng.integers(40)}", int(rng.choice([240, 360, 720]))
    group.append(_candidate(f"c{i}", bits, source=source, side=side))
  for max_distance in (-1, 0, 3, 10, 11):
    expected = list(_pair_by_pair(group, max_distance))
    assert list(duplicates.by_hash(group, max_distance)) == expected
  assert 0 < len(expected) < count


def test_the_smallest_groups():
  assert list(duplicates.by_hash([], 10)) == []
  assert list(duplicates.by_hash([_candidate("a", 5)], 10)) == []


def test_near_hashes_share_a_band():
  value = int("9" * 48, 16)
  for distance in range(config.MAX_HASH_DISTANCE + 1):
    spread = sum(1 << (bit * 192 // max(distance, 1)) for bit in range(distance))
    assert set(duplicates.bands(f"{value:048x}")) & set(duplicates.bands(f"{value ^ spread:048x}"))
  assert list(duplicates.bands("")) == []


def _near(rng, center_X, distance):
  """A direction at a cosine of 1 - `distance` to another one."""
  off_X = rng.normal(size=center_X.shape)
  off_X -= (off_X @ center_X) * center_X
  off_X /= np.linalg.norm(off_X)
  cosine = 1 - distance
  return (cosine * center_X + (1 - cosine**2) ** 0.5 * off_X).astype(np.float32)


def _embedded(name, embedding_X, *, source=None, side=360):
  return duplicates.Candidate(
    name, source or name, (-side, -8.0, name, 0), embedding=embedding_X.astype(np.float32)
  )


def _direction(rng, width=32):
  x = rng.normal(size=width)
  return x / np.linalg.norm(x)


def test_near_embeddings_are_repeats():
  rng = np.random.default_rng(1)
  center_X = _direction(rng)
  group = [
    _embedded("small", _near(rng, center_X, 0.004), side=240),
    _embedded("large", center_X, side=720),
    _embedded("similar", _near(rng, center_X, 0.05)),
    _embedded("same source", _near(rng, center_X, 0.004), source="large"),
    _embedded("other", _direction(rng)),
  ]
  for order in (group, group[::-1]):
    assert list(duplicates.by_embedding(order, 0.01)) == ["small"]
  assert set(duplicates.by_embedding(group, 0.1)) == {"small", "similar"}


@pytest.mark.parametrize("count", [3, 700, 3000])
def test_repeats_meet_in_a_cluster(count):
  rng = np.random.default_rng(count)
  originals = [_embedded(f"a{i}", _direction(rng)) for i in range(count)]
  repeats = [
    _embedded(f"b{i}", _near(rng, a.embedding.astype(np.float64), 0.005), side=240)
    for i, a in enumerate(originals[: count // 3])
  ]
  everything = originals + repeats
  ordered = sorted(everything, key=lambda c: duplicates.sample_order(c.clip_id))
  centroids_KX = duplicates.centroids(ordered[: duplicates.SAMPLES], len(everything))
  assert len(centroids_KX) == duplicates.num_clusters(len(everything))
  groups = {}
  for one in everything:
    for cluster in duplicates.clusters(one.embedding, centroids_KX):
      groups.setdefault(cluster, []).append(one)
  found = {name for group in groups.values() for name in duplicates.by_embedding(group, 0.01)}
  assert found <= {c.clip_id for c in repeats}
  assert len(found) >= 0.95 * len(repeats)  # some lie where three clusters meet


def test_nothing_to_cluster():
  assert duplicates.centroids([], 0).shape == (0, 0)
