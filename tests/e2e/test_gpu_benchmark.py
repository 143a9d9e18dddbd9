"""The benchmark on a GPU in miniature: all of it runs here, and both sides compute the same."""

import json
import subprocess
import sys

import pytest

COMMAND = [
  *(sys.executable, "-m", "benchmarks.gpu", "--size=tiny", "--clips=1", "--remat=block"),
  *("--frames=2", "--attention=products,cudnn", "--rounds=2", "--calls=1", "--compiler=traced"),
]


def benchmark(repo_root, folder):
  command = [*COMMAND, f"--json={folder / 'rows.json'}"]
  done = subprocess.run(command, cwd=repo_root, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  return json.loads((folder / "rows.json").read_text()), done.stdout


@pytest.mark.slow
def test_benchmark_on_a_gpu_in_miniature(repo_root, tmp_path):
  pytest.importorskip("torch")
  pytest.importorskip("diffusers")
  rows, said = benchmark(repo_root, tmp_path)
  assert {name: set(row["times"]) for name, row in rows.items() if row["case"] != "attention"} == {
    "train, 1 x 3 frames, vidjax block": {"step"},
    "train, 1 x 3 frames, diffusers copies": {"step"},
    "sample, 2 frames, vidjax pipeline": {"latents", "decode", "both"},
    "sample, 2 frames, diffusers traced": {"latents", "decode", "both"},
  }
  for row in rows.values():
    rounds = 1 if row["case"].startswith("sample") else 2
    for seconds in row["times"].values():
      assert len(seconds) == rounds
      assert min(seconds) > 0
  ours, theirs = (
    rows[f"train, 1 x 3 frames, {side}"]["first_loss"]
    for side in ("vidjax block", "diffusers copies")
  )
  assert ours == pytest.approx(theirs, rel=1e-4)
  assert 0 < rows["sample, 2 frames, vidjax pipeline"]["difference"] < 1e-3
  assert set(rows["attention, vidjax products"]["times"]) == set(
    rows["attention, diffusers sdpa"]["times"]
  )
  assert set(rows["attention, vidjax cudnn"]["failed"]) == {"24 positions", "3 frames"}
  for line in ("train, 1 x 3 frames: step", "attention: 3 frames, both"):
    assert f"| {line} | vidjax" in said
  assert "first loss" in said
  assert not [path for path in tmp_path.iterdir() if path.is_dir()]  # weights are gone

  again, said = benchmark(repo_root, tmp_path)
  assert again == rows
