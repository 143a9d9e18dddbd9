"""Slow tests take turns: in four commits each of them is run once, and the others always."""

import pathlib
import types

import pytest
import turns

FILES = {"tests/a.py": 7, "tests/b.py": 1, "tests/c.py": 3}
THIRDS = "tests/a.py"  # its slow tests say turns=3


def chosen(turn: str) -> list[str]:
  """Names of those that are left of slow and fast tests of several files."""
  items = []
  for path, count in FILES.items():
    for number in range(count):
      for kind in ("slow", "fast"):
        mark = types.SimpleNamespace(name=kind, kwargs={"turns": 3} if path == THIRDS else {})
        get = lambda name, mark=mark: mark if name == mark.name else None  # noqa: E731
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


@pytest.mark.parametrize("first", [0, 3, 334])
def test_turns_run_each_slow_test_once(first):
  all_of_them = chosen("all")
  runs = [chosen(str(first + turn)) for turn in range(turns.TURNS)]
  fast = [name for name in all_of_them if "fast" in name]
  assert all([name for name in run if "fast" in name] == fast for run in runs)

  def slow(names, thirds: bool):
    return sorted(n for n in names if "slow" in n and n.startswith(THIRDS) == thirds)

  assert slow([n for run in runs for n in run], False) == slow(all_of_them, False)
  assert slow([n for run in runs[:3] for n in run], True) == slow(all_of_them, True)


@pytest.mark.parametrize("commits", range(5))
def test_the_number_of_commits_says_whose_turn_it_is(commits, monkeypatch):
  monkeypatch.setattr(turns, "number_of_commits", lambda _: commits)
  assert chosen("commit") == chosen(str(commits))


def test_commits_are_counted(repo_root, tmp_path):
  if (repo_root / ".git").exists():
    assert turns.number_of_commits(repo_root) > 0
  assert turns.number_of_commits(tmp_path) == 0
