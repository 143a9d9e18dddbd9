"""A quarter of the slow tests at each commit, all of them in four: hooks for pytest.

  pytest --turn=commit    those whose turn it is at this commit, by the number of commits
  pytest --turn=1         those whose turn it is after so many commits
  pytest --turn=all       all; the default

Slow tests of a file take turns in their order, so that each kind of test is in each turn.
`slow(turns=3)` marks some that are run at every third commit. Tests that are not slow are always
run.
"""

import pathlib
import subprocess
import zlib

import pytest

TURNS = 4


def pytest_addoption(parser: pytest.Parser) -> None:
  parser.addoption("--turn", default="all", help="Which slow tests are run: all, commit or N.")


def number_of_commits(folder: pathlib.Path) -> int:
  """Of the checkout; 0 where there is none."""
  count = ["git", "-C", str(folder), "rev-list", "--count", "HEAD"]
  done = subprocess.run(count, capture_output=True, text=True)
  return int(done.stdout) if done.returncode == 0 else 0


def is_its_turn(path: str, place: int, commits: int, turns: int = TURNS) -> bool:
  """Whether the `place`-th slow test of the file at `path` is run after so many commits."""
  return (zlib.crc32(path.encode()) + place - commits) % turns == 0


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
  asked = config.getoption("turn")
  if asked == "all":
    return
  now = number_of_commits(config.rootpath) if asked == "commit" else int(asked)
  seen: dict[str, int] = {}
  chosen, left = [], []
  for item in items:
    path = item.nodeid.split("::")[0]
    slow = item.get_closest_marker("slow")
    if slow is None:
      chosen.append(item)
      continue
    place = seen[path] = seen.get(path, -1) + 1
    (chosen if is_its_turn(path, place, now, **slow.kwargs) else left).append(item)
  items[:] = chosen
  if left:
    config.hook.pytest_deselected(items=left)
