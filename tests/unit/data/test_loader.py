import dataclasses
import itertools
import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys
import time

import clip_shards
import numpy as np
import object_store
import pytest

from vidjax import errors, storage
from vidjax.data import loader


def start(config, **changes):
  settings = {key: changes.pop(key) for key in ("num_workers", "timeout_s") if key in changes}
  config = dataclasses.replace(config, **settings)
  values = {"global_batch": 4, "start_sample": 0, "seed": 1}
  values["tokenizer"] = clip_shards.FakeTokenizer()
  return loader.make_loader(config, **(values | changes))


def test_a_batch_holds_what_is_promised(dataset):
  with start(clip_shards.config(dataset), start_sample=7) as batches:
    batch = next(batches)
    assert batches.position == 11
  assert batch["video_BTHWC"].shape == (4, 4, 64, 64, 3)
  assert {k: v.dtype.name for k, v in batch.items() if isinstance(v, np.ndarray)} == {
    "video_BTHWC": "uint8",
    "tokens_BL": "int32",
    "fps_B": "float32",
    "motion_score_B": "float32",
    "sample_index_B": "uint32",
  }
  np.testing.assert_array_equal(batch["sample_index_B"], [7, 8, 9, 10])
  np.testing.assert_array_equal(batch["fps_B"], [2.0] * 4)
  tokenizer = clip_shards.FakeTokenizer()
  for row in range(4):
    clip, _ = clip_shards.read_numbers(batch["video_BTHWC"][row])
    assert batch["clip_ids"][row] == f"clip{clip:02d}"
    assert batch["captions"][row] == f"clip number {clip}"
    np.testing.assert_array_equal(batch["tokens_BL"][row], tokenizer(f"clip number {clip}"))
    assert batch["motion_score_B"][row] == clip / 2
    assert 0 <= batch["window_start_s"][row] <= 3.3


def test_no_tokenizer_no_tokens(dataset):
  with start(clip_shards.config(dataset), tokenizer=None) as batches:
    assert "tokens_BL" not in next(batches)


def test_batch_that_does_not_divide_over_hosts_is_refused(dataset):
  with pytest.raises(ValueError, match="batch_size=4 does not divide by 3 hosts"):
    start(clip_shards.config(dataset), process_count=3)


def test_closed_loader_says_so(dataset):
  batches = start(clip_shards.config(dataset))
  batches.close()
  batches.close()
  with pytest.raises(ValueError, match="closed"):
    next(batches)


def test_one_bad_clip_is_borne_and_remembered(tmp_path, records):
  broken = dataclasses.replace(records[3], video=b"\0" * 1000)
  path = clip_shards.write_shards(tmp_path, [*records[:3], broken, *records[4:]])
  with start(clip_shards.config(path)) as batches:
    shown = [clip for _ in range(6) for clip in next(batches)["clip_ids"]]
    ((name, error),) = batches.rejected.items()
  assert len(shown) == 24
  assert "clip03" not in shown
  assert name.startswith("clip03 (clips-train")
  assert "InvalidDataError" in error


def test_too_many_bad_clips_end_the_run_with_their_names(tmp_path, records):
  broken = [dataclasses.replace(record, video=b"\0" * 1000) for record in records[2:4]]
  path = clip_shards.write_shards(tmp_path, [*records[:2], *broken, *records[4:]])
  with start(clip_shards.config(path)) as batches:
    with pytest.raises(errors.DataError, match=r"2 clips cannot be read, 1 would be borne") as e:
      list(itertools.islice(batches, 4))
  assert "clip02" in str(e.value)
  assert "clip03" in str(e.value)
  assert e.value.exit_code == 3


def test_shards_in_an_object_store_give_the_same_stream(dataset, tmp_path, monkeypatch):
  monkeypatch.setenv("VIDJAX_CACHE", str(tmp_path / "cache"))
  local = clip_shards.config(dataset)
  with start(local) as batches:
    expected = [next(batches) for _ in range(2)]
  with object_store.serve() as store, store.environment():
    storage.publish(dataset, "gs://bucket/clips")
    remote = clip_shards.config("gs://bucket/clips")
    assert loader.data_fingerprint(remote) == loader.data_fingerprint(local)
    with start(remote, num_workers=1) as batches:
      actual = [next(batches) for _ in range(2)]
  for one, other in zip(expected, actual, strict=True):
    np.testing.assert_array_equal(one["video_BTHWC"], other["video_BTHWC"])
    assert one["clip_ids"] == other["clip_ids"]


