import io
import json
import subprocess
import sys

import PIL.Image
import pytest

CONFIG = """
from ml_collections import ConfigDict

def get_config(variant=""):
  data = {"num_frames": 4, "fps": 2.0, "height": 32, "width": 48, "num_workers": 0}
  return ConfigDict({"batch_size": 2, "total_samples": 2, "data": data})
"""


@pytest.fixture
def inspect_data(tmp_path, repo_root):
  (tmp_path / "config.py").write_text(CONFIG)

  def run(*args):
    command = [sys.executable, "-m", "vidjax.inspect_data", f"--config={tmp_path}/config.py"]
    return subprocess.run([*command, *args], cwd=repo_root, capture_output=True, text=True)

  return run


def test_it_shows_what_training_gets(inspect_data, dataset, tmp_path):
  out = tmp_path / "out"
  result = inspect_data(f"--config.data.path={dataset}", f"--out={out}", "--num_windows=7")
  assert result.returncode == 0, result.stderr
  assert "6 of 6 clips hold 4 frames at 2 fps" in result.stdout

  timings = json.loads((out / "timings.json").read_text())
  assert 0 < timings["decode_ms_per_window"] <= timings["decode_ms_per_window_p95"]
  assert timings["windows_per_second"] > 0
  assert timings["windows"] == 7

  captions = json.loads((out / "captions.json").read_text())
  assert [row["sample_index"] for row in captions] == list(range(7))
  for row in captions:
    assert row["caption"] == f"clip number {int(row['clip_id'].removeprefix('clip'))}"

  sheet = PIL.Image.open(io.BytesIO((out / "contact_sheet.png").read_bytes()))
  assert sheet.height > 7 * 96
  assert sheet.width > 4 * 144


def test_data_without_such_windows_is_exit_code_3(inspect_data, dataset, tmp_path):
  result = inspect_data(
    f"--config.data.path={dataset}", "--config.data.num_frames=30", f"--out={tmp_path}/out"
  )
  assert result.returncode == 3
  assert "needs 14.5 s; the longest of 6 clips has 4.80 s" in result.stderr
  assert "Traceback" not in result.stderr
