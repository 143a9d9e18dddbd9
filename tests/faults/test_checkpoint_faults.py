"""Checkpoints of several processes, of killed ones, and of two runs in one workdir."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import object_store
import pytest

from vidjax import storage
from vidjax.checkpoint import layout
from vidjax.observe import lease

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
  outputs = [worker.communicate(timeout=280)[0] for worker in workers]
  for worker, output in zip(workers, outputs, strict=True):
    assert worker.returncode == 0, output
  return outputs


def _endings(workers) -> list[tuple[int, str]]:
  """Exit code and what was said, of processes that are to end by themselves."""
  try:
    said = [worker.communicate(timeout=280)[0] for worker in workers]
  finally:
    for worker in workers:
      worker.kill()
  return [(worker.returncode, text) for worker, text in zip(workers, said, strict=True)]


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


def test_file_that_one_process_alone_reads(tmp_path):
  """One cannot read its part: both take the step before, and neither waits for the other."""
  directory = storage.Path(tmp_path / "checkpoints")
  _outputs(_start(directory, "save", processes=2))
  for file in (directory / "3" / "state" / "ocdbt.process_1" / "d").iterdir():
    storage.remove(file)
  for output in _outputs(_start(directory, "restore", processes=2)):
    assert "restored 2" in output


def test_both_processes_of_a_second_run_are_refused(tmp_path):
  owner = {"attempt": 1, "process": lease.this_process(), "started": "today"}
  storage.write_json(tmp_path / lease.FILE, owner)
  endings = _endings(_start(tmp_path, "claim", processes=2))
  assert [code for code, _ in endings] == [2, 2]
  assert f"{tmp_path} is in use: process {os.getpid()} on" in endings[0][1]
  assert "process 0 could not begin, and says why" in endings[1][1]
  storage.write_json(tmp_path / lease.FILE, owner | {"process": {"host": "elsewhere"}})
  said = _outputs(_start(tmp_path, "claim", processes=2))
  assert "attempt 2" in said[0]
  assert "attempt None" in said[1]


@pytest.mark.parametrize("processes", [1, 2])
def test_run_whose_workdir_was_taken_over_ends(tmp_path, processes):
  directory = storage.Path(tmp_path / "checkpoints")
  workers = _start(directory, "save until taken over", processes)
  for worker in workers:
    assert worker.stdout is not None
    while worker.stdout.readline().strip() != "3":
      assert worker.poll() is None
  run = storage.read_json(tmp_path / "run.json")
  newer = {"attempt": 2, "id": "b", "process": {"host": "elsewhere"}, "started": "today"}
  storage.write_json(tmp_path / "run.json", run | newer)
  endings = _endings(workers)
  assert [code for code, _ in endings] == [2] * processes
  message = f"another run, attempt 2 on elsewhere since today, has taken over {tmp_path}; this one"
  assert message in endings[0][1]
  assert all("another run has taken over" in text for _, text in endings[1:])
  assert storage.read_json(tmp_path / "run.json")["id"] == "b"


def test_failed_save_of_one_process_ends_both(tmp_path):
  began = time.monotonic()
  endings = _endings(_start(tmp_path / "checkpoints", "fail on the last", processes=2))
  assert time.monotonic() - began < 150, "nobody waits for a barrier that will not be reached"
  assert [code for code, _ in endings] == [7, 7]
  assert "a save failed on another process" in endings[0][1]
  assert "older steps are intact" in endings[1][1]
  assert layout.complete_steps(storage.Path(tmp_path / "checkpoints")) == [1]


def test_failed_save_that_is_met_at_the_next_save_ends_both(tmp_path):
  endings = _endings(_start(tmp_path / "checkpoints", "fail on the last, unseen", processes=2))
  assert [code for code, _ in endings] == [4, 4]
  assert "a save failed on another process" in endings[0][1]


def _delete(file):
  storage.remove(file)


def _flip(file):
  content = bytearray(storage.read_bytes(file))
  content[len(content) // 2] ^= 1
  storage.write_bytes(file, bytes(content))


@pytest.mark.parametrize("damage", [None, _delete, _flip])
def test_local_copies_of_two_processes(tmp_path, damage):
  directory = storage.Path(tmp_path / "checkpoints")
  for output in _outputs(_start(directory, "save locally", processes=2)):
    assert "copied [3]" in output
  assert [path.name for path in directory.iterdir()] == ["1"]
  if damage:
    (file,) = (path for path in storage.list_files(tmp_path / "ram") if "process_1" in str(path))
    damage(file)
  said = {None: "restored 3: from the local copies", _delete: "restored 1: not all", _flip: ""}
  said[_flip] = "restored 1: the local copy of step 3 is damaged on one process"
  for output in _outputs(_start(directory, "restore", processes=2)):
    assert said[damage] in output
  for output in _outputs(_start(directory, "restore")):
    assert "restored 1: not all processes" in output, "laid out otherwise"
