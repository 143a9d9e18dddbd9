"""The supervisor as a program: real commands that end, hang, crash and leave others behind."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import object_store
import pytest

from launch import supervise
from vidjax.observe import journal

QUICK = ("--first_delay=0.02", "--max_delay=0.04")


def python(code: str) -> list[str]:
  return [sys.executable, "-S", "-c", code]


SUPERVISOR = ("-m", "launch.supervise")


def start(workdir, code: str, *flags: str, supervisor=SUPERVISOR) -> subprocess.Popen:
  return subprocess.Popen(
    [*(sys.executable, *supervisor, f"--workdir={workdir}"), *QUICK, *flags, "--", *python(code)],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def run(workdir, code: str, *flags: str) -> tuple[int, str]:
  process = start(workdir, code, *flags)
  _, said = process.communicate(timeout=60)
  return process.returncode, said


def log(workdir, name="supervisor.jsonl") -> list[dict]:
  return [row for _, row in journal.read(pathlib.Path(workdir) / name)]


def ends(workdir) -> list[dict]:
  return [row for row in log(workdir) if row["event"] == "end"]


def wait_for(path: pathlib.Path, lines: int = 1) -> list[str]:
  deadline = time.monotonic() + 60
  while not path.exists() or len(path.read_text().splitlines()) < lines:
    assert time.monotonic() < deadline, path
    time.sleep(0.01)
  return path.read_text().splitlines()


def say(path, text: str = "'x'") -> str:
  """Code that adds a line to a file."""
  return f"print({text}, file=open({str(path)!r}, 'a'))"


@pytest.fixture(autouse=True)
def _hang_up_is_heard():
  """Also where these tests were started by nohup, which everything they start would inherit."""
  before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
  yield
  signal.signal(signal.SIGHUP, before)


def gone(pid: int) -> bool:
  """Whether a process has ended; one that nobody has waited for has."""
  try:
    return " Z " in pathlib.Path(f"/proc/{pid}/stat").read_text()
  except FileNotFoundError:
    return True


@pytest.mark.parametrize(("ending", "code"), [("0", 0), ("2", 2), ("4", 4), ("7", 7), ("130", 130)])
def test_ends_with_the_code_after_one_run(tmp_path, ending, code):
  assert run(tmp_path, f"import sys; sys.exit({ending})")[0] == code
  assert [row["event"] for row in log(tmp_path)] == ["start", "end"]
  (end,) = ends(tmp_path)
  assert end["code"] == code
  assert end["decision"] == ("stop" if code else "done")
  assert 0 <= end["seconds"] < 60


def test_restarts_until_it_is_done(tmp_path):
  """An error, a data error, a crash, a kill from outside, a preemption; then it is done."""
  code = (
    f"import os, sys; {say(tmp_path / 'runs')};"
    f"n = len(open({str(tmp_path / 'runs')!r}).readlines());"
    "n == 3 and os.kill(os.getpid(), 11); n == 4 and os.kill(os.getpid(), 9);"
    "sys.exit([1, 3, 0, 0, 75, 0][n - 1])"
  )
  returned, said = run(tmp_path, code, "--max_failures=9")
  assert returned == 0
  assert [row["code"] for row in ends(tmp_path)] == [1, 3, -11, -9, 75, 0]
  assert [row["failures"] for row in ends(tmp_path)] == [1, 2, 3, 4, 5, 5]
  delays = [row["delay"] for row in ends(tmp_path)]
  assert all(0 < delay <= 0.04 for delay in delays[:4])
  assert delays[4:] == [0.0, 0.0]
  decisions = [line for line in said.splitlines() if line.startswith("supervise: ")]
  assert len(decisions) == 6
  assert "ended by signal 11; again in 0.0 s" in decisions[2]


def test_gives_up_without_progress_and_keeps_the_last_words(tmp_path):
  code = "import sys; print(*range(50), sep='\\n', file=sys.stderr); sys.exit('the \\xe4 end')"
  returned, said = run(tmp_path, code, "--max_failures=2")
  assert returned == 1
  assert "2 failures in a row without progress" in said.splitlines()[-1]
  assert "ending with code 1" in said.splitlines()[-1]
  assert said.count("\n49\n") == 2, "stderr is passed through"
  last = ends(tmp_path)[-1]
  assert (last["decision"], last["failures"]) == ("stop", 2)
  assert last["stderr"][-2:] == ["49", "the ä end"]
  assert len(last["stderr"]) == 20


def test_progress_is_what_the_workdir_says(tmp_path):
  """Six failures, of which never two in a row came no further."""
  metrics = tmp_path / "metrics.jsonl"
  code = (
    f"import sys; p = {str(metrics)!r};"
    "n = len(open(p, 'a+').readlines() or open(p).readlines());"
    "print('{\"step\": %d}' % (n // 2), file=open(p, 'a'));"
    "sys.exit(1 if n < 6 else 0)"
  )
  assert run(tmp_path, code, "--max_failures=3")[0] == 0
  assert [row["failures"] for row in ends(tmp_path)][:6] == [1, 2, 1, 2, 1, 2]
  assert ends(tmp_path)[-1]["step"] == 3


# Counts the signals that it gets, and ends in order at the first.
ORDERLY = """
import os, signal, sys, time
def stop(number, frame):
  print(number, file=open({path!r}, "a"), flush=True)
  time.sleep(0.3)
  sys.exit(75 if number == signal.SIGTERM else 130)
