"""Features in parts: whole or not at all, and those of other clips are not taken."""

import numpy as np
import pytest

from vidjax.errors import DataError
from vidjax.evaluation import store as stores
from vidjax.evaluation.store import PART, Features, Store

IDS = tuple(f"v{i:03d}" for i in range(2 * PART + 5))


def part_of(store, part, without=()):
  ids = tuple(id_ for id_ in store.ids_of(part) if id_ not in without)
  values = np.array([[float(id_[1:]), part] for id_ in ids], np.float32).reshape(len(ids), 2)
  return Features(ids, {"net:tap": values})


@pytest.fixture
def store(tmp_path):
  return Store(tmp_path, IDS)


def test_parts_of_several_processes_are_one_set(store):
  assert [store.missing(process, 2) for process in range(2)] == [[0, 2], [1]]
  for part in (2, 0, 1):
    store.write(part, part_of(store, part, without=("v003",)))
  assert store.missing() == []
  found = store.read()
  assert found.ids == tuple(id_ for id_ in IDS if id_ != "v003")
  np.testing.assert_array_equal(found.arrays["net:tap"][:, 0], [float(i[1:]) for i in found.ids])
  assert found.of([1, 0]).ids == ("v001", "v000")


def test_a_side_without_a_usable_clip_is_empty(tmp_path):
  store = Store(tmp_path, ("a", "b"))
  store.write(0, Features((), {}))
  assert store.missing() == []
  assert store.read() == Features((), {})


def test_a_part_that_is_missing_is_named(store):
  store.write(0, part_of(store, 0))
  with pytest.raises(DataError, match=r"part-00001\.npz is missing: run the same command"):
    store.read()


@pytest.mark.parametrize("damage", ["cut", "flip", "other"])
def test_damaged_parts_are_made_again(store, tmp_path, damage):
  for part in range(3):
    store.write(part, part_of(store, part))
  file = tmp_path / "part-00001.npz"
  content = bytearray(file.read_bytes())
  if damage == "cut":
    file.write_bytes(content[: len(content) // 2])
  elif damage == "flip":
    place = content.find(np.float32(70).tobytes())
    content[place + 3] ^= 1
    file.write_bytes(content)
  else:
    Store(tmp_path, tuple(reversed(IDS))).write(1, part_of(Store(tmp_path, IDS[::-1]), 1))
  assert store.missing() == [1]
  with pytest.raises(DataError, match=r"part-00001\.npz"):
    store.read()


def test_features_that_are_not_finite_are_refused_by_id(store):
  bad = part_of(store, 0)
  bad.arrays["net:tap"][5, 1] = np.nan
  with pytest.raises(ValueError, match=r"net:tap: the features of 'v005' hold NaN"):
    store.write(0, bad)
  assert store.missing() == [0, 1, 2]


def test_ids_are_text_whatever_they_look_like(tmp_path):
  store = Store(tmp_path, ("1", "2e3", "ü/x"))
  store.write(0, Features(("1", "ü/x"), {"n:t": np.zeros((2, 1), np.float32)}))
  assert store.read().ids == ("1", "ü/x")
  assert stores.PART > 3
