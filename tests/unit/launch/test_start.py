"""The command: what it shows, what it runs, and with which code it ends."""

import os
import pathlib
import shlex
import subprocess
import sys

import pytest

from launch import preflight, start
from tests.unit.launch.descriptions import GPU, TPU, written
from tests.unit.launch.test_rendered_scripts import program, recorded, recorder

PROGRAMS = {"gke": "kubectl", "xpk": "xpk", "tpu_vm": "gcloud", "slurm": "sbatch"}


@pytest.fixture
def bin_folder(tmp_path, monkeypatch):
  """An empty folder that comes first on PATH, and the working directory."""
  folder = tmp_path / "bin"
  folder.mkdir()
  monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
  return folder


def description(folder: pathlib.Path, place: str, *changes: tuple[str, str]) -> str:
  return written(folder, GPU if place == "slurm" else TPU, *changes)


@pytest.mark.parametrize("place", PROGRAMS)
def test_what_is_run_is_what_was_shown(tmp_path, bin_folder, capsys, place):
  recorder(bin_folder, PROGRAMS[place])
  path = description(tmp_path, place)
  more = [f"--on={place}", f"--out={tmp_path}/a b", "--preflight=no_plan"]
  note = "--config.data.template=it's {caption} $HOME"
  assert start.main([path, *more, note, "--dry_run"]) == 0
  shown = capsys.readouterr().out
  assert recorded(bin_folder, PROGRAMS[place]) == []
  would_run = [
    line.removeprefix("would run  ") for line in shown.splitlines() if "would run" in line
  ]
  assert start.main([path, *more, note]) == 0
  said = capsys.readouterr().out
  ran = [[PROGRAMS[place], *words] for words in recorded(bin_folder, PROGRAMS[place])]
  assert ran == [shlex.split(line) for line in would_run]
  assert {"watch", "stop", "resume"} <= {line.split(" ")[0] for line in said.splitlines()}
  for file in (tmp_path / "a b").glob("*"):
    assert f"--- {file}\n{file.read_text().rstrip()}\n---" in shown
  if place != "xpk":
    assert str(tmp_path / "a b") in " ".join(map(str, ran))


def test_a_dry_run_leaves_no_files(tmp_path, monkeypatch):
  path = description(tmp_path, "slurm")
  config = "configs/svd/video_lowres.py"
  monkeypatch.chdir(tmp_path)
  (tmp_path / "configs").symlink_to(pathlib.Path(__file__).parents[3] / "configs")
  assert pathlib.Path(config).exists()
  before = sorted(tmp_path.rglob("*"))
  assert start.main([path, "--on=slurm", "--dry_run"]) == 0
  assert sorted(tmp_path.rglob("*")) == before
  program(tmp_path, "sbatch", "exit 0")
  monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
  assert start.main([path, "--on=slurm"]) == 0
  assert (tmp_path / "runs" / "launch" / "run" / "run.sbatch").exists()


@pytest.mark.parametrize("place", PROGRAMS)
def test_a_program_that_is_missing_is_named(tmp_path, monkeypatch, capsys, place):
  monkeypatch.setenv("PATH", str(tmp_path))
  more = [f"--on={place}", f"--out={tmp_path}/out", "--preflight=no_plan"]
  assert start.main([description(tmp_path, place), *more]) == 2
  assert f"{PROGRAMS[place]} is not installed here" in capsys.readouterr().err


def test_a_program_that_fails_ends_it(tmp_path, bin_folder, capsys):
  recorder(bin_folder, "kubectl", 3)
  path = description(tmp_path, "gke")
  assert start.main([path, "--on=gke", f"--out={tmp_path}/o", "--preflight=no_plan"]) == 1
  both = capsys.readouterr()
  assert "kubectl ended with exit code 3" in both.err
  assert "watch" not in both.out


def test_what_the_preflight_refuses_is_not_started(tmp_path, bin_folder, capsys):
  recorder(bin_folder, "kubectl")
  path = description(tmp_path, "gke", ("vidjax:1.0", "vidjax"))
  out = tmp_path / "out"
  for more in ([], ["--dry_run"]):
    assert start.main([path, "--on=gke", f"--out={out}", "--preflight=no_plan", *more]) == 2
    both = capsys.readouterr()
    assert "preflight  refused  image 'us-docker.pkg.dev/p/r/vidjax' has no tag" in both.out
    assert "the preflight refuses: image" in both.err
    assert ("would run  kubectl create" in both.out) == bool(more)
  assert recorded(bin_folder, "kubectl") == []


