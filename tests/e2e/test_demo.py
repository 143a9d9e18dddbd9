"""`make demo` itself, on small videos with shorter stages, and what `make` promises."""

import json
import pathlib
import signal
import subprocess
import sys
import time

from miniature_job import LOWRES, SMALL
import pytest

from demo import run as demo

TRAINING = {"autoencoder": 4, "image": 4, "video_lowres": 2, "video_highres": 2}


@pytest.fixture
def short(monkeypatch):
  """The demo's own commands with the sizes of a test."""
  plan = demo.stages

  def stages(run: str, videos: str) -> list[demo.Stage]:
    found = []
    for stage in plan(run, videos):
      command = list(stage.command)
      if command[0] == "curate":
        command += ["--config.select.min_motion_score=0.01", "--config.encode.short_side=48"]
      if command[0] == "train":
        name = next(a for a in command if a.startswith("--workdir")).rsplit("/", 1)[1]
        batch = TRAINING[name]
        command += [*SMALL, f"--config.batch_size={batch}", f"--config.total_samples={4 * batch}"]
        command += LOWRES if name.startswith("video") else LOWRES[:2]
      found.append(demo.Stage(stage.title, command))
    return found

  monkeypatch.setattr(demo, "stages", stages)


def run(monkeypatch, folder: pathlib.Path, videos: pathlib.Path) -> int:
  monkeypatch.setattr(sys, "argv", ["demo", "--run", str(folder), "--videos", str(videos)])
  return demo.main()


@pytest.mark.slow
def test_demo_runs_to_the_end_and_resumes(short, monkeypatch, tmp_path, videos, capfd):
  folder = tmp_path / "runs" / "demo"
  assert run(monkeypatch, folder, videos) == 0
  for name in ("index.html", "eval.json", "samples/contact_sheet.png", "export/model_index.json"):
    assert (folder / name).exists(), name
  metrics = json.loads((folder / "eval.json").read_text())["metrics"]
  for name in ("model", "untrained", "mean_frame", "first_frame"):
    assert any(key.startswith(f"{name}/") for key in metrics), name
  page = (folder / "index.html").read_text()
  for shown in ("square0.mp4", "broken.mp4", "samples/00_generated.mp4"):
    assert shown in page, shown

  capfd.readouterr()
  assert run(monkeypatch, folder, videos) == 0
  out = capfd.readouterr().out
  assert out.count("nothing to do") >= 7, out

  # Another input does not mix with this run, and loses nothing of it.
  other = tmp_path / "other"
  other.mkdir()
  assert run(monkeypatch, folder, other) == 2
  assert (tmp_path / "runs" / "demo.1" / "index.html").exists()


def test_demo_hands_ctrl_c_on_once(tmp_path):
  """A command that gets one stop signal may save; one that gets two gives up."""
  program = (
    "import signal, sys, time\n"
    "got = []\n"
    "signal.signal(signal.SIGINT, lambda *_: got.append(1))\n"
    "open(sys.argv[1], 'w').close()\n"
    "end = time.time() + 20\n"
    "while not got and time.time() < end: time.sleep(0.01)\n"
    "time.sleep(0.5)\n"
    "sys.exit(130 if len(got) == 1 else 1)\n"
  )
  ready = tmp_path / "ready"
  parent = (
    "import sys; from demo import run\n"
    f"command = [sys.executable, '-c', {program!r}, {str(ready)!r}]\n"
    f"sys.exit(run.run_command(command, {str(tmp_path)!r}))"
  )
  process = subprocess.Popen([sys.executable, "-c", parent])
  deadline = time.monotonic() + 30
  while not ready.exists():
    assert time.monotonic() < deadline
    time.sleep(0.05)
  for _ in range(3):  # as a terminal, make and an impatient hand do
    process.send_signal(signal.SIGINT)
    time.sleep(0.05)
  assert process.wait(timeout=30) == 130


def test_make_targets_are_what_the_documents_say(repo_root):
  """`make -n` prints what would run."""

  def recipe(target: str) -> str:
    return subprocess.run(
      ["make", "-n", target, "VIDEOS=here"],
      cwd=repo_root,
      capture_output=True,
      text=True,
      check=True,
    ).stdout

  assert 'demo.run --run "runs/demo" --videos "here"' in recipe("demo")
  assert '-m pytest -m "not slow"' in recipe("test")
  assert "-m pytest" in recipe("test-all")
  assert "not slow" not in recipe("test-all")
  lint = recipe("lint")
  assert all(tool in lint for tool in ("ruff format --check", "ruff check", "pyright"))
