"""Checksums: equal on every layout and on the host, different after any flipped bit."""

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
import numpy as np
import pytest

from vidjax.checkpoint import fingerprint

DTYPES = ["float32", "bfloat16", "int32", "uint8", "bool"]


def _array(dtype: str, shape=(8, 6, 4)) -> np.ndarray:
  values = np.random.default_rng(0).normal(size=shape) * 100
  return np.asarray(values > 0 if dtype == "bool" else values.astype(jnp.dtype(dtype)))


def _both(x: np.ndarray, sharding=None) -> set[int]:
  """Checksums by the kernel for accelerators and from the shards on a host."""
  array = jax.device_put(x, sharding)
  kernel = jax.device_get(fingerprint._on_device(array))
  shards = fingerprint.fingerprints({"x": array})
  assert kernel[1]
  assert not shards[1]
  return {int(kernel[0]), shards[0]["x"]}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("axis_type", [AxisType.Explicit, AxisType.Auto])
def test_same_value_on_every_layout(dtype, axis_type):
  x = _array(dtype)
  host = fingerprint.fingerprint_host(x)
  assert _both(x) == {host}
  mesh = jax.make_mesh((4, 2), ("a", "b"), axis_types=(axis_type,) * 2)
  for spec in (P(), P("a"), P("b", None, "a"), P(("a", "b"))):
    assert _both(x, NamedSharding(mesh, spec)) == {host}, spec


def test_blocks_of_the_host_version_join(monkeypatch):
  x = _array("float32")
  whole = fingerprint.fingerprint_host(x)
  monkeypatch.setattr(fingerprint, "_BLOCK", 7)
  assert fingerprint.fingerprint_host(x) == whole


def test_every_flipped_bit_is_seen():
  x = _array("float32", (5, 3))
  good = fingerprint.fingerprint_host(x)
  for position in range(x.nbytes * 8):
    bad = np.frombuffer(x.tobytes(), np.uint8).copy()
    bad[position // 8] ^= 1 << (position % 8)
    assert fingerprint.fingerprint_host(bad.view(np.float32).reshape(5, 3)) != good


def test_swapped_elements_are_seen():
  x = _array("float32", (16,))
  assert fingerprint.fingerprint_host(x[::-1]) != fingerprint.fingerprint_host(x)


def test_scalar():
  assert _both(np.asarray(3, np.float32)) == {
    fingerprint.fingerprint_host(np.asarray(3, np.float32))
  }


def test_names_what_is_not_finite():
  leaves = {"a": jnp.ones(3), "b": jnp.array([1.0, jnp.nan]), "c": jnp.array([jnp.inf])}
  assert fingerprint.fingerprints(leaves)[1] == ["b", "c"]
  assert [bool(fingerprint._on_device(x)[1]) for x in leaves.values()] == [True, False, False]