def test_fixed_windows_are_the_same_each_time(dataset):
  config = clip_shards.config(dataset, flip=True)
  one, other = list(loader.fixed_windows(config, 8)), list(loader.fixed_windows(config, 8))
  assert [(s.clip_id, s.start_s) for s in one] == [(s.clip_id, s.start_s) for s in other]
  for sample in one:
    clip_shards.read_numbers(sample.frames)  # not mirrored: one clip number in all frames
  assert {s.clip_id for s in one} == {f"clip{i:02d}" for i in range(6)}


def test_no_fixed_windows_is_an_error(dataset):
  with pytest.raises(ValueError, match="must be positive, got 0"):
    loader.fixed_windows(clip_shards.config(dataset), 0)


def test_the_hash_tells_orders_apart(dataset):
  config = clip_shards.config(dataset)
  hashes = []
  for seed, first in ((1, 0), (1, 0), (2, 0), (1, 4)):
    with start(config, seed=seed, start_sample=first) as batches:
      hashes.append(loader.ids_hash(next(batches)))
  assert hashes[0] == hashes[1]
  assert len(set(hashes)) == 3


def test_a_killed_worker_is_replaced_and_the_stream_goes_on(dataset):
  config = clip_shards.config(dataset)
  with start(config) as batches:
    expected = [next(batches)["window_start_s"] for _ in range(8)]
  with start(config, num_workers=1) as batches:
    actual = [next(batches)["window_start_s"]]
    (worker,) = multiprocessing.active_children()
    worker.terminate()  # SIGTERM: a scheduler's notice to all processes, not for workers
    actual.append(next(batches)["window_start_s"])
    assert worker.is_alive()
    worker.kill()
    actual += [next(batches)["window_start_s"] for _ in range(6)]
  assert actual == expected
  assert not multiprocessing.active_children()


def test_a_hanging_worker_is_noticed_and_replaced(dataset):
  config = clip_shards.config(dataset)
  with start(config) as batches:
    expected = [next(batches)["window_start_s"] for _ in range(8)]
  with start(config, num_workers=1, timeout_s=6.0) as batches:
    actual = [next(batches)["window_start_s"]]
    (worker,) = multiprocessing.active_children()
    os.kill(worker.pid, signal.SIGSTOP)
    actual += [next(batches)["window_start_s"] for _ in range(7)]
    assert not worker.is_alive()
  assert actual == expected


def test_a_worker_error_keeps_its_kind(tmp_path, records):
  broken = [dataclasses.replace(record, video=b"") for record in records]
  config = clip_shards.config(clip_shards.write_shards(tmp_path, broken))
  with start(config, num_workers=1) as batches:
    with pytest.raises(errors.DataError, match="cannot read sample 0, nor any of 8 substitutes"):
      next(batches)


_TRAINER = """
import multiprocessing, sys, time
sys.path.insert(0, sys.argv[2])
import clip_shards
from vidjax.data import loader
if __name__ == "__main__":
  config = clip_shards.config(sys.argv[1], num_workers=2)
  batches = loader.make_loader(config, global_batch=2, start_sample=0, seed=0, tokenizer=None)
  next(batches), next(batches)
  print(*(process.pid for process in multiprocessing.active_children()), flush=True)
  time.sleep(60)
"""


def is_alive(pid):
  stat = pathlib.Path(f"/proc/{pid}/stat")
  return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_workers_end_with_a_killed_trainer(dataset, repo_root):
  command = [sys.executable, "-c", _TRAINER, str(dataset), str(repo_root / "tests")]
  with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as trainer:
    pids = trainer.stdout.readline().split()
    assert len(pids) == 2
    assert all(is_alive(pid) for pid in pids)
    os.kill(trainer.pid, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while any(is_alive(pid) for pid in pids):
      assert time.monotonic() < deadline, "decoding processes outlived their trainer"
      time.sleep(0.1)
