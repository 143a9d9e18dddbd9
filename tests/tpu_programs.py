"""Programs compiled for TPUs by libtpu, which needs none; where it is absent, tests are skipped."""

import functools
import importlib.util
import os
from typing import Any

import jax
from jax.experimental import topologies
import pytest

from vidjax import compiling

_ALONE = {  # libtpu looks for the machine that it runs on, and for other processes
  "TPU_SKIP_MDS_QUERY": "1",
  "TPU_WORKER_HOSTNAMES": "localhost",
  "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
  "TPU_STDERR_LOG_LEVEL": "3",
  "TPU_MIN_LOG_LEVEL": "3",
}


@functools.cache
def one_chip() -> jax.NamedSharding:
  """Whole arrays on one chip of TPU v5e."""
  if importlib.util.find_spec("libtpu") is None:
    pytest.skip("libtpu, which compiles for TPUs, is not installed")
  for name, value in _ALONE.items():
    os.environ.setdefault(name, value)
  topology = topologies.get_topology_desc("v5e:1x1", platform="tpu")
  return jax.NamedSharding(jax.sharding.Mesh(topology.devices, ("chip",)), jax.P())


def compiled(function: Any, *args: Any) -> Any:
  """`function` compiled for one chip; the arguments are arrays or their shapes and dtypes."""
  sharding = one_chip()

  def on_chip(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

  lowered = jax.jit(function).lower(*jax.tree.map(on_chip, args))
  with compiling.without_cache():
    return lowered.compile()
