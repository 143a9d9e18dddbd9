"""Saving and restoring on a local disk and in an object store; damage, misfits, full disks."""

import collections
import errno

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
import numpy as np
import object_store
import optax
import pytest

from vidjax import storage
from vidjax.checkpoint import FAILED, Checkpointer, checkpointer, layout, orbax_io, restore_params
from vidjax.checkpoint.verify import UnreachableError
from vidjax.errors import CheckpointError, NonFiniteError, NoSpaceError

# After a failed read, the library's other reads find their event loop closed and say so.
pytestmark = [
  pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
  pytest.mark.usefixtures("garbage_is_collected_here"),
]
KERNEL = "down_blocks.0.conv.kernel"


@pytest.fixture(params=["local", "gs"])
def directory(request, tmp_path):
  if request.param == "local":
    yield storage.Path(tmp_path / "run" / "checkpoints")
    return
  with object_store.serve() as store, store.environment():
    yield storage.Path("gs://bucket/run/checkpoints")


def _mesh(shape) -> jax.sharding.Mesh:
  return jax.make_mesh(shape, ("replica", "fsdp"), axis_types=(AxisType.Explicit,) * 2)


def _state(value: float, mesh=None, width: int = 16, name: str = KERNEL):
  """A state as the trainer has it, with an optimizer's nested tuples."""
  mesh = mesh or _mesh((2, 4))

  def put(x, *spec):
    return jax.device_put(x, NamedSharding(mesh, P(*spec)))

  rows = jnp.arange(8, dtype=jnp.float32)[:, None]
  kernel = put(jnp.broadcast_to(rows, (8, width)) + value, "fsdp")
  params = {name: kernel, "time.bias": put(jnp.full((4,), value))}
  opt_state = jax.tree.map(put, optax.adam(1e-3).init(jax.tree.map(np.asarray, params)))
  return {
    "step": put(jnp.int32(value)),
    "params": params,
    "opt_state": opt_state,
    "ema": {"0.9": {name: put(kernel + 0.5, "fsdp")}, "0.99": {name: put(kernel + 0.25, "fsdp")}},
  }


def _abstract(state, mesh=None):
  def describe(x):
    sharding = NamedSharding(mesh, x.sharding.spec) if mesh else x.sharding
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

  return jax.tree.map(describe, state)


