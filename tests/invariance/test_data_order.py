"""The stream of samples does not depend on how many read it, nor on interruptions."""

import dataclasses
import itertools

import clip_shards
import numpy as np
import pytest

from vidjax.data import loader

GLOBAL_BATCH = 4
SAMPLES = 24  # more than three epochs of seven clips


@pytest.fixture(scope="module")
def config(tmp_path_factory):
  clips = [clip_shards.make_clip(i, clip_shards.steady(2.5 + i / 4)) for i in range(7)]
  path = clip_shards.write_shards(tmp_path_factory.mktemp("clips"), clips, shards=3)
  return clip_shards.config(path)


def read(config, samples, start_sample=0, global_batch=GLOBAL_BATCH, **changes):
  """Rows (index, clip, start, caption tokens, pixels) of the next `samples` samples of one host."""
  num_workers = changes.pop("num_workers", 0)
  with loader.make_loader(
    dataclasses.replace(config, num_workers=num_workers),
    global_batch=global_batch,
    start_sample=start_sample,
    seed=5,
    tokenizer=clip_shards.FakeTokenizer(),
    **changes,
  ) as batches:
    rows = []
    for batch in itertools.islice(batches, samples // global_batch):
      columns = (
        batch["sample_index_B"].tolist(),
        batch["clip_ids"],
        batch["window_start_s"],
        batch["tokens_BL"].tolist(),
        [pixels.tobytes() for pixels in batch["video_BTHWC"]],
      )
      rows.append(list(zip(*columns, strict=True)))
    assert batches.position == start_sample + samples
  return rows


@pytest.fixture(scope="module")
def stream(config):
  """One host, no processes, no interruption."""
  return [row for batch in read(config, SAMPLES) for row in batch]


def test_the_stream_is_worth_comparing(stream):
  assert [row[0] for row in stream] == list(range(SAMPLES))
  assert len({row[2] for row in stream}) == SAMPLES
  epochs = [[row[1] for row in stream[e * 7 : e * 7 + 7]] for e in range(3)]
  assert all(len(set(epoch)) == 7 for epoch in epochs)
  assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


@pytest.mark.parametrize("num_workers", [1, 2, 4])
def test_worker_count(config, stream, num_workers):
  batches = read(config, SAMPLES, num_workers=num_workers)
  assert [row for batch in batches for row in batch] == stream


@pytest.mark.parametrize("hosts", [2, 4])
def test_host_count(config, stream, hosts):
  of_hosts = [read(config, SAMPLES, process_index=p, process_count=hosts) for p in range(hosts)]
  assert all(len(batch) == GLOBAL_BATCH // hosts for host in of_hosts for batch in host)
  joined = [row for step in zip(*of_hosts, strict=True) for batch in step for row in batch]
  assert joined == stream


def test_hosts_agree_on_the_hash_of_the_global_batch(config):
  def first_hash(**changes):
    with loader.make_loader(
      config, global_batch=4, start_sample=8, seed=5, tokenizer=None, **changes
    ) as batches:
      return loader.ids_hash(next(batches))

  hashes = [first_hash(process_index=p, process_count=4) for p in range(4)]
  assert set(hashes) == {first_hash()}


@pytest.mark.parametrize("interrupted_after", [4, 12, 20])
def test_resume_within_an_epoch(config, stream, interrupted_after):
  before = read(config, interrupted_after)
  after = read(config, SAMPLES - interrupted_after, start_sample=interrupted_after)
  assert [row for batch in before + after for row in batch] == stream


def test_resume_with_another_batch_size_and_other_workers(config, stream):
  before = read(config, 8)
  middle = read(config, 6, start_sample=8, global_batch=3, num_workers=2)
  after = read(config, 10, start_sample=14, global_batch=5)
  assert [row for batch in before + middle + after for row in batch] == stream


def test_resume_anywhere_with_other_hosts_and_workers(config, stream):
  """Stopped after a random number of steps, gone on with on two hosts that have processes."""
  steps = int(np.random.default_rng().integers(1, SAMPLES // GLOBAL_BATCH))
  before = read(config, steps * GLOBAL_BATCH)
  left = SAMPLES - steps * GLOBAL_BATCH
  of_hosts = [
    read(
      config,
      left,
      start_sample=steps * GLOBAL_BATCH,
      process_index=p,
      process_count=2,
      num_workers=2 - p,
    )
    for p in range(2)
  ]
  after = [row for step in zip(*of_hosts, strict=True) for batch in step for row in batch]
  assert [row for batch in before for row in batch] + after == stream, f"{steps=}"


def test_other_seed_other_stream(config, stream):
  with loader.make_loader(
    config, global_batch=SAMPLES, start_sample=0, seed=6, tokenizer=None
  ) as batches:
    batch = next(batches)
  assert batch["clip_ids"] != [row[1] for row in stream]
  assert not np.isin(batch["window_start_s"], [row[2] for row in stream]).any()
