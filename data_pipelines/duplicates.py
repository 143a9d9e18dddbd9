"""Near-duplicates: by perceptual hash, and by CLIP embedding where there is one.

Of clips that repeat one another the one with the largest picture stays. Clips of one source are
never each other's duplicates: a fixed camera looks the same all day.

Pairs are not compared all with all. Hashes meet in bands (locality-sensitive hashing); embeddings
in clusters, as SemDeDup (arXiv 2303.09540, sec. 3) does it, each in its two nearest ones, since
near-duplicates may lie on both sides of a border.

Legend: N clips, R C some of them (rows and columns), W words of 64 bits, K clusters, X embedding.
"""

from collections.abc import Iterable, Iterator, Sequence
import dataclasses
import hashlib
import math

import numpy as np
from scipy.cluster import vq

from data_pipelines import tables

HASH_BITS = 192
# Two hashes that differ in fewer bits than there are bands agree in one band at least.
_BANDS = 12
_BAND_DIGITS = HASH_BITS // _BANDS // 4

# Some bands are hot: half of the hash is zero in a flat picture. All pairs of such a band are
# compared in blocks that stay in the processor's cache.
_HASHES_AT_ONCE = (64, 4096)

_CLIPS_PER_CLUSTER = 256
_MAX_CLUSTERS = 1024
_SAMPLES_PER_CLUSTER = 32
_NEAREST = 2
_ROWS_AT_ONCE = 4096


@dataclasses.dataclass(frozen=True)
class Candidate:
  """What the search needs of a clip.

  Attributes:
    clip_id: Of the clip.
    source: Its source.
    rank: Orders by quality; the lowest stays.
    hash: Perceptual hash in hex; "" for none.
    embedding: (X,) float32 of unit length; empty for none.
  """

  clip_id: str
  source: str
  rank: tuple[int, float, str, int]
  hash: str = ""
  embedding: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.float32))


def candidate(
  clip: tables.Clip, hash_hex: str = "", embedding_3X: np.ndarray | None = None
) -> Candidate:
  """A clip as a candidate: larger pictures first, then longer clips, then by name.

  Args:
    clip: The clip.
    hash_hex: Its perceptual hash.
    embedding_3X: Those of its three frames; their direction counts.
  """
  rank = (-min(clip.width, clip.height), -round(clip.seconds, 3), clip.source, clip.start_frame)
  if embedding_3X is None:
    return Candidate(clip.clip_id, clip.source, rank, hash_hex)
  mean_X = embedding_3X.astype(np.float32).mean(0)
  mean_X /= max(float(np.linalg.norm(mean_X)), 1e-12)
  return Candidate(clip.clip_id, clip.source, rank, hash_hex, mean_X)


def bands(hash_hex: str) -> Iterator[tuple[int, str]]:
  """Keys under which a clip meets its possible duplicates by hash."""
  for i in range(_BANDS if hash_hex else 0):
    yield i, hash_hex[i * _BAND_DIGITS : (i + 1) * _BAND_DIGITS]


def by_hash(group: Iterable[Candidate], max_distance: int) -> Iterator[str]:
  """Ids of the clips of a group that repeat a better one.

  Args:
    group: Clips that share a band.
    max_distance: Largest number of differing bits.
  """
  ranked = sorted(group, key=lambda c: c.rank)
  sources_N = np.unique([c.source for c in ranked], return_inverse=True)[1]
  words_NW = np.frombuffer(bytes.fromhex("".join(c.hash for c in ranked)), np.uint64)
  words_NW = words_NW.reshape(len(ranked), HASH_BITS // 64)
  for start in range(0, len(ranked), _HASHES_AT_ONCE[0]):
    left_R = np.arange(start, min(start + _HASHES_AT_ONCE[0], len(ranked)))
    found = []
    for first in range(0, left_R[-1], _HASHES_AT_ONCE[1]):  # a better one has a lower number
      better_C = np.arange(first, min(first + _HASHES_AT_ONCE[1], left_R[-1]))
      near_RC = _distances(words_NW[left_R], words_NW[better_C]) <= max_distance
      near_RC &= sources_N[left_R, None] != sources_N[None, better_C]
      near_RC &= better_C[None] < left_R[:, None]
      repeats_R = near_RC.any(1)
      found += left_R[repeats_R].tolist()
      left_R = left_R[~repeats_R]
      if not len(left_R):
        break
    for number in sorted(found):
      yield ranked[number].clip_id


def _distances(some_RW: np.ndarray, others_CW: np.ndarray) -> np.ndarray:
  """Numbers of differing bits, (R, C) uint8."""
  total_RC = np.zeros((len(some_RW), len(others_CW)), np.uint8)
  for some_R, others_C in zip(some_RW.T, others_CW.T, strict=True):
    total_RC += np.bitwise_count(some_R[:, None] ^ others_C[None])
  return total_RC


def sample_order(clip_id: str) -> str:
  """Hash by which clips are chosen to find clusters: the smallest first."""
  return hashlib.sha256(f"cluster {clip_id}".encode()).hexdigest()


def num_clusters(num_clips: int) -> int:
  """K for a number of clips."""
  return max(1, min(_MAX_CLUSTERS, math.ceil(num_clips / _CLIPS_PER_CLUSTER)))


SAMPLES = _MAX_CLUSTERS * _SAMPLES_PER_CLUSTER


def centroids(sample: Sequence[Candidate], num_clips: int) -> np.ndarray:
  """Middles of clusters, (K, X) float32, by k-means on a sample in `sample_order`.

  Args:
    sample: At most `SAMPLES` clips, in that order; as many are used as the clusters need.
    num_clips: Of how many clips in all.
  """
  count = min(num_clusters(num_clips), len(sample))
  if count == 0:
    return np.zeros((0, 0), np.float32)
  points_NX = np.stack([c.embedding for c in sample[: count * _SAMPLES_PER_CLUSTER]])
  if count == 1:
    return points_NX.mean(0, keepdims=True)
  found_KX, _ = vq.kmeans2(points_NX, points_NX[:count], iter=10, minit="matrix", missing="warn")
  return found_KX.astype(np.float32)


def clusters(embedding_X: np.ndarray, centroids_KX: np.ndarray) -> list[int]:
  """Numbers of the clusters in which a clip meets its possible duplicates."""
  distances_K = np.square(centroids_KX - embedding_X).sum(-1)
  return np.argsort(distances_K, kind="stable")[:_NEAREST].tolist()


def by_embedding(group: Iterable[Candidate], min_distance: float) -> Iterator[str]:
  """Ids of the clips of a cluster that repeat a better one.

  Args:
    group: Clips that share a cluster.
    min_distance: Clips are repeats whose cosine is above 1 - `min_distance`.
  """
  ranked = sorted(group, key=lambda c: c.rank)
  embeddings_NX = np.stack([c.embedding for c in ranked])
  sources_N = np.unique([c.source for c in ranked], return_inverse=True)[1]
  for start in range(0, len(ranked), _ROWS_AT_ONCE):
    rows = slice(start, start + _ROWS_AT_ONCE)
    near_RN = embeddings_NX[rows] @ embeddings_NX.T > 1 - min_distance
    near_RN &= sources_N[rows, None] != sources_N[None]
    for i, later in enumerate(ranked[rows], start):
      if near_RN[i - start, :i].any():
        yield later.clip_id
