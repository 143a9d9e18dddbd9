"""Who may write into a workdir, with real processes as the others."""

import pathlib
import signal
import subprocess
import sys
import time

import pytest

from vidjax import storage
from vidjax.errors import UserError
from vidjax.observe import lease, run_info

ROOT = pathlib.Path(__file__).parents[3]

# Claims the workdir at a given moment, says so and waits for its end.
CLAIM = """
import sys, time
from vidjax import errors, storage
from vidjax.observe import lease
root = storage.Path(sys.argv[1])
def main():
  time.sleep(max(0, float(sys.argv[2]) - time.time()))
  with lease.exclusive(root):
    mine = lease.claim(root)
    storage.write_json(root / lease.FILE, mine.to_json() | {"started": "2026-01-01"})
  print("owner", mine.attempt, flush=True)
  sys.stdin.read()
sys.exit(errors.run_main(main))
"""


def _start(root, at=0.0) -> subprocess.Popen:
  return subprocess.Popen(
    [sys.executable, "-c", CLAIM, str(root), str(at)],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    cwd=ROOT,
  )


@pytest.fixture
def root(tmp_path) -> storage.Path:
  return storage.Path(tmp_path)


def _begin(root) -> lease.Lease:
  mine = lease.claim(root)
  storage.write_json(root / lease.FILE, mine.to_json() | {"started": "2026-01-01"})
  return mine


@pytest.fixture
def other(root):
  """A live process that owns the workdir."""
  process = _start(root)
  assert process.stdout is not None
  assert process.stdout.readline() == "owner 1\n"
  yield process
  process.kill()
  process.communicate()


def test_attempts_of_one_process_follow_each_other(root):
  first, second = _begin(root), _begin(root)
  assert (first.attempt, second.attempt) == (1, 2)
  assert first.run == second.run
  assert first.id != second.id
  assert second.lost() == ""
  assert "attempt 2" in first.lost()


def test_live_process_of_this_host_is_not_disturbed(root, other):
  with pytest.raises(UserError) as error:
    lease.claim(root)
  host = lease.this_process()["host"]
  for part in (str(root), f"process {other.pid}", host, "2026-01-01", f"kill {other.pid}"):
    assert part in str(error.value)


def test_killed_process_is_followed_also_before_its_parent_has_noticed(root, other):
  other.send_signal(signal.SIGKILL)
  state = pathlib.Path(f"/proc/{other.pid}/stat")
  while state.read_text().rpartition(")")[2].split()[0] != "Z":
    time.sleep(0.01)
  assert lease.claim(root).attempt == 2
  other.communicate()
  assert lease.claim(root).attempt == 2


@pytest.mark.parametrize("changed", [{"start_ticks": 1}, {"host": "elsewhere"}, {"boot": "before"}])
def test_what_is_not_proven_alive_is_followed_and_fenced(root, other, changed):
  run = lease.read(root)
  older = lease.Lease(root, run["id"], run["run"], 1)
  assert older.lost() == ""
  run["process"] |= changed
  storage.write_json(root / lease.FILE, run)
  _begin(root)
  assert older.lost() == (
    f"another run, attempt 2 on {lease.this_process()['host']} since 2026-01-01, has taken over"
    f" {root}; this one stops and writes nothing more"
  )


def test_of_those_that_begin_at_once_one_stays(root):
  """A race that the kernel's lock decides; three rounds of three."""
  for attempt in range(1, 4):
    started = [_start(root, at=time.time() + 1.5) for _ in range(3)]
    owners, refused = [], []
    for process in started:
      assert process.stdout is not None
      (owners if process.stdout.readline() == f"owner {attempt}\n" else refused).append(process)
    said = [process.communicate(timeout=30)[1] for process in refused]
    for process in owners:
      process.communicate(timeout=30)
    assert len(owners) == 1
    assert [process.returncode for process in refused] == [2, 2]
    assert all(f"process {owners[0].pid} on" in text for text in said)


@pytest.mark.parametrize(
  "content", ["", "{", "[]", "null", "{}", '{"attempt": "x"}', '{"attempt": null}', "\xff\0"]
)
def test_garbage_is_refused(root, content):
  (root / lease.FILE).write_text(content)
  with pytest.raises(UserError, match=r"is damaged, .* remove the file"):
    lease.claim(root)


def test_file_of_an_older_version_is_followed(root):
  storage.write_json(root / lease.FILE, {"attempt": 3})
  assert lease.claim(root).attempt == 4


@pytest.mark.parametrize("content", [None, "{", "[]"])
def test_workdir_that_is_gone_is_lost(root, monkeypatch, content):
  monkeypatch.setattr(lease, "_PAUSES", (0.0, 0.0))
  mine = _begin(root)
  (root / lease.FILE).unlink()
  if content is not None:
    (root / lease.FILE).write_text(content)
  assert "run.json cannot be read" in mine.lost()


def test_facts_of_programs_are_not_added_to_the_file_of_another(root, other):
  before = lease.read(root)
  run_info.add_program(root, {"flops": 1})
  assert lease.read(root) == before
  other.kill()
  other.wait()
  _begin(root)
  run_info.add_program(root, {"flops": 1})
  assert lease.read(root)["programs"] == [{"flops": 1}]
