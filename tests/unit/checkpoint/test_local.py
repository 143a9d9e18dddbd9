"""Copies in a machine's memory, of one process; `tests/faults` has several."""

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
import numpy as np
import pytest

from vidjax import storage
from vidjax.checkpoint import Checkpointer, LocalCopies
from vidjax.checkpoint.layout import flatten

RUN = 7


def _mesh(shape=(2, 4)) -> jax.sharding.Mesh:
  return jax.make_mesh(shape, ("replica", "fsdp"), axis_types=(AxisType.Explicit,) * 2)


def _state(seed: int, mesh=None):
  """Sharded, replicated and scalar leaves of several dtypes."""
  rng, mesh = np.random.default_rng(seed), mesh or _mesh()

  def put(x, *spec):
    return jax.device_put(x, NamedSharding(mesh, P(*spec)))

  kernel = rng.normal(size=(8, 16)).astype(np.float32)
  return {
    "params": {"kernel": put(kernel, "fsdp"), "bias": put(kernel[0])},
    "half": put(jnp.asarray(kernel, jnp.bfloat16), None, "fsdp"),
    "mask": put(kernel > 0, ("replica", "fsdp")),
    "step": put(np.int32(seed)),
  }


def _abstract(state):
  return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)


def _assert_same_bits(a, b):
  for (name, x), y in zip(flatten(a).items(), flatten(b).values(), strict=True):
    assert (x.dtype, x.sharding) == (y.dtype, y.sharding), name
    assert np.asarray(x).tobytes() == np.asarray(y).tobytes(), name


def _negative(x):
  return ~x if x.dtype == jnp.bool else -x


def _copies(folder, run=RUN) -> LocalCopies:
  return LocalCopies(folder / "ram", folder / "run", run)


def _steps(copies):
  if copies._writer is not None:
    copies._writer.join()
  return copies._steps()


def test_round_trip_of_a_state_that_is_donated(tmp_path):
  copies = _copies(tmp_path)
  state = _state(3)
  expected = jax.tree.map(jnp.copy, state)
  copies.save(3, state, {"samples": 6})
  negate = jax.jit(lambda s: jax.tree.map(_negative, s), donate_argnums=0)
  jax.block_until_ready(negate(state))
  assert _steps(copies) == [3]
  step, restored, position = _copies(tmp_path).restore(_abstract(expected), newer_than=2)
  assert (step, position) == (3, {"samples": 6})
  _assert_same_bits(restored, expected)


def test_newest_stays_until_the_next_is_there(tmp_path, monkeypatch):
  copies = _copies(tmp_path)
  for step in (1, 2, 3):
    copies.save(step, _state(step), {})
    assert _steps(copies) == [s for s in (step - 1, step) if s]
  monkeypatch.setattr(storage, "free_space", lambda _: 100)
  for step in (4, 5):
    copies.save(step, _state(step), {})
    assert _steps(copies)[-1] == 3
  monkeypatch.undo()
  copies.save(6, _state(6), {})
  assert _steps(copies) == [3, 6]


def test_full_ram_disk_is_a_warning(tmp_path, monkeypatch, caplog):
  copies = _copies(tmp_path)
  monkeypatch.setattr(storage, "free_space", lambda _: 100)
  copies.save(1, _state(1), {})
  assert "no local copy of step 1" in caplog.text
  monkeypatch.setattr(storage, "free_space", lambda _: None)

  def full(*_, **__):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(np, "savez", full)
  copies.save(2, _state(2), {})
  assert _steps(copies) == []
  assert "no local copy of step 2: no space left" in caplog.text
  assert [path.name for path in copies._folder.iterdir()] == [], "nothing half-written stays"


def test_state_that_is_not_finite_is_not_copied(tmp_path, caplog):
  state = _state(1)
  infinite = jnp.full((8, 16), jnp.inf, jnp.bfloat16)
  state["half"] = jax.device_put(infinite, state["half"].sharding)
  copies = _copies(tmp_path)
  copies.save(1, state, {})
  assert _steps(copies) == []
  assert "NaN or infinity in half" in caplog.text


def test_copies_of_another_run_in_the_same_place_are_removed(tmp_path):
  copies = _copies(tmp_path)
  copies.save(1, _state(1), {})
  assert _steps(copies) == [1]
  storage.write_text(copies._folder / ".0123456789ab.tmp.npz", "half")
  other = _copies(tmp_path, run=8)
  assert other._folder == copies._folder
  assert list(other._folder.iterdir()) == []


def test_another_layout_is_no_use(tmp_path):
  copies = _copies(tmp_path)
  copies.save(1, _state(1), {})
  _steps(copies)
  assert copies.restore(_abstract(_state(1, _mesh((1, 8)))), newer_than=0) is None
  assert "laid out as now" in copies.why
  wider = _abstract(_state(1)) | {"more": _abstract(_state(1))["half"]}
  assert copies.restore(wider, newer_than=0) is None
  assert copies.restore(_abstract(_state(1)), newer_than=1) is None
  assert "not newer" in copies.why


def test_flipped_bits_are_seen(tmp_path):
  """Every 11th byte, one bit each: the older copy, or the right bits."""
  copies = _copies(tmp_path)
  copies.save(1, _state(1), {"samples": 2})
  _steps(copies)
  file = copies._file(1)
  whole = file.read_bytes()
  wanted, detected = _abstract(_state(1)), 0
  for at in range(0, len(whole), 11):
    content = bytearray(whole)
    content[at] ^= 1 << at % 8
    file.write_bytes(bytes(content))
    restored = copies.restore(wanted, newer_than=0)
    if restored is None:
      detected += 1
    else:
      assert restored[0] == 1
      assert restored[2] == {"samples": 2}
      _assert_same_bits(restored[1], _state(1))
  # What is left are dates and the like, which nobody reads.
  assert detected > 0.5 * len(range(0, len(whole), 11))


def test_the_newer_of_both_is_used(tmp_path):
  wanted = _abstract(_state(0))

  def resume():
    saver = Checkpointer(tmp_path / "checkpoints", keep=2)
    saver.local = _copies(tmp_path)
    return saver, saver.restore_latest(wanted)

  saver, nothing = resume()
  assert nothing is None
  saver.local.save(5, _state(5), {"samples": 5})
  assert _steps(saver.local) == [5]
  assert resume()[1][0] == 5, "also where there is no checkpoint yet"
  saver.save(10, _state(10), {"samples": 10})
  saver._finish()
  assert resume()[1][0] == 10
  saver.local.save(15, _state(15), {"samples": 15})
  assert _steps(saver.local) == [5, 15]
  saver, (step, state, position) = resume()
  assert (step, position) == (15, {"samples": 15})
  _assert_same_bits(state, _state(15))
  accepted = []
  saver.restore_latest(wanted, accepted.append)
  assert accepted == [{"samples": 15}]
  storage.write_bytes(saver.local._file(15), b"PK")
  saver, (step, state, _) = resume()
  assert step == 10
  _assert_same_bits(state, _state(10))
  saver.save(20, _state(20), {"samples": 20})
  saver.close()
  assert _steps(saver.local) == [], "a checkpoint makes them useless"


@pytest.mark.parametrize("workdir", ["gs://bucket/run", "relative/run"])
def test_every_workdir_has_its_own_folder(tmp_path, workdir):
  folders = {LocalCopies(tmp_path, w, RUN)._folder for w in (workdir, workdir + "2", tmp_path)}
  assert len(folders) == 3
