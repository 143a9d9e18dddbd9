"""Slow tests take turns: in three commits each of them is run once, and the others always."""

import pathlib
import types

import pytest
import turns

FILES = {"tests/a.py": 7, "tests/b.py": 1, "tests/c.py": 3}


def chosen(turn: str) -> list[str]:
  """Names of those that are left of slow and fast tests of several files."""
  items = []
  for path, count in FILES.items():
    for number in range(count):
      for kind in ("slow", "fast"):
        marks = {kind}
        get = lambda name, marks=marks: name if name in marks else None  # noqa: E731
        name = f"{path}::{kind}{number}"
        items.append(types.SimpleNamespace(nodeid=name, get_closest_marker=get))
  left = []
  config = types.SimpleNamespace(
    rootpath=pathlib.Path(__file__).parent,
    getoption=lambda _: turn,
    hook=types.SimpleNamespace(pytest_deselected=lambda items: left.extend(items)),
  )
  before = list(items)
  turns.pytest_collection_modifyitems(config, items)  # type: ignore[arg-type]
  assert [item for item in before if item not in items] == left
  return [item.nodeid for item in items]


def test_three_turns_run_each_slow_test_once():
  all_of_them = chosen("all")
  thirds = [chosen(str(turn)) for turn in range(turns.THIRDS)]
  slow = sorted(name for third in thirds for name in third if "slow" in name)
  assert slow == sorted(name for name in all_of_them if "slow" in name)
  fast = [name for name in all_of_them if "fast" in name]
  assert all([name for name in third if "fast" in name] == fast for third in thirds)


@pytest.mark.parametrize("commits", range(4))
def test_the_number_of_commits_says_whose_turn_it_is(commits, monkeypatch):
  monkeypatch.setattr(turns, "number_of_commits", lambda _: commits)
  assert chosen("commit") == chosen(str(commits % turns.THIRDS))


def test_commits_are_counted(repo_root, tmp_path):
  if (repo_root / ".git").exists():
    assert turns.number_of_commits(repo_root) > 0
  assert turns.number_of_commits(tmp_path) == 0
