"""Scenarios of `scenarios.py` on real processes, with a seed that is new at each commit.

`FAULTS_SEED` gives another one; `benchmarks/fault_rounds.py` runs round after round.
"""

import os

import pytest
import runs
from scenarios import SCENARIOS, Case
from turns import number_of_commits

pytestmark = pytest.mark.slow(turns=3)


@pytest.fixture(scope="module")
def references(tmp_path_factory):
  return tmp_path_factory.mktemp("undisturbed")


@pytest.fixture(autouse=True)
def _nothing_is_left_running():
  yield
  runs.kill_what_is_left()


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario(name, references, tmp_path, repo_root, record_property):
  seed = int(os.environ.get("FAULTS_SEED", number_of_commits(repo_root)))
  record_property("seed", seed)
  try:
    record_property("what", SCENARIOS[name](Case(seed, tmp_path, references, most_processes=2)))
  except AssertionError as error:
    raise AssertionError(f"with FAULTS_SEED={seed}: {error}") from error
