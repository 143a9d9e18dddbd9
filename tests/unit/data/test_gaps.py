"""Stretches that are left out: what comes after them is what an undisturbed stream has there."""

import clip_shards
import numpy as np

from vidjax.data import loader
from vidjax.data.gaps import Gap, stream_index


def test_gaps_add_up():
  gaps = (Gap(at=8, samples=4), Gap(at=8, samples=12), Gap(at=20, samples=100))
  assert [stream_index(n, gaps) for n in (0, 7, 8, 19, 20)] == [0, 7, 24, 35, 136]
  assert stream_index(9, ()) == 9


def indices(dataset, count, **values):
  arguments = {"global_batch": 4, "start_sample": 0, "seed": 1, "tokenizer": None} | values
  with loader.make_loader(clip_shards.config(dataset), **arguments) as batches:
    return [(next(batches)) for _ in range(count)]


def test_batches_after_a_gap(dataset):
  whole = indices(dataset, 6)
  gapped = indices(dataset, 4, gaps=(Gap(at=8, samples=8),))
  for batch, expected in zip(gapped, [*whole[:2], *whole[4:]], strict=True):
    np.testing.assert_array_equal(batch["sample_index_B"], expected["sample_index_B"])
    np.testing.assert_array_equal(batch["video_BTHWC"], expected["video_BTHWC"])
    assert batch["sample_ids_hash"] == expected["sample_ids_hash"]
  (resumed,) = indices(dataset, 1, start_sample=12, gaps=(Gap(at=8, samples=8),))
  assert resumed["sample_ids_hash"] == whole[5]["sample_ids_hash"]
  halves = [
    indices(dataset, 3, gaps=(Gap(at=8, samples=8),), process_index=i, process_count=2)[2]
    for i in (0, 1)
  ]
  joined = np.concatenate([half["sample_index_B"] for half in halves])
  np.testing.assert_array_equal(np.sort(joined), whole[4]["sample_index_B"])