def _assert_equal(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


def _save(directory, *values, keep=3):
  with Checkpointer(directory, keep) as saver:
    for value in values:
      assert saver.save(value, _state(value), {"samples": value * 10})
  return Checkpointer(directory, keep)


def test_round_trip_onto_another_mesh(directory):
  reader = _save(directory, 3)
  assert reader.latest_step() == 3
  assert reader.position(3) == {"samples": 30}
  for shape in ((2, 4), (8, 1), (1, 8)):
    wanted = _abstract(_state(0), _mesh(shape))
    restored = reader.restore(3, wanted)
    _assert_equal(restored, _state(3))
    assert restored["params"][KERNEL].sharding == wanted["params"][KERNEL].sharding


def test_keeps_the_newest(directory):
  reader = _save(directory, 1, 2, 3, 4, keep=2)
  assert layout.complete_steps(directory) == [3, 4]
  names = {file.relative_to(directory).parts[0] for file in storage.list_files(directory)}
  assert names == {"3", "4"}
  assert reader.latest_step() == 4


def test_removing_old_steps_survives_a_broken_one(tmp_path):
  _save(tmp_path, 1, 2)
  storage.remove(tmp_path / "2" / "record")
  _save(tmp_path, 3, 4, keep=2)
  assert layout.complete_steps(storage.Path(tmp_path)) == [3, 4]


def test_same_step_is_not_saved_twice(directory):
  _save(directory, 1)
  with Checkpointer(directory, 2) as saver:
    assert not saver.save(1, _state(5), {})
  assert saver.position(1) == {"samples": 10}


def test_half_written_step_is_ignored_and_replaced(directory):
  reader = _save(directory, 1)
  storage.write_text(directory / "2" / "state" / "d" / "part", "half")
  storage.write_text(directory / "3.orbax-checkpoint-tmp" / "x", "half")
  assert reader.latest_step() == 1
  with Checkpointer(directory, 2) as saver:
    assert saver.save(2, _state(2), {})
  assert saver.latest_step() == 2
  assert {path.name for path in directory.iterdir()} == {"1", "2"}
  _assert_equal(saver.restore(2, _abstract(_state(0))), _state(2))


def test_state_may_be_donated_right_after_save(directory):
  overwrite = jax.jit(lambda state: jax.tree.map(lambda x: x * 0 - 1, state), donate_argnums=0)
  with Checkpointer(directory, 3) as saver:
    state = _state(7)
    saver.save(7, state, {})
    for _ in range(3):
      state = overwrite(state)
    jax.block_until_ready(state)
  _assert_equal(saver.restore(7, _abstract(_state(0))), _state(7))


def test_nothing_saved(tmp_path):
  saver = Checkpointer(tmp_path / "none", 1)
  assert saver.latest_step() is None
  assert saver.restore_latest(_abstract(_state(0))) is None
  with pytest.raises(CheckpointError, match="no complete checkpoint"):
    saver.restore(1, _abstract(_state(0)))
  with pytest.raises(CheckpointError, match="has no steps"):
    restore_params(tmp_path)


def test_misfits_are_named(tmp_path):
  reader = _save(tmp_path, 1)
  with pytest.raises(CheckpointError) as error:
    reader.restore(1, _abstract(_state(0, width=32)))
  for part in (KERNEL, "(8, 16)", "(8, 32)"):
    assert part in str(error.value)
  with pytest.raises(
    CheckpointError, match=f"params/{KERNEL} is in it, but not .* params/other is not"
  ):
    reader.restore_latest(_abstract(_state(0, name="other")))
  assert reader.latest_step() == 1, "a misfit is no damage"


def _copy(directory) -> storage.Path:
  """Copies checkpoints: of the files it has written, the library remembers content by name."""
  copy = storage.Path(directory).parent / "copy"
  storage.publish(directory, copy)
  return copy


def _flip_a_bit(step):
  files = storage.list_files(step / "state")
  largest = max(files, key=lambda file: len(file.read_bytes()))
  content = bytearray(largest.read_bytes())
  content[len(content) // 2] ^= 1
  storage.write_bytes(largest, bytes(content))


def _truncate(step):
  for file in storage.list_files(step / "state"):
    if file.parent.name == "d":
      storage.write_bytes(file, file.read_bytes()[:20])


DAMAGES = {
  "no record": lambda step: storage.remove(step / "record"),
  "broken record": lambda step: storage.write_text(step / "record" / "metadata", '{"version"'),
  "no manifest": lambda step: storage.remove(step / "state" / "manifest.ocdbt"),
  "no arrays": lambda step: storage.remove(step / "state"),
  "truncated": _truncate,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_newest_step_is_set_aside(tmp_path, damage):
  _save(tmp_path / "written", 1, 2)
  directory = _copy(tmp_path / "written")
  DAMAGES[damage](directory / "2")
  reader = Checkpointer(directory, 3)
  step, state, position = reader.restore_latest(_abstract(_state(0)))
  assert (step, position) == (1, {"samples": 10})
  _assert_equal(state, _state(1))
  assert reader.latest_step() == 1
  assert (directory / "2" / "damaged.txt").exists()
  with Checkpointer(directory, 3) as saver:  # the run comes to the same step again
    assert saver.save(2, _state(2), {})
  assert saver.restore_latest(_abstract(_state(0)))[0] == 2


def _noise_state():
  """Random bits do not compress, so the files hold them as they are."""
  kernel = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
  return {"params": {"kernel": jax.device_put(kernel, NamedSharding(_mesh((1, 8)), P("fsdp")))}}


def test_a_flipped_bit_is_seen(tmp_path):
  with Checkpointer(tmp_path / "written", 3) as saver:
    saver.save(1, _noise_state(), {})
    saver.save(2, _noise_state(), {})
  directory = _copy(tmp_path / "written")
  _flip_a_bit(directory / "2")
  reader = Checkpointer(directory, 3)
  with pytest.raises(checkpointer.DamagedError, match="checksum differs in params/kernel"):
    reader.restore(2, _abstract(_noise_state()))
  with pytest.raises(CheckpointError, match="checksum differs in params/kernel"):
    restore_params(directory / "2", "raw")
  assert reader.restore_latest(_abstract(_noise_state()))[0] == 1


def test_all_steps_damaged_is_no_fresh_start(tmp_path):
  reader = _save(tmp_path, 1)
  storage.remove(tmp_path / "1" / "record")
  with pytest.raises(CheckpointError, match=r"all checkpoints .* damaged: \[1\]"):
    reader.restore_latest(_abstract(_state(0)))


AWAY = {
  "arrays": (orbax_io, "read", ValueError("UNAVAILABLE: Error reading gs://bucket/1 [source]")),
  "record": (storage, "read_json", ConnectionResetError("Connection reset by peer")),
}


@pytest.mark.parametrize("times", [1, 99])
@pytest.mark.parametrize("what", AWAY)
def test_a_store_that_does_not_answer_makes_no_step_bad(tmp_path, monkeypatch, caplog, what, times):
  reader = _save(tmp_path, 1, 2)
  module, name, error = AWAY[what]
  original, failures = getattr(module, name), iter([error] * times)

  def away(*args):
    if failure := next(failures, None):
      raise failure
    return original(*args)

  monkeypatch.setattr(checkpointer, "_PATIENCE", (0.0, 0.0))
  monkeypatch.setattr(module, name, away)
  if times == 1:
    assert reader.restore_latest(_abstract(_state(0)))[0] == 2
    assert "tried again in 0 s" in caplog.text
  else:
    with pytest.raises(UnreachableError, match="nothing is set aside: run the same command again"):
      reader.restore_latest(_abstract(_state(0)))
  assert layout.complete_steps(reader.directory) == [1, 2]


def test_state_that_is_not_finite_is_not_saved(tmp_path):
  state = _state(1)
  state["params"][KERNEL] = jnp.array([1.0, jnp.nan])
  with Checkpointer(tmp_path, 1) as saver:
    with pytest.raises(NonFiniteError, match=KERNEL):
      saver.save(1, state, {})
    assert saver.latest_step() is None


def test_too_little_space_is_said_before_writing(tmp_path, monkeypatch):
  usage = collections.namedtuple("usage", "total used free")
  monkeypatch.setattr(storage.shutil, "disk_usage", lambda _: usage(1, 1, 100))
  with Checkpointer(tmp_path, 1) as saver:
    with pytest.raises(NoSpaceError, match=r"GB free"):
      saver.save(1, _state(1), {})
  assert not (tmp_path / "1").exists()


@pytest.mark.parametrize(
  ("cause", "error"),
  [
    (OSError(errno.ENOSPC, "No space left on device"), NoSpaceError),
    (OSError("x"), CheckpointError),
  ],
)
@pytest.mark.parametrize("call", ["save", "wait", "close"])
def test_errors_of_the_background_surface(tmp_path, monkeypatch, cause, error, call):
  saver = Checkpointer(tmp_path, 1)
  saver.save(1, _state(1), {})
  saver.wait()
  assert saver.failing() == 0

  def commit():
    raise cause

  monkeypatch.setattr(saver._writer, "_make_on_commit_callback", lambda *_: commit)
  saver.save(2, _state(2), {})
  saver._is_written.wait()
  assert saver.failing() == FAILED + error.exit_code
  with pytest.raises(error, match="older steps are intact"):
    saver.save(3, _state(3), {}) if call == "save" else getattr(saver, call)()
  saver.close()  # said once
  assert layout.complete_steps(saver.directory) == [1]


def test_params_alone(directory):
  _save(directory, 1, 2)
  params = restore_params(directory.parent)
  assert all(isinstance(value, np.ndarray) for value in params.values())
  np.testing.assert_array_equal(params[KERNEL], np.asarray(_state(2)["ema"]["0.99"][KERNEL]))
  np.testing.assert_array_equal(params["time.bias"], 2), "no average: as trained"
  raw = restore_params(directory / "1", "raw")
  np.testing.assert_array_equal(raw[KERNEL], np.asarray(_state(1)["params"][KERNEL]))
  sharding = NamedSharding(_mesh((1, 8)), P("fsdp"))
  placed = restore_params(directory, "raw", {KERNEL: sharding})
  assert placed[KERNEL].sharding == sharding


def test_params_without_average(tmp_path):
  with Checkpointer(tmp_path, 1) as saver:
    saver.save(1, _noise_state(), {})
  assert restore_params(tmp_path, "raw").keys() == {"kernel"}
  with pytest.raises(CheckpointError, match="no averaged weights"):
    restore_params(tmp_path)
  for which in ("both", "ema:", "ema:x", "raw:0.9"):
    with pytest.raises(ValueError, match=f"params='{which}': choose 'ema', 'ema:DECAY'"):
      restore_params(tmp_path, which)


@pytest.mark.parametrize(("listed", "first"), [((0.9, 0.99), "0.9"), ((0.99, 0.9), "0.99")])
def test_the_first_average_is_that_of_the_config(tmp_path, listed, first):
  with Checkpointer(tmp_path, 1) as saver:
    saver.save(1, _state(1), {"config": {"optimizer": {"ema_decays": listed}}})
  for which, decay in (("ema", first), ("ema:0.9", "0.9"), ("ema:.99", "0.99")):
    kernel = np.asarray(_state(1)["ema"][decay][KERNEL])
    np.testing.assert_array_equal(restore_params(tmp_path, which)[KERNEL], kernel)
  with pytest.raises(ValueError, match=r"'ema:0\.5': checkpoint .* averages of decay 0\.9, 0\.99"):
    restore_params(tmp_path, "ema:0.5")


def test_a_step_of_another_version_is_named_and_left_alone(tmp_path, monkeypatch):
  with monkeypatch.context() as patch:
    patch.setattr(layout, "_VERSION", 1)
    _save(tmp_path, 1)
  reader = Checkpointer(tmp_path, 1)
  for read in (lambda: reader.position(1), lambda: reader.restore_latest(_abstract(_state(1)))):
    with pytest.raises(CheckpointError, match="has format 1, this code reads format 3"):
      read()
  assert reader.latest_step() == 1, "not set aside as damaged"


def test_only_what_is_asked_for_is_read(tmp_path, monkeypatch):
  _save(tmp_path, 1)
  read = []
  original = orbax_io.read
  monkeypatch.setattr(checkpointer.orbax_io, "read", lambda s, w: read.extend(w) or original(s, w))
  restore_params(tmp_path, "raw")
  assert sorted(read) == [f"params/{KERNEL}", "params/time.bias"]


def test_an_interim_step_goes_when_the_next_is_there(directory):
  """So that an interrupted run leaves the same steps as an undisturbed one."""
  with Checkpointer(directory, keep=2) as saver:
    for step, interim in ((10, False), (13, True), (20, False), (24, True)):
      saver.save(step, _state(step), {}, interim=interim)
    saver.wait()
    assert layout.complete_steps(directory) == [10, 20, 24]
    saver.save(30, _state(30), {})
  assert layout.complete_steps(directory) == [20, 30]