def test_the_planner_is_asked_unless_it_is_said_otherwise(tmp_path, monkeypatch, capsys):
  asked = []

  def plan(command):
    asked.append(command)
    return 2, "", "vidjax: error: too large; by a quick estimate batch_size=4 is the largest"

  monkeypatch.setattr(preflight, "run_plan", plan)
  monkeypatch.setattr(preflight.importlib.util, "find_spec", lambda name: True)
  path = description(tmp_path, "gke")
  assert start.main([path, "--on=gke", "--dry_run", "--preflight=no_plan"]) == 0
  assert asked == []
  assert "NOT PLANNED" in capsys.readouterr().out
  assert start.main([path, "--on=gke", "--dry_run", "--config.batch_size=64"]) == 2
  assert "--config.batch_size=64" in asked[0]
  assert "batch_size=4 is the largest" in capsys.readouterr().err


@pytest.mark.parametrize(
  "arguments", [["--on=gke"], ["job.toml"], ["job.toml", "--on=moon"], ["a", "--on=gke", "--dry"]]
)
def test_flags_that_are_wrong(arguments, capsys):
  with pytest.raises(SystemExit) as ended:
    start.main(arguments)
  assert ended.value.code == 2
  assert "usage" in capsys.readouterr().err


def test_a_description_that_is_not_there(capsys):
  assert start.main(["nowhere.toml", "--on=local"]) == 2
  assert "nowhere.toml" in capsys.readouterr().err


def test_the_documented_commands(repo_root, monkeypatch, capsys):
  """As they stand in the guide; the planner's minutes are spared."""
  monkeypatch.syspath_prepend(str(repo_root / "tests" / "repo"))
  monkeypatch.chdir(repo_root)
  import documented_commands

  here = "tests/unit/launch/test_start.py::test_the_documented_commands"
  commands = [c for c, where in documented_commands.RUN_BY.items() if where == here]
  assert len(commands) == 5
  monkeypatch.setattr(preflight, "run_plan", lambda command: (0, "memory     fits\n", ""))
  monkeypatch.setattr(preflight.importlib.util, "find_spec", lambda name: True)
  for command in commands:
    python, dash, module, *arguments = shlex.split(command)
    assert (python, dash, module) == ("python", "-m", "launch.start")
    assert "--dry_run" in arguments, "a test starts nothing"
    assert start.main(arguments) == 0, command
    out = capsys.readouterr().out
    assert "would run" in out
    assert "refused" not in out


@pytest.mark.slow
def test_a_local_run_trains_to_its_end_and_its_code_is_ours(tmp_path, repo_root):
  from miniature_job import ONE_LEVEL, PICTURES, SMALL, environment

  text = (repo_root / "launch" / "jobs" / "tiny_local.toml").read_text()
  assert 'workdir = "runs/tiny"' in text
  path = tmp_path / "tiny.toml"
  path.write_text(text.replace("runs/tiny", str(tmp_path / "run")))

  def at(*overrides: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
      [
        *(sys.executable, "-m", "launch.start", str(path), "--on=local"),
        *(*PICTURES, *ONE_LEVEL, *SMALL, "--config.data.num_frames=4", *overrides),
      ],
      cwd=repo_root,
      env=environment(),
      capture_output=True,
      text=True,
      timeout=300,
    )

  done = at("--config.total_samples=4")
  assert done.returncode == 0, done.stderr
  assert "watch" in done.stdout
  assert "trained 2 steps" in done.stdout
  assert (tmp_path / "run" / "supervisor.jsonl").exists()
  assert (tmp_path / "run" / "checkpoints" / "2" / "commit_success.txt").exists()
  # What training refuses for itself comes back as its own code.
  refused = at("--config.total_samples=8", "--config.optimizer.freeze=no_such_name")
  assert refused.returncode == 2, refused.stdout
  assert "ending with code 2" in refused.stderr
