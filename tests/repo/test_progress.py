"""A test run that is cut off has said what failed, and ends by itself when its time is over."""

import subprocess
import sys

FAILS = """
import time
def test_first():
  print("printed by it")
  assert 0, "the reason"
def test_second():
  time.sleep(0.5)
def test_third(): ...
"""
SLOW = """
import pytest
@pytest.mark.slow
def test_slow(): ...
"""
CONFTEST = 'pytest_plugins = ["progress"]'


def ran(folder, repo_root, *flags: str) -> str:
  (folder / "test_a.py").write_text(FAILS)
  (folder / "test_b.py").write_text(SLOW)
  (folder / "conftest.py").write_text(CONFTEST)
  (folder / "pytest.ini").write_text(f"[pytest]\npythonpath={repo_root / 'tests'}\nmarkers=slow: x")
  command = [sys.executable, "-m", "pytest", "-v", *flags]
  return subprocess.run(command, cwd=folder, capture_output=True, text=True).stdout


def test_failures_are_told_at_once_and_slow_files_come_first(tmp_path, repo_root):
  said = ran(tmp_path, repo_root)
  before, _, after = said.partition("= FAILURES =")
  assert "1 failed, 3 passed" in after
  assert "test_a.py::test_first call took" in before
  assert "the reason" in before
  assert "printed by it" in before
  assert before.index("test_b.py::test_slow") < before.index("test_a.py::test_first")


def test_a_run_ends_when_its_time_is_over(tmp_path, repo_root):
  for processes in ((), ("-n", "1")):
    said = ran(tmp_path, repo_root, "--minutes=0.008", *processes)
    assert "the 0.008 minutes of --minutes are over" in said
    assert "the reason" in said
    assert "test_third" not in said
