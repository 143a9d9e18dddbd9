"""Every file of a step damaged in turn, single bits anywhere, full disks: never wrong values."""

import pathlib
import shutil
import subprocess

import bit_flips
import jax
import numpy as np
import pytest

from vidjax import storage
from vidjax.checkpoint import Checkpointer, LocalCopies, layout
from vidjax.errors import CheckpointError, NoSpaceError

# After a failed read, the library's other reads find their event loop closed and say so.
pytestmark = [
  pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
  pytest.mark.usefixtures("garbage_is_collected_here"),
]
STEPS = (1, 2)


def _abstract():
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), bit_flips.make_state(0)
  )


def _assert_is(step: int, state, position):
  assert position == {"samples": step}
  for x, y in zip(jax.tree.leaves(state), jax.tree.leaves(bit_flips.make_state(step)), strict=True):
    assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> pathlib.Path:
  """Two good steps; the state of each is its number's."""
  folder = tmp_path_factory.mktemp("saved") / "checkpoints"
  with Checkpointer(folder, keep=2) as saver:
    for step in STEPS:
      saver.save(step, bit_flips.make_state(step), {"samples": step})
  return folder


def _halve(file):
  file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


DAMAGES = {
  "truncated": _halve,
  "emptied": lambda file: file.write_bytes(b""),
  "deleted": lambda file: file.unlink(),
  "flipped": lambda file: bit_flips.flip(file, file.stat().st_size // 2, 0),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_each_file_of_the_newest_step(saved, tmp_path, damage):
  """The step before is taken, or the file does not matter; a step alone is refused."""
  files = sorted(p.relative_to(saved) for p in (saved / "2").rglob("*") if p.is_file())
  assert len(files) >= 10
  fallen_back = 0
  for file in files:
    work = tmp_path / "work"
    shutil.copytree(saved, work)
    DAMAGES[damage](work / file)
    restored = Checkpointer(work, keep=2).restore_latest(_abstract())
    assert restored is not None
    _assert_is(*restored)
    fallen_back += restored[0] == 1
    assert layout.complete_steps(storage.Path(work)) == ([1] if restored[0] == 1 else [1, 2])

    shutil.rmtree(work / "1")
    alone = Checkpointer(work, keep=2)
    for _ in range(2):  # also for the attempt after the one that has set it aside
      if restored[0] == 2:
        _assert_is(*alone.restore_latest(_abstract()))
      else:
        with pytest.raises(CheckpointError, match=r"are damaged: \[2\]"):
          alone.restore_latest(_abstract())
    shutil.rmtree(work)
  assert fallen_back >= 3


def test_single_bits_anywhere(tmp_path):
  seed = int(np.random.default_rng().integers(2**31))
  counts = bit_flips.flip_bits(seed, 60, tmp_path)
  assert counts.wrong == [], f"seed {seed}"
  assert counts.detected + counts.harmless == 60
  # How many matter depends on the copies that Orbax left and nobody reads; all of the record do.
  assert counts.detected >= 5, f"seed {seed}: {counts}"
  assert counts.by_file.get("record/metadata", [0, 0])[1] == 0, f"seed {seed}: {counts}"


@pytest.mark.slow
def test_single_bits_of_arrays_and_record_are_all_detected(tmp_path):
  counts = bit_flips.flip_bits(0, 500, tmp_path)
  assert counts.wrong == []
  assert counts.by_file["record/metadata"][0] > 0
  assert counts.by_file["record/metadata"][1] == 0, "each bit of the record matters"


def test_step_of_an_older_format(saved, tmp_path):
  work = tmp_path / "work"
  shutil.copytree(saved, work)
  record = work / "2" / "record" / "metadata"
  old = storage.read_json(record) | {"version": 2}
  del old["digest"]
  storage.write_json(record, old)
  with pytest.raises(CheckpointError, match="has format 2, this code reads format 3: go on with"):
    Checkpointer(work, keep=2).restore_latest(_abstract())
  assert layout.complete_steps(storage.Path(work)) == [1, 2], "not set aside as damaged"


def test_changed_position_is_damage(saved, tmp_path):
  """The record says which samples were seen: it is as precious as the arrays."""
  work = tmp_path / "work"
  shutil.copytree(saved, work)
  record = work / "2" / "record" / "metadata"
  storage.write_json(record, storage.read_json(record) | {"position": {"samples": 3}})
  _assert_is(*Checkpointer(work, keep=2).restore_latest(_abstract()))
  assert layout.complete_steps(storage.Path(work)) == [1]


@pytest.fixture
def small_disk(tmp_path):
  """A file system of 8 MB."""
  mounted = subprocess.run(
    ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(tmp_path)], capture_output=True
  )
  if mounted.returncode:
    pytest.skip("mounting a small file system needs root")
  yield tmp_path
  subprocess.run(["umount", str(tmp_path)], check=True)


def _noise(seed: int):
  """3 MB that do not compress."""
  sharding = bit_flips.make_state(0)["params"]["kernel"].sharding
  noise = np.random.default_rng(seed).normal(size=(1536, 512)).astype(np.float32)
  return {"kernel": jax.device_put(noise, sharding)}


def test_disk_that_fills_up_while_a_step_is_written(small_disk, monkeypatch):
  monkeypatch.setattr(storage, "free_space", lambda _: None)  # the check before the save
  like = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), _noise(0)
  )
  saver = Checkpointer(small_disk / "checkpoints", keep=1)
  saver.save(1, _noise(1), {"samples": 1})
  saver.wait()
  (small_disk / "filler").write_bytes(bytes(3 << 20))
  saver.save(2, _noise(2), {"samples": 2})
  with pytest.raises(NoSpaceError, match="older steps are intact"):
    saver.wait()
  step, state, position = Checkpointer(saver.directory, keep=1).restore_latest(like)
  assert (step, position) == (1, {"samples": 1})
  np.testing.assert_array_equal(np.asarray(state["kernel"]), np.asarray(_noise(1)["kernel"]))
  (small_disk / "filler").unlink()
  with Checkpointer(saver.directory, keep=1) as again:
    again.save(2, _noise(2), {"samples": 2})
  assert [path.name for path in saver.directory.iterdir()] == ["2"], "half-written ones are gone"


def test_ram_disk_that_fills_up(small_disk, monkeypatch, caplog):
  monkeypatch.setattr(storage, "free_space", lambda _: None)
  (small_disk / "filler").write_bytes(bytes(3 << 20))
  like = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), _noise(0)
  )
  copies = LocalCopies(small_disk, "run", 1)
  for step in (1, 2, 3):
    copies.save(step, _noise(step), {"samples": step})
  copies._settle()
  for step in (2, 3):
    assert f"no local copy of step {step}: no space left" in caplog.text
  restored = copies.restore(like, newer_than=0)
  assert restored is not None
  assert restored[0] == 1
  np.testing.assert_array_equal(np.asarray(restored[1]["kernel"]), np.asarray(_noise(1)["kernel"]))
  (small_disk / "filler").unlink()
  copies.save(4, _noise(4), {"samples": 4})
  copies._settle()
  restored = copies.restore(like, newer_than=0)
  assert restored is not None
  assert restored[0] == 4
