import dataclasses
import gc
import glob
import multiprocessing
import pickle

import clip_shards
import numpy as np

from vidjax.data import loader, sharing


def large(value, rows=3):
  return np.full((rows, 200, 200), value, np.uint8)


def pair(workers=1):
  receiver = sharing.Receiver(workers)
  return pickle.loads(pickle.dumps(sharing.Sender(receiver.token))), receiver


def segments(receiver):
  return sorted(glob.glob(f"/dev/shm/{receiver.token}*"))


def test_arrays_arrive_and_small_things_travel_as_they_are():
  sender, receiver = pair()
  batch = {"video": large(7), "fps": np.ones(3), "ids": ["a"], "images": {"video": large(9)}}
  sent = pickle.loads(pickle.dumps(sender(batch)))
  assert len(pickle.dumps(sent)) < 2000
  got = receiver(sent)
  np.testing.assert_array_equal(got["video"], large(7))
  np.testing.assert_array_equal(got["images"]["video"], large(9))
  assert (got["ids"], got["fps"].tolist()) == (["a"], [1, 1, 1])
  receiver.close()


def test_memory_is_used_again_when_nobody_has_the_array_any_more():
  sender, receiver = pair()
  for value in range(20):
    got = receiver(sender({"x": large(value)}))["x"]
    assert (got == value).all()
    del got
  assert len(segments(receiver)) == 1
  receiver.close()
  assert not segments(receiver)


def test_what_somebody_has_is_not_written_over():
  sender, receiver = pair()
  kept = [receiver(sender({"x": large(value)}))["x"][1:, ::2] for value in range(5)]  # views
  assert len(segments(receiver)) == 5
  for value, view in enumerate(kept):
    assert (view == value).all()
  receiver.close()
  assert not segments(receiver)
  gc.collect()
  for value, view in enumerate(kept):
    assert (view == value).all()  # also after the end


def test_a_larger_array_gets_a_larger_segment():
  sender, receiver = pair()
  for rows in (2, 3, 2, 3):
    got = receiver(sender({"x": large(1, rows)}))["x"]
    assert got.shape[0] == rows
    del got
  assert len(segments(receiver)) == 2
  receiver.close()


def test_the_loader_leaves_nothing_behind(dataset, monkeypatch):
  tokens = []  # of this loader: others read on this machine, too

  class Noted(sharing.Receiver):
    def __init__(self, num_workers: int):
      super().__init__(num_workers)
      tokens.append(self.token)

  def left() -> list[str]:
    return [path for token in tokens for path in glob.glob(f"/dev/shm/{token}*")]

  monkeypatch.setattr(sharing, "Receiver", Noted)
  config = dataclasses.replace(clip_shards.config(dataset), num_workers=2, height=128, width=128)
  with loader.make_loader(
    config, global_batch=4, start_sample=0, seed=0, tokenizer=None
  ) as batches:
    kept = [next(batches) for _ in range(3)]
    assert len(left()) > 2
    for worker in multiprocessing.active_children():
      worker.kill()
    kept += [next(batches) for _ in range(6)]
  assert len(tokens) > 1
  assert not left()
  plain = dataclasses.replace(config, num_workers=0)
  with loader.make_loader(plain, global_batch=4, start_sample=0, seed=0, tokenizer=None) as batches:
    for batch in kept:
      np.testing.assert_array_equal(batch["video_BTHWC"], next(batches)["video_BTHWC"])
