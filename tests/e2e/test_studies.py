"""Studies by the real commands, in a few steps: killed in the middle, gone on with, reported."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

PLAN = """
[budget]
cpu_seconds = 100000.0
[flops]
pretraining = 6.0e8
[training]
overrides = [
  "encoders.vae={out}/autoencoder/export", "data.height=16", "data.width=16",
  "data.num_workers=0", "batch_size=2", "log_every_steps=1", "checkpoint.keep=1",
  "model.overrides.block_out_channels=(32,)", "model.overrides.attention=(True,)",
  "model.overrides.layers_per_block=(1,)", "model.overrides.transformer_layers_per_block=(1,)",
  "model.overrides.num_attention_heads=(2,)",
]
[data.shapes]
kind = "procedural"
options = { duration_s = 2.0, fps = 8.0, cuts = 0.0, num_clips = 16 }
[materials.autoencoder]
command = [
  "train", "--config=configs/autoencoder/kl.py:tiny", "--workdir={out}/autoencoder",
  "--config.total_samples=8", "--config.data.height=16", "--config.data.width=16",
]
data = "shapes"
[materials.export]
command = ["export", "--model={out}/autoencoder", "--out={out}/autoencoder/export"]
needs = ["autoencoder"]
[stages.image]
config = "configs/svd/image.py:tiny"
data = "shapes"
needs = ["export"]
flops = "pretraining"
share = 0.4
[stages.video_after_image]
config = "configs/svd/video_lowres.py:tiny"
data = "shapes"
overrides = ["data.num_frames=4"]
after = "image"
needs = ["export"]
flops = "pretraining"
share = 0.6
[stages.video]
config = "configs/svd/video_lowres.py:tiny"
data = "shapes"
overrides = ["data.num_frames=4"]
needs = ["export"]
flops = "pretraining"
[stages.image_to_video]
config = "configs/svd/image_to_video.py:tiny"
data = "shapes"
overrides = ["data.num_frames=4"]
after = "video_after_image"
needs = ["export"]
steps = 3
[studies.image_first]
question = "?"
claim = "?"
source = "?"
metric = "?"
why = "?"
kind = "training"
seeds = [0, 1, 2]
equal = "flops"
arms = { image_first = "video_after_image", from_scratch = "video" }
[studies.image_first.evaluation]
data = "shapes"
split = "holdout"
windows = 8
seed = 0
sigmas = [0.3, 3.0]
steps = 1
request = { min_guidance = 1.0, max_guidance = 1.0 }
[[studies.image_first.measures]]
name = "heldout_loss"
rule = "paired"
better = "lower"
compare = ["image_first", "from_scratch"]
primary = true
[studies.noise_aug]
question = "?"
claim = "?"
source = "?"
metric = "?"
why = "?"
kind = "requests"
model = "image_to_video"
seeds = [0, 1, 2]
varied = "noise_aug_strength"
values = [0.0, 0.5]
[studies.noise_aug.evaluation]
data = "shapes"
split = "holdout"
windows = 8
seed = 0
steps = 1
request = { min_guidance = 1.0, max_guidance = 1.0 }
[[studies.noise_aug.measures]]
name = "first_frame_psnr"
rule = "rank"
better = "falls"
primary = true
"""


def command(folder, *flags: str) -> list[str]:
  return [
    *(sys.executable, "-m", "benchmarks.studies.run", f"--plan={folder / 'plan.toml'}"),
    *(f"--out={folder / 'out'}", f"--results={folder / 'results'}", *flags),
  ]


def rows(folder) -> list[dict]:
  path = folder / "out" / "results.jsonl"
  if not path.exists():
    return []
  return [json.loads(line) for line in path.read_text().splitlines()]


def killed_in_the_middle(folder, environment, after: int) -> None:
  """Starts the studies and kills them, children and all, while the unit after so many runs."""
  process = subprocess.Popen(
    command(folder), env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
  )
  assert process.stdout is not None
  for line in process.stdout:
    if line.startswith(f"[{after + 1}/"):
      break
  time.sleep(3)
  listed = subprocess.run(
    ["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True
  )
  process.kill()
  for child in listed.stdout.split():
    os.kill(int(child), signal.SIGKILL)
  process.wait()
  process.stdout.close()


@pytest.mark.slow
def test_studies_by_the_real_commands(tmp_path):
  (tmp_path / "plan.toml").write_text(PLAN)
  environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
  killed_in_the_middle(tmp_path, environment, after=2)
  before = rows(tmp_path)
  assert [row["unit"] for row in before] == ["make/autoencoder", "make/export"]

  done = subprocess.run(command(tmp_path), env=environment, capture_output=True, text=True)
  assert done.returncode == 0, done.stdout + done.stderr
  found = rows(tmp_path)
  assert found[:2] == before
  names = [row["unit"] for row in found]
  assert len(set(names)) == len(names)
  assert len(names) == 2 + 3 * (4 + 2 + 2) + 1
  by_name = {row["unit"]: row for row in found}
  assert all(row["state"] == "done" and row["cpu_seconds"] > 0 for row in found)

  # Equal costs, the image stage included, up to half a step of each stage.
  two = [by_name[f"train/{stage}/0"]["result"] for stage in ("image", "video_after_image")]
  one = by_name["train/video/0"]["result"]
  allowed = sum(of["step_flops"] for of in (*two, one)) / 2
  assert abs(sum(of["flops"] for of in two) - one["flops"]) <= allowed
  assert one["steps"] > two[1]["steps"] >= 1

  # Models differ, and the same one would have the same loss again.
  losses = {
    arm: by_name[f"score/image_first/{arm}/0"]["result"] for arm in ("image_first", "from_scratch")
  }
  assert losses["image_first"]["heldout_loss"] != losses["from_scratch"]["heldout_loss"]
  assert all(len(of["loss_by_sigma"]) == 2 for of in losses.values())
  asked = [by_name[f"score/noise_aug/{value}/0"]["result"]["clips"] for value in ("0", "0.5")]
  assert asked[0] != asked[1]

  page = (tmp_path / "results" / "studies.md").read_text()
  assert "not measured" not in page
  again = subprocess.run(command(tmp_path), env=environment, capture_output=True, text=True)
  assert again.returncode == 0
  assert "27 of 27 units are done" in again.stdout
  assert rows(tmp_path) == found

  other = (tmp_path / "plan.toml").read_text().replace("windows = 8", "windows = 16", 1)
  (tmp_path / "plan.toml").write_text(other)
  refused = subprocess.run(command(tmp_path), env=environment, capture_output=True, text=True)
  assert refused.returncode == 2
  assert "of the plan" in refused.stderr
