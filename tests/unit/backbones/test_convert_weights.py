"""The verb: its list, its flags, its exit codes."""

import subprocess
import sys

import pytest

from vidjax import convert_weights
from vidjax.backbones import registry


def run(*arguments):
  command = [sys.executable, "-m", "vidjax.cli", "convert_weights", *arguments]
  return subprocess.run(command, capture_output=True, text=True)


def test_the_list_says_for_each_network_which_file_it_needs():
  done = run("--list")
  assert done.returncode == 0, done.stderr
  for name, row in registry.BACKBONES.items():
    section = done.stdout.partition(f"{name}\n")[2].split("SHA-256")[0]
    assert row.url in section
    assert all(file in section for file in row.files)
  assert "6726825d" in done.stdout


def test_bad_requests_end_with_one_line(tmp_path):
  done = run("--network=i3d/tats", f"--file={tmp_path}/none.pt", f"--out={tmp_path}")
  assert done.returncode == 2
  assert done.stderr.count("\n") == 1
  assert "none.pt does not exist: i3d/tats needs i3d_pretrained_400.pt, " in done.stderr


@pytest.mark.parametrize(
  ("file", "message"),
  [
    ("a.pt", "is a program .TorchScript., and converting it runs it: pass --trust"),
    ("b.pt", "does not exist"),
  ],
)
def test_programs_need_trust(tmp_path, file, message):
  (tmp_path / "a.pt").write_bytes(b"program")
  with pytest.raises(ValueError, match=message):
    convert_weights.convert("i3d/torchscript", str(tmp_path / file), str(tmp_path))
