"""Arrays that are read when they are used."""

import jax
import numpy as np
import pytest

from vidjax import lazy

WHOLE = np.arange(16 * 8, dtype=np.float32).reshape(16, 8)


@pytest.fixture
def spied():
  """A lazy array, and the parts that were read of it."""
  read = []

  def fetch(index):
    read.append(index)
    return WHOLE[index]

  return lazy.LazyArray(WHOLE.shape, WHOLE.dtype, fetch), read


def test_shape_and_dtype_are_known_without_reading(spied):
  array, read = spied
  assert (array.shape, array.ndim, array.size, array.nbytes) == ((16, 8), 2, 128, 512)
  assert lazy.nbytes({"a": array, "b": WHOLE}) == 1024
  assert read == []


def test_parts_are_read(spied):
  array, read = spied
  np.testing.assert_array_equal(array[2:4], WHOLE[2:4])
  np.testing.assert_array_equal(array[:, -3:], WHOLE[:, -3:])
  assert read == [(slice(2, 4), slice(0, 8)), (slice(0, 16), slice(5, 8))]
  np.testing.assert_array_equal(np.asarray(array), WHOLE)


def sharded(*axes):
  mesh = jax.make_mesh((2, 4), ("x", "y"), axis_types=(jax.sharding.AxisType.Explicit,) * 2)
  return jax.NamedSharding(mesh, jax.P(*axes))


@pytest.mark.parametrize(
  ("axes", "largest"), [((None, "y"), 32), (("x", "y"), 16), ((), 128)], ids=str
)
def test_each_device_gets_its_part(spied, axes, largest):
  array, read = spied
  like = jax.ShapeDtypeStruct(WHOLE.shape, jax.numpy.bfloat16, sharding=sharded(*axes))
  placed = lazy.place(array, like)
  assert placed.sharding == like.sharding
  assert placed.dtype == like.dtype
  np.testing.assert_array_equal(np.asarray(placed, np.float32), WHOLE)
  sizes = {(i.stop - i.start) * (j.stop - j.start) for i, j in read}
  assert sizes == {largest}
  if not axes:
    assert len(read) == 1  # for eight devices


def test_without_a_sharding_it_goes_to_the_default_device(spied):
  array, _ = spied
  placed = lazy.place(array, jax.ShapeDtypeStruct(WHOLE.shape, np.float32))
  assert placed.devices() == {jax.devices()[0]}


def test_reading_all_leaves_other_arrays_alone(spied):
  array, _ = spied
  read = lazy.read_all({"a": array, "b": WHOLE}, "reading")
  assert isinstance(read["a"], np.ndarray)
  assert read["b"] is WHOLE


def test_bits_are_compared_not_values():
  nan, zero = np.array([np.nan, 0.0], np.float32), np.array([np.nan, -0.0], np.float32)
  assert lazy.same_bits(nan, nan.copy())
  assert not lazy.same_bits(nan, zero)
  assert not lazy.same_bits(nan, nan.astype(np.float64))
  assert not lazy.same_bits(nan, nan[:1])


def test_progress_is_shown_for_what_takes_long(capsys):
  assert list(lazy.watched([1, 2], "moving", 100)) == [1, 2]
  assert capsys.readouterr().err == ""
  assert list(lazy.watched([1, 2], "moving", 1 << 30)) == [1, 2]
  assert "moving: 2/2" in capsys.readouterr().err
