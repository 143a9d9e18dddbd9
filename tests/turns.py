"""A third of the slow tests at each commit, all of them in three: hooks for pytest.

  pytest --turn=commit    the third whose turn it is at this commit, by the number of commits
  pytest --turn=1         that third, of 0, 1 and 2
  pytest --turn=all       all; the default

Slow tests of a file take turns in their order, so that each kind of test is in each third. Tests
that are not slow are always run.
"""

import pathlib
import subprocess
import zlib

import pytest

THIRDS = 3


def pytest_addoption(parser: pytest.Parser) -> None:
  choices = ["all", "commit", *map(str, range(THIRDS))]
  parser.addoption("--turn", default="all", choices=choices, help="Which slow tests are run.")


def number_of_commits(folder: pathlib.Path) -> int:
  """Of the checkout; 0 where there is none."""
  count = ["git", "-C", str(folder), "rev-list", "--count", "HEAD"]
  done = subprocess.run(count, capture_output=True, text=True)
  return int(done.stdout) if done.returncode == 0 else 0


def turn_of(path: str, place: int) -> int:
  """In which third a slow test is run: the `place`-th one of the file at `path`."""
  return (zlib.crc32(path.encode()) + place) % THIRDS


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
  asked = config.getoption("turn")
  if asked == "all":
    return
  now = number_of_commits(config.rootpath) if asked == "commit" else int(asked)
  seen: dict[str, int] = {}
  chosen, left = [], []
  for item in items:
    path = item.nodeid.split("::")[0]
    if item.get_closest_marker("slow") is None:
      chosen.append(item)
      continue
    place = seen[path] = seen.get(path, -1) + 1
    (chosen if turn_of(path, place) == now % THIRDS else left).append(item)
  items[:] = chosen
  if left:
    config.hook.pytest_deselected(items=left)
