"""`vidjax evaluate` on UCF-101's own files and the tiny model: the guide's commands, and kills."""

import json
import pathlib
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time

from miniature_job import environment, run_vidjax
import numpy as np
import pytest

from tests.parity import feature_files, feature_networks
from vidjax.evaluation import sample_plan

pytestmark = pytest.mark.slow

VIDEOS = ("v_SoccerJuggling_g23_c01.avi", "v_BaseballPitch_g01_c01.avi")
# Two videos of 13,320 are here, and six samples are enough to go through everything.
SMALL = ("--limit=6", "--allow_missing", "--steps=2", "--batch_size=4")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, job, shared_data):
  """UCF-101 as it comes, with two of its videos, and a model."""
  root = tmp_path_factory.mktemp("evaluate")
  for name in VIDEOS:
    label = name.split("_")[1]
    (root / "UCF101" / label).mkdir(parents=True)
    shutil.copy(shared_data / "videos" / name, root / "UCF101" / label)
  shutil.copytree(shared_data / "ucf101", root / "ucfTrainTestlist")
  (root / "LOWRES").symlink_to(job / "video_lowres")
  return root


def arguments_of(root, out, *more):
  return [
    *("evaluate", "--protocol=svd-ucf101", f"--data={root}/UCF101", "--weights=random"),
    *(f"--out={out}", *more),
  ]


def model(root):
  return [f"--model={root}/LOWRES", *SMALL]


def result(out):
  return json.loads((out / "result.json").read_text())


@pytest.fixture(scope="module")
def generated(folder):
  """The result of a model, whose clips are kept."""
  out = folder / "of_model"
  run_vidjax(*arguments_of(folder, out, *model(folder), f"--samples={folder}/clips"))
  return out


def test_a_model_is_scored(folder, generated):
  content = result(generated)
  assert (content["n_real"], content["n_fake"]) == (2, 6)
  assert content["missing"] == {"real": 13_318, "discarded": 0}
  assert content["dataset"] == "ucf101/all"
  assert content["protocol_fields"]["limit"] == 6
  assert content["sampling"]["scale"] == 7.0  # the protocol's guidance
  assert np.isfinite(content["metrics"]["fvd/i3d-torchscript"]["value"])
  assert any("13318 of 13320 real videos are missing" in text for text in content["warnings"])
  prompts = sample_plan.read_prompts(generated / "prompts.json")
  assert len(prompts) == 6
  assert all(p.sample_id.startswith(p.prompt) and p.prompt == p.label for p in prompts)
  page = (generated / "report.html").read_text()
  assert page.count("data:image/webp;base64,") == 8
  assert "Published with this protocol" not in page


def test_clips_that_were_kept_are_worth_the_same(folder, generated):
  out = folder / "of_clips"
  fake = f"--fake={folder}/clips"
  run_vidjax(*arguments_of(folder, out, fake, "--limit=6", "--allow_missing"))
  assert result(out)["metrics"] == result(generated)["metrics"]
  assert result(out)["protocol_hash"] == result(generated)["protocol_hash"]


def test_a_killed_run_ends_in_the_same_file(folder, generated):
  out = folder / "killed"
  command = [sys.executable, "-m", "vidjax.cli", *arguments_of(folder, out, *model(folder))]
  with subprocess.Popen(command, env=environment()) as process:
    until = time.monotonic() + 240
    while not (out / "real" / "part-00000.npz").exists() and process.poll() is None:
      assert time.monotonic() < until
      time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
  assert not (out / "result.json").exists()
  before = (out / "real" / "part-00000.npz").stat().st_mtime_ns
  run_vidjax(*command[3:])
  assert (out / "result.json").read_bytes() == (generated / "result.json").read_bytes()
  assert (out / "real" / "part-00000.npz").stat().st_mtime_ns == before
  done = run_vidjax(*command[3:])
  assert "already evaluated, nothing to do" in done.stdout


def free_port() -> int:
  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    return probe.getsockname()[1]


def test_two_processes_share_the_work(folder, generated):
  out, port = folder / "shared", free_port()
  command = [sys.executable, "-m", "vidjax.cli", *arguments_of(folder, out, *model(folder))]
  processes = [
    subprocess.Popen(
      [*command, f"--coordinator=127.0.0.1:{port}", "--process_count=2", f"--process_index={i}"],
      env=environment(),
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
    )
    for i in range(2)
  ]
  texts = [process.communicate(timeout=280)[0] for process in processes]
  assert [process.returncode for process in processes] == [0, 0], texts
  mine, theirs = result(out)["metrics"], result(generated)["metrics"]
  assert mine.keys() == theirs.keys()
  for name, metric in mine.items():
    assert metric["value"] == pytest.approx(theirs[name]["value"], rel=1e-3), name
  assert [text.count("# Protocol") for text in texts] == [1, 0]  # the first one speaks


@pytest.mark.filterwarnings(
  "ignore:.*torch.jit:DeprecationWarning", "ignore::torch.jit.TracerWarning"
)
def test_documented_commands(folder, repo_root, monkeypatch):
  monkeypatch.syspath_prepend(str(repo_root / "tests" / "repo"))
  monkeypatch.chdir(folder)
  import documented_commands

  here = "tests/e2e/test_evaluate.py::test_documented_commands"
  commands = [c for c, where in documented_commands.RUN_BY.items() if where == here]
  assert len(commands) == 7
  network = feature_networks.randomize(feature_networks.I3D(1e-3), 7)
  feature_files.script(folder / "I3D_FILE", feature_files.I3DFile(network))
  rng = np.random.default_rng(0)
  for name in ("REAL_NPZ", "FAKE_NPZ"):
    with pathlib.Path(name).open("wb") as file:
      np.savez(file, features=rng.standard_normal((50, 4)))
  done = {}
  for command in commands:
    _, verb, *arguments = shlex.split(command)
    extra = SMALL if "--data" in command else ()
    if "--table" in command:
      shutil.copytree("ucf", "OTHER_RESULT")
    # The file's own program is run by torch.
    env = {"PYTHONPATH": ""} if verb == "convert_weights" else None
    done[command] = run_vidjax(verb, *arguments, *extra, env=env).stdout

  listed, converted, _, protocols, _, table, _ = done.values()
  assert "i3d_torchscript.pt" in listed
  assert "WEIGHTS/i3d-torchscript.safetensors" in converted
  assert "svd-ucf101 (default)" in protocols
  assert table.count("| 6 |") == 2
  content = result(pathlib.Path("ucf"))
  assert len(content["weights"]["i3d/torchscript"]) == 64
  steps = sorted(path.name for path in pathlib.Path("curve").glob("step_*"))
  assert len(steps) > 1
  assert "Over training" in pathlib.Path("curve", steps[-1], "report.html").read_text()
  assert not pathlib.Path("curve", steps[-1], "real").exists()  # shared by all steps
