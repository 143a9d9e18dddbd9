"""Scenarios of `scenarios.py` on real processes: a third of them in each run, all in three runs.

Which third, and the seed, follow from the number of commits; `FAULTS=all` runs all of them, with
the seed `FAULTS_SEED`. `benchmarks/fault_rounds.py` runs round after round.
"""

import os
import subprocess

import pytest
from scenarios import SCENARIOS, Case

pytestmark = pytest.mark.slow


def _commits(repo_root) -> int:
  count = ["git", "-C", str(repo_root), "rev-list", "--count", "HEAD"]
  done = subprocess.run(count, capture_output=True, text=True)
  return int(done.stdout) if done.returncode == 0 else 0  # not a checkout: an installed package


@pytest.fixture(scope="module")
def references(tmp_path_factory):
  return tmp_path_factory.mktemp("undisturbed")


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario(name, references, tmp_path, repo_root, record_property):
  number = _commits(repo_root)
  turn = list(SCENARIOS).index(name) % 3
  if os.environ.get("FAULTS") != "all" and number % 3 != turn:
    pytest.skip(f"its turn is when the number of commits, {number} now, has remainder {turn}")
  seed = int(os.environ.get("FAULTS_SEED", number))
  record_property("seed", seed)
  try:
    record_property("what", SCENARIOS[name](Case(seed, tmp_path, references)))
  except AssertionError as error:
    raise AssertionError(f"with FAULTS_SEED={seed}: {error}") from error
