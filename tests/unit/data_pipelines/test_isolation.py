"""A file can make its process crash or hang; the caller goes on with the next one."""

import errno
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import pytest

from data_pipelines import faults, isolation
from vidjax import errors

STALL_SECONDS = 60.0  # a new process imports for some seconds, on a busy machine for many


def double(x, alive):
  alive()
  return 2 * x, os.getpid()


def crash(number, alive):
  os.kill(os.getpid(), number)


def leave(code, alive):
  os._exit(code)


def hang(alive):
  signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
  time.sleep(1e6)


def long_but_alive(seconds, alive):
  until = time.monotonic() + seconds
  while time.monotonic() < until:
    time.sleep(0.05)
    alive()
  return "done"


def refuse(error, alive):
  raise TwoPartsError("one", "two") if error == "TwoPartsError" else error


def call(function, *args, stall_seconds=STALL_SECONDS):
  return isolation.call(function, *args, stall_seconds=stall_seconds)


def test_one_process_answers_all_calls_of_a_thread():
  (first, pid), (second, again) = (call(double, x).value for x in (1, 2))
  assert (first, second) == (2, 4)
  assert pid == again != os.getpid()
  other = []
  thread = threading.Thread(target=lambda: other.append(call(double, 3).value))
  thread.start()
  thread.join()
  assert other[0][0] == 6
  assert other[0][1] not in (pid, os.getpid())


@pytest.mark.parametrize(
  ("function", "value", "message"),
  [
    (crash, signal.SIGSEGV, r"crashed \(SIGSEGV\)"),
    (crash, signal.SIGKILL, r"crashed \(SIGKILL\)"),
    (leave, 3, r"crashed \(exit code 3\)"),
  ],
)
def test_a_crash_costs_one_call(function, value, message):
  with pytest.raises(faults.FileFaultError, match=message):
    call(function, value)
  assert call(double, 5).value[0] == 10


def killed_once(path, alive):
  if not path.exists():
    path.touch()
    os.kill(os.getpid(), signal.SIGKILL)
  return "done"


def test_what_the_system_kills_has_a_second_go(tmp_path):
  """It may have been out of memory because of others."""
  assert call(killed_once, tmp_path / "tried").value == "done"


def test_a_process_that_was_killed_while_idle_is_no_files_fault():
  _, pid = call(double, 1).value
  os.kill(pid, signal.SIGKILL)
  until = time.monotonic() + 20
  while _runs(pid) and time.monotonic() < until:
    time.sleep(0.05)
  assert call(double, 5).value[0] == 10


def test_what_stands_still_is_killed_whatever_it_ignores():
  _, pid = call(double, 1).value
  with pytest.raises(faults.FileFaultError, match=r"hung: nothing happened for 0\.5 s"):
    call(hang, stall_seconds=0.5)
  with pytest.raises(ProcessLookupError):
    os.kill(pid, 0)
  assert call(double, 5).value[0] == 10


def _runs(pid):
  stat = pathlib.Path(f"/proc/{pid}/stat")
  return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with another one")
def test_what_hangs_ends_with_a_killed_run(repo_root):
  script = (
    "from data_pipelines import isolation\n"
    "from tests.unit.data_pipelines.test_isolation import double, hang\n"
    "print(isolation.call(double, 1, stall_seconds=60).value[1], flush=True)\n"
    "isolation.call(hang, stall_seconds=600)\n"
  )
  with subprocess.Popen(
    [sys.executable, "-c", script], cwd=repo_root, stdout=subprocess.PIPE, text=True
  ) as run:
    assert run.stdout
    pid = int(run.stdout.readline())
    time.sleep(0.5)
    assert _runs(pid)
    run.kill()
  until = time.monotonic() + 20
  while _runs(pid) and time.monotonic() < until:
    time.sleep(0.1)
  assert not _runs(pid)


def test_what_goes_on_may_take_longer_than_the_deadline():
  call(double, 1)
  assert call(long_but_alive, 4.0, stall_seconds=2.0).value == "done"


def test_exceptions_cost_the_file_and_say_where_they_were_raised():
  with pytest.raises(faults.FileFaultError) as caught:
    call(refuse, ValueError("a bad\nfile"))
  assert str(caught.value) == "ValueError: a bad file"
  assert any("in refuse" in note for note in caught.value.__notes__)


class TwoPartsError(Exception):
  def __init__(self, one, two):
    super().__init__(f"{one} and {two}")


def test_exceptions_that_cannot_travel_cost_the_file_as_well():
  with pytest.raises(faults.FileFaultError, match=r"^TwoPartsError: one and two"):
    call(refuse, "TwoPartsError")
  assert call(double, 5).value[0] == 10


@pytest.mark.parametrize(
  ("error", "kind"),
  [
    (OSError(errno.ENOSPC, "No space left on device"), errors.NoSpaceError),
    (OSError(errno.EMFILE, "Too many open files"), faults.MachineFaultError),
    (ConnectionResetError("the store is gone"), faults.MachineFaultError),
  ],
)
def test_exceptions_of_the_machine_cost_no_file(error, kind):
  with pytest.raises(kind, match=str(error.args[-1])):
    call(refuse, error)


def store_with(error, alive):
  with isolation.machine_work(alive):
    raise error


def test_what_goes_wrong_while_results_are_stored_is_the_machines_fault():
  with pytest.raises(faults.MachineFaultError, match="PermissionError: not there"):
    call(store_with, PermissionError(errno.EACCES, "not there"))
  with pytest.raises(errors.NoSpaceError, match="No space left"):
    call(store_with, OSError(errno.ENOSPC, "No space left on device"))


def store_slowly(seconds, alive):
  with isolation.machine_work(alive):
    time.sleep(seconds)
  return "stored"


def test_storing_is_waited_for():
  call(double, 1)
  assert call(store_slowly, 4.0, stall_seconds=2.0).value == "stored"


def fill(gigabytes, alive):
  return len(bytearray(int(gigabytes * 1e9))), os.getpid()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts what a process maps")
def test_memory_is_bounded_for_each_call():
  _, pid = call(double, 1).value
  how = {"stall_seconds": STALL_SECONDS, "max_gigabytes": 1.0}
  assert isolation.call(fill, 0.2, **how).value == (200_000_000, pid)
  with pytest.raises(faults.FileFaultError, match="MemoryError"):
    isolation.call(fill, 1.2, **how)
  length, fresh = isolation.call(fill, 1.2, stall_seconds=STALL_SECONDS).value
  assert (length, fresh == pid) == (1_200_000_000, False)


def test_processor_time_is_measured():
  outcome = call(burn, 0.3)
  assert 0.25 < outcome.cpu_s < 5


def burn(seconds, alive):
  until = time.process_time() + seconds
  while time.process_time() < until:
    pass