for number in (signal.SIGTERM, signal.SIGINT):
  signal.signal(number, stop)
signal.signal(signal.SIGUSR1, lambda number, frame: print(number, file=open({path!r}, "a")))
print("ready", file=open({path!r}, "a"), flush=True)
while True:
  time.sleep(0.1)
"""


@pytest.mark.parametrize(
  ("number", "code", "arrives"),
  [(signal.SIGTERM, 75, 15), (signal.SIGINT, 130, 2), (signal.SIGHUP, 75, 15)],
)
def test_a_stop_is_passed_on_once(tmp_path, number, code, arrives):
  seen = tmp_path / "seen"
  process = start(tmp_path, ORDERLY.format(path=str(seen)))
  wait_for(seen)
  process.send_signal(signal.SIGUSR1)
  wait_for(seen, 2)
  process.send_signal(number)
  wait_for(seen, 3)
  if number == signal.SIGTERM:
    process.send_signal(number)  # of Slurm, when the time is up: nothing new
  assert process.wait(timeout=60) == code
  process.communicate()
  assert seen.read_text().split() == ["ready", str(int(signal.SIGUSR1)), str(arrives)]
  assert ends(tmp_path)[-1]["decision"] == "stop"


# Hears no signal, as one that hangs; and has a worker in its group.
DEAF = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGINT, signal.SIG_IGN)
worker = os.fork()
if worker:
  print(os.getpid(), worker, file=open({path!r}, "a"), flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_what_does_not_end_is_killed_with_its_workers(tmp_path, number, code):
  pids = tmp_path / "pids"
  process = start(tmp_path, DEAF.format(path=str(pids)), "--grace=0.5")
  (line,) = wait_for(pids)
  began = time.monotonic()
  process.send_signal(number)
  assert process.wait(timeout=60) == code
  assert time.monotonic() - began >= 0.5
  process.communicate()
  assert all(gone(int(pid)) for pid in line.split())
  (end,) = ends(tmp_path)
  assert (end["code"], end["decision"]) == (-9, "stop")


def test_a_second_ctrl_c_does_not_wait(tmp_path):
  pids = tmp_path / "pids"
  process = start(tmp_path, DEAF.format(path=str(pids)), "--grace=500")
  wait_for(pids)
  process.send_signal(signal.SIGINT)
  time.sleep(0.2)
  assert process.poll() is None
  process.send_signal(signal.SIGINT)
  assert process.wait(timeout=30) == 130
  process.communicate()


def test_a_command_without_handlers_ends_by_the_signal(tmp_path):
  ready = tmp_path / "ready"
  process = start(tmp_path, f"import time; {say(ready)}; time.sleep(600)")
  wait_for(ready)
  process.terminate()
  assert process.wait(timeout=30) == 75
  process.communicate()


def test_a_stop_between_two_runs_ends_at_once(tmp_path):
  process = start(tmp_path, "import sys; sys.exit(1)", "--first_delay=500", "--max_delay=500")
  wait_for(tmp_path / "supervisor.jsonl", 2)
  time.sleep(0.1)
  process.terminate()
  assert process.wait(timeout=30) == 75
  process.communicate()
  assert log(tmp_path)[-1] | {"time": 0} == {"time": 0, "event": "stopped", "signal": "SIGTERM"}


def test_workers_that_a_crash_left_behind_are_gone_before_the_next_run(tmp_path):
  pids = tmp_path / "pids"
  code = f"import os, time; w = os.fork(); w or time.sleep(600); {say(pids, 'w')}; os._exit(1)"
  assert run(tmp_path, code, "--max_failures=2")[0] == 1
  workers = [int(line) for line in pids.read_text().split()]
  assert len(workers) == 2
  assert all(gone(pid) for pid in workers)


def test_orphans_are_reaped_as_by_the_first_process_of_a_container(tmp_path):
  """Made the one to whom orphans go, which only process 1 is otherwise."""
  reaper = (
    "import ctypes, sys; from launch import supervise;"
    "ctypes.CDLL(None).prctl(36, 1, 0, 0, 0);"  # PR_SET_CHILD_SUBREAPER
    "sys.exit(supervise.main(sys.argv[1:]))"
  )
  pids, done = tmp_path / "pids", tmp_path / "done"
  code = f"""
