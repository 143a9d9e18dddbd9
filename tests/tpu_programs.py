"""Programs compiled for TPUs by libtpu, which needs none; where it is absent, tests are skipped."""

import functools
import importlib.util
from typing import Any

import jax
import pytest

from vidjax import compiling
from vidjax.planning import topology


@functools.cache
def one_chip() -> jax.NamedSharding:
  """Whole arrays on one chip of TPU v5e."""
  if importlib.util.find_spec("libtpu") is None:
    pytest.skip("libtpu, which compiles for TPUs, is not installed")
  chip = topology.devices(topology.parse("v5e:1x1"))
  return jax.NamedSharding(jax.sharding.Mesh(chip, ("chip",)), jax.P())


def compiled(function: Any, *args: Any) -> Any:
  """`function` compiled for one chip; the arguments are arrays or their shapes and dtypes."""
  sharding = one_chip()

  def on_chip(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

  lowered = jax.jit(function).lower(*jax.tree.map(on_chip, args))
  with compiling.without_cache():
    return lowered.compile()
