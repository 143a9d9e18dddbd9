"""Checkpoints of several processes, of killed processes and on a full disk."""

import os
import pathlib
import signal
import socket
import subprocess
import sys

import object_store
import pytest

from vidjax import storage
from vidjax.checkpoint import layout

WORKER = pathlib.Path(__file__).with_name("checkpoint_worker.py")
pytestmark = pytest.mark.slow


def _start(directory, action, processes=1):
  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
  return [
    subprocess.Popen(
      [sys.executable, str(WORKER), str(directory), action, str(i), str(processes), str(port)],
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
      env=os.environ | {"PYTHONPATH": str(WORKER.parents[2])},
    )
    for i in range(processes)
  ]


def _outputs(workers) -> list[str]:
  outputs = [worker.communicate(timeout=150)[0] for worker in workers]
  for worker, output in zip(workers, outputs, strict=True):
    assert worker.returncode == 0, output
  return outputs


@pytest.fixture(params=["local", "gs"])
def directory(request, tmp_path):
  if request.param == "local":
    yield storage.Path(tmp_path / "checkpoints")
    return
  with object_store.serve() as store, store.environment():
    yield storage.Path("gs://bucket/run/checkpoints")


def test_two_processes_save_and_another_number_restores(directory):
  _outputs(_start(directory, "save", processes=2))
  assert layout.complete_steps(directory) == [2, 3]
  for processes in (1, 2):
    for output in _outputs(_start(directory, "restore", processes)):
      assert "restored 3" in output


def test_two_processes_agree_on_a_damaged_step(directory):
  _outputs(_start(directory, "save", processes=2))
  data = [f for f in storage.list_files(directory / "3" / "state") if f.parent.name == "d"]
  for file in data:
    content = bytearray(storage.read_bytes(file))
    content[len(content) // 2] ^= 1
    storage.write_bytes(file, bytes(content))
  for output in _outputs(_start(directory, "restore", processes=2)):
    assert "restored 2" in output
  assert layout.complete_steps(directory) == [2]


def test_killed_while_saving(directory):
  for _ in range(3):
    (worker,) = _start(directory, "save forever")
    assert worker.stdout is not None
    for _ in range(4):
      step = worker.stdout.readline()
      while not step.strip().isdecimal():
        assert step, "the worker ended"
        step = worker.stdout.readline()
    worker.send_signal(signal.SIGKILL)
    worker.communicate()
    latest = layout.complete_steps(directory)[-1]
    assert latest >= int(step)
    (output,) = _outputs(_start(directory, "restore"))
    assert f"restored {latest}" in output
    storage.remove(directory)
