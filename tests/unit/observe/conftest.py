"""Tests that take traces, in a process where libtpu is not."""

import pathlib
import subprocess
import sys

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
  """Runs them in a process of their own if a test before has loaded libtpu to compile with it.

  Its tracer looks for the TPU then, and ends the process. A run that trains on CPU never loads it.
  Loaded is what is mapped: the module `libtpu` names the library only, and is not always imported.
  """
  mapped = pathlib.Path("/proc/self/maps")
  loaded = mapped.exists() and "libtpu.so" in mapped.read_text()
  if pyfuncitem.path.name != "test_profiler.py" or not loaded:
    return None
  command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", pyfuncitem.nodeid]
  done = subprocess.run(command, cwd=pyfuncitem.config.rootpath, capture_output=True, text=True)
  assert done.returncode == 0, done.stdout
  return True
