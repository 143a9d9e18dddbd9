"""Every flag is known to the compiler that reads it; each is asked in a process of its own."""

import importlib.util
import os
import subprocess
import sys

import pytest

from launch import xla_flags

_FOR_CPU = "import jax; jax.config.update('jax_platforms', 'cpu'); jax.devices(); print('read')"
# The smallest program for a topology makes libtpu read its flags.
_FOR_TPU = """
import jax
from vidjax import compiling
from vidjax.planning import topology

jax.config.update("jax_platforms", "cpu")
chip = topology.devices(topology.parse("v5e:1x1"))[0]
x = jax.ShapeDtypeStruct((8,), "float32", sharding=jax.sharding.SingleDeviceSharding(chip))
with compiling.without_cache():
  jax.jit(lambda x: x + 1).lower(x).compile()
print("read")
"""


def ask(code: str, **variables: str) -> str:
  environment = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
  done = subprocess.run(
    [sys.executable, "-c", code],
    env=environment | variables,
    capture_output=True,
    text=True,
    timeout=300,
  )
  return done.stdout.strip() if done.returncode == 0 else done.stderr


def test_gpu_flags_are_known_to_jaxlib():
  """Flags of GPUs are parsed where there is none; an unknown one ends the process."""
  flags = xla_flags.for_gpus()["XLA_FLAGS"]
  assert flags.count("--xla_gpu_") == len(xla_flags.GPU) == len(flags.split())
  assert ask(_FOR_CPU, XLA_FLAGS=flags) == "read"
  assert "Unknown flag in XLA_FLAGS: --xla_gpu_no_such" in ask(
    _FOR_CPU, XLA_FLAGS=f"{flags} --xla_gpu_no_such=true"
  )


@pytest.mark.skipif(
  importlib.util.find_spec("libtpu") is None, reason="libtpu, which reads them, is not installed"
)
def test_tpu_flags_are_known_to_libtpu():
  flags = xla_flags.for_tpus(2)["LIBTPU_INIT_ARGS"]
  assert flags.count("--xla_tpu_") == len(xla_flags.MULTISLICE) == len(flags.split())
  assert ask(_FOR_TPU, LIBTPU_INIT_ARGS=flags) == "read"
  assert "Unknown command line flag 'xla_tpu_no_such'" in ask(
    _FOR_TPU, LIBTPU_INIT_ARGS=f"{flags} --xla_tpu_no_such=true"
  )


def test_one_slice_takes_libtpu_as_it_is():
  assert xla_flags.for_tpus(1) == {}


def test_each_flag_has_a_reason_and_a_source():
  for flag in (*xla_flags.MULTISLICE, *xla_flags.GPU):
    assert len(flag.why.split()) > 5
    assert "/" in flag.source
