"""What is read back after a save, and which steps stay."""

import contextlib
import time

import jax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
import numpy as np
import object_store
import pytest

from vidjax import storage
from vidjax.checkpoint import Checkpointer, LocalCopies, checkpointer, layout, orbax_io, verify
from vidjax.errors import UserError

# After a failed read, the library's other reads find their event loop closed and say so.
pytestmark = [
  pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
  pytest.mark.usefixtures("garbage_is_collected_here"),
]


@pytest.fixture(params=["local", "gs"])
def directory(request, tmp_path):
  if request.param == "local":
    yield storage.Path(tmp_path / "run" / "checkpoints")
    return
  with object_store.serve() as store, store.environment():
    yield storage.Path("gs://bucket/run/checkpoints")


def _state(step: int):
  mesh = jax.make_mesh((8,), ("fsdp",), axis_types=(AxisType.Explicit,))
  rng = np.random.default_rng(step)
  kernel = rng.normal(size=(64, 64)).astype(np.float32)
  return {
    "kernel": jax.device_put(kernel, NamedSharding(mesh, P("fsdp"))),
    "step": jax.device_put(np.int32(step), NamedSharding(mesh, P())),
  }


def _save(saver, *steps):
  for step in steps:
    saver.save(step, _state(step), {"samples": step})
  saver.wait()


def _flip_a_bit(step):
  """In every file of the arrays that is large enough to hold some."""
  for file in storage.list_files(step / "state"):
    content = bytearray(storage.read_bytes(file))
    if len(content) > 2000:
      content[len(content) // 2] ^= 1
      storage.write_bytes(file, bytes(content))


def test_step_damaged_on_its_way_to_the_disk_is_set_aside(directory, monkeypatch, caplog):
  original = verify.check_sample

  def damaged_first(step, seed):
    if step.name == "2":
      _flip_a_bit(step)
      monkeypatch.undo()
    original(step, seed)

  with Checkpointer(directory, keep=1) as saver:
    _save(saver, 1)
    monkeypatch.setattr(checkpointer.verify, "check_sample", damaged_first)
    saver.save(2, _state(2), {"samples": 2})
    with pytest.raises(verify.DamagedError, match=r"checkpoint .*2 is not what was saved"):
      saver.wait()
    assert "checksum differs in kernel" in caplog.text
    assert saver.damaged_saves == 1
    assert layout.complete_steps(directory) == [1], "older steps stay until a newer one is good"
    _save(saver, 3)
    assert layout.complete_steps(directory) == [3]
    assert saver.damaged_saves == 1
  names = {file.relative_to(directory).parts[0] for file in storage.list_files(directory)}
  assert names == {"3"}


@pytest.mark.parametrize(
  "error", [MemoryError(), RuntimeError("cannot schedule new futures after interpreter shutdown")]
)
def test_nothing_is_removed_that_could_not_be_read_back(tmp_path, monkeypatch, error):
  def failing(step, wanted):
    raise error

  monkeypatch.setattr(orbax_io, "read", failing)
  with Checkpointer(tmp_path, keep=1) as saver:
    _save(saver, 1, 2)
    assert layout.complete_steps(saver.directory) == [1, 2]
    assert saver.damaged_saves == 0


def test_a_run_that_ends_in_an_error_waits_for_what_is_read_back(tmp_path, monkeypatch):
  original, checked = verify.check_sample, []

  def slow(step, seed):
    time.sleep(0.5)
    original(step, seed)
    checked.append(step.name)

  monkeypatch.setattr(checkpointer.verify, "check_sample", slow)
  with contextlib.suppress(KeyError), Checkpointer(tmp_path, keep=1) as saver:
    saver.save(1, _state(1), {})
    raise KeyError
  assert checked == ["1"]


def test_sample_reaches_all_leaves_in_time_and_stays_small():
  sizes = {f"large{i}": 1000 for i in range(4)} | {f"small{i}": 1 for i in range(12)}
  record = layout.Record({}, {k: layout.Leaf((n,), "float32", 0) for k, n in sizes.items()})
  seen = set()
  for step in range(30):
    names = verify.sample(record, step, most=4100)
    assert names == verify.sample(record, step, most=4100)
    assert sum(4 * sizes[name] for name in names) <= 4100
    seen |= set(names)
  assert seen == sizes.keys()
  assert all(verify.sample(record, step, most=1) for step in range(5)), "one at least"


def test_milestones_and_pinned_steps_stay(directory):
  with Checkpointer(directory, keep=1, milestone_every=4) as saver:
    _save(saver, 2)
    saver.pin(2)
    _save(saver, 4, 6)
    assert layout.complete_steps(directory) == [2, 4, 6]
    saver.save(8, _state(8), {})
    saver.pin(8)  # while it is written
    _save(saver, 10)
    saver.unpin(2)
    _save(saver, 11)
    assert layout.complete_steps(directory) == [4, 8, 11]
  with Checkpointer(directory, keep=1) as saver:  # another attempt, without milestones
    _save(saver, 12)
    assert layout.complete_steps(directory) == [8, 12], "pinned is pinned"
    saver.unpin(8)
    _save(saver, 13)
    assert layout.complete_steps(directory) == [13]


def test_other_peoples_files_stay(directory):
  names = ("2_backup", "002", "two", "2.old", "-2", "x.orbax-checkpoint-tmp")
  for name in names:
    storage.write_text(directory / name / "notes", "mine")
  with Checkpointer(directory, keep=1) as saver:
    _save(saver, 1, 3)
    assert saver.latest_step() == 3
  found = {file.relative_to(directory).parts[0] for file in storage.list_files(directory)}
  assert set(names) <= found


def test_run_that_lost_its_workdir_saves_and_removes_nothing(tmp_path):
  with Checkpointer(tmp_path, keep=1) as saver:
    _save(saver, 1)
    answers = iter([""])  # before the save; it is taken over while it writes
    saver.fence = lambda: next(answers, "another run has taken over")
    saver.save(2, _state(2), {})
    for call in (saver.wait, lambda: saver.save(3, _state(3), {})):
      with pytest.raises(UserError, match="another run has taken over"):
        call()
    assert layout.complete_steps(saver.directory) == [1, 2]
    saver.fence = lambda: ""


@pytest.mark.parametrize("target", [2, 0])
def test_run_that_goes_back(tmp_path, target):
  like = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), _state(0)
  )
  with Checkpointer(tmp_path / "checkpoints", keep=3) as saver:
    saver.local = LocalCopies(tmp_path / "ram", tmp_path, 1)
    _save(saver, 2, 4)
    saver.local.save(5, _state(5), {})
    saver.save(6, _state(6), {})
    saver.roll_back(target, "the loss exploded")
    assert saver.latest_step() == (target or None)
    assert layout.complete_steps(saver.directory) == ([2] if target else [])
    for resumed in (saver, Checkpointer(saver.directory, keep=3)):  # also after a restart
      found = resumed.restore_latest(like)
      assert (found and found[0]) == (target or None), "0: from the start, which is no damage"
    _save(saver, 4)
    assert saver.latest_step() == 4