import os, pathlib, time
if not os.fork():
  os.setsid()                            # not of the group that is killed at the end
  if os.fork():
    os._exit(0)                          # and an orphan from here on
  {say(pids, "os.getpid()")}
  os._exit(0)
os.wait()
while not pathlib.Path({str(done)!r}).exists():
  time.sleep(0.01)
"""
  process = start(tmp_path, code, supervisor=("-c", reaper))
  (orphan,) = wait_for(pids)
  deadline = time.monotonic() + 30
  while os.path.exists(f"/proc/{orphan}"):
    assert time.monotonic() < deadline, "it stays a zombie"
    time.sleep(0.01)
  done.touch()
  assert process.wait(timeout=30) == 0
  process.communicate()


def test_a_command_that_is_not_there(tmp_path):
  done = subprocess.run(
    [sys.executable, "-m", "launch.supervise", f"--workdir={tmp_path}", "--", "no-such-program"],
    capture_output=True,
    text=True,
  )
  assert done.returncode == 127
  assert "no-such-program cannot be started" in done.stderr
  assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    (["--workdir=x"], "say what to run, after --"),
    (["--workdir=x", "--max_failures=0", "--", "true"], "at least 1"),
    (["--workdir=x", "--grace=-1", "--", "true"], "0 or more"),
    (["--work=x", "--", "true"], "--workdir"),
  ],
)
def test_flags_that_are_not_possible(flags, message, capsys):
  with pytest.raises(SystemExit) as info:
    supervise.main(flags)
  assert info.value.code == 2
  assert message in capsys.readouterr().err


def test_log_in_an_object_store(monkeypatch):
  monkeypatch.setenv("SLURM_PROCID", "3")
  with object_store.serve() as store, store.environment():
    assert run("gs://bucket/run", "import sys; sys.exit(3)", "--max_failures=2")[0] == 3
    assert store.names("bucket") == ["run/supervisor_3.jsonl"]
    rows = [row for _, row in journal.read("gs://bucket/run/supervisor_3.jsonl")]
  assert [row["event"] for row in rows] == ["start", "end"] * 2
  assert json.dumps(rows).count("data") == 2


def test_a_workdir_that_cannot_be_written_holds_nothing_up(tmp_path):
  (tmp_path / "file").write_text("no folder")
  code, said = run(tmp_path / "file", "import sys; sys.exit(1)", "--max_failures=2")
  assert code == 1
  assert "cannot be written" in said
  assert "Traceback" not in said
