"""`make demo` itself, on small videos with shorter stages, and what `make` promises."""

from collections.abc import Iterator
import hashlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

from array_record.python import array_record_module
from miniature_job import environment
import pyarrow.parquet as parquet
import pytest

from vidjax import storage
from vidjax.checkpoint import layout

TRAINING = {2: "autoencoder", 4: "image", 5: "video_lowres", 6: "video_highres"}  # by stage


def command(run: pathlib.Path, videos: pathlib.Path) -> list[str]:
  return [sys.executable, "-m", "tests.miniature_demo", "--run", str(run), "--videos", str(videos)]


def run(folder: pathlib.Path, videos: pathlib.Path, code: int = 0) -> str:
  done = subprocess.run(
    command(folder, videos), capture_output=True, text=True, timeout=600, env=environment()
  )
  assert done.returncode == code, done.stdout + done.stderr
  return done.stdout


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, videos) -> pathlib.Path:
  folder = tmp_path_factory.mktemp("runs") / "demo"
  run(folder, videos)
  return folder


@pytest.mark.slow
def test_demo_runs_to_the_end_and_resumes(undisturbed, videos, tmp_path):
  for name in ("index.html", "eval.json", "samples/contact_sheet.png", "export/model_index.json"):
    assert (undisturbed / name).exists(), name
  metrics = json.loads((undisturbed / "eval.json").read_text())["metrics"]
  for name in ("model", "untrained", "mean_frame", "first_frame"):
    assert any(key.startswith(f"{name}/") for key in metrics), name
  page = (undisturbed / "index.html").read_text()
  for shown in ("square0.mp4", "broken.mp4", "samples/00_generated.mp4"):
    assert shown in page, shown

  out = run(undisturbed, videos)
  assert out.count("nothing to do") >= 7, out


@pytest.mark.slow
def test_ctrl_c_in_each_stage_changes_nothing(undisturbed, videos, tmp_path):
  folder = tmp_path / "demo"
  for number in range(1, 9):
    # A stage may end before the signal is there; it can be interrupted in the next run, too.
    attempts = (interrupted(folder, videos, number) for _ in range(5))
    assert any(f"interrupted in stage {number}" in err for err in attempts), number
  run(folder, videos)

  assert names(folder) == names(undisturbed)
  for table in ("clips.parquet", "rejects.parquet"):
    one, other = (parquet.read_table(root / "clips" / table) for root in (folder, undisturbed))
    assert one.equals(other), table
  for record, expected in zip(records(folder), records(undisturbed), strict=True):
    assert record == expected
  for name in TRAINING.values():
    for step in (undisturbed / name / "checkpoints").iterdir():
      one, other = (
        layout.read_record(storage.Path(root / name / "checkpoints" / step.name))
        for root in (folder, undisturbed)
      )
      assert one.leaves == other.leaves, step  # shapes, dtypes and checksums
  for path in names(undisturbed):
    if path.endswith((".safetensors", ".mp4", ".png", ".npz")):
      one, other = (
        hashlib.sha256((root / path).read_bytes()).hexdigest() for root in (folder, undisturbed)
      )
      assert one == other, path


def interrupted(folder: pathlib.Path, videos: pathlib.Path, number: int) -> str:
  """Sends Ctrl-C to a run when stage `number` is under way; returns what it says."""
  process = subprocess.Popen(
    command(folder, videos),
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    env=environment(),
  )
  begun = folder / TRAINING.get(number, "") / "run.json"
  shows = number in TRAINING and not begun.exists()  # it shows when training is under way
  for line in process.stdout:
    if line.startswith(f"[{number}/8]"):
      break
  deadline = time.monotonic() + (60 if shows else 0.6)
  while not (shows and begun.exists()) and time.monotonic() < deadline:
    time.sleep(0.02)
  process.send_signal(signal.SIGINT)
  _, err = process.communicate(timeout=120)
  assert process.returncode in (0, 130), err
  assert "Traceback" not in err
  return err


def names(root: pathlib.Path) -> set[str]:
  """Files of a run; those inside a checkpoint have names by chance, those of logs by the clock."""
  found = set()
  for path in root.rglob("*"):
    name = str(path.relative_to(root))
    if path.is_file() and not name.startswith(".jax_cache") and "tensorboard" not in name:
      found.add(re.sub(r"(checkpoints/\d+)/.*", r"\1", name))
  return found


def records(root: pathlib.Path) -> Iterator[bytes]:
  for path in sorted((root / "clips" / "shards").glob("*array_record*")):
    yield from array_record_module.ArrayRecordReader(str(path)).read_all()


@pytest.mark.slow
def test_another_input_sets_the_run_before_aside(undisturbed, tmp_path):
  copy = tmp_path / "runs" / "demo"
  copy.mkdir(parents=True)
  for name in ("input.json", "index.html"):
    (copy / name).write_bytes((undisturbed / name).read_bytes())
  other = tmp_path / "other"
  other.mkdir()
  run(copy, other, code=2)
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
  # Of a make that runs the tests, with values of its own.
  outer = ("MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "TURN", "MINUTES", "ARGS", "JOBS")
  environ = {name: value for name, value in os.environ.items() if name not in outer}

  def recipe(target: str) -> str:
    return subprocess.run(
      ["make", "-n", target, "VIDEOS=here"],
      cwd=repo_root,
      capture_output=True,
      text=True,
      check=True,
      env=environ,
    ).stdout

  assert 'demo.run --run "runs/demo" --videos "here"' in recipe("demo")
  assert re.search(r'-m pytest .*-m "not slow"', recipe("test"))
  assert "-m pytest" in recipe("test-all")
  assert "not slow" not in recipe("test-all")
  assert "--turn=commit" in recipe("test-all")
  lint = recipe("lint")
  assert all(tool in lint for tool in ("ruff format --check", "ruff check", "pyright"))
