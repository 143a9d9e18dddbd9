"""Two runs in one workdir, and a killed one that goes on from memory, through the real command."""

import collections
import json
import os
import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.slow
ARGUMENTS = (
  "--config=configs/svd/image.py:tiny",
  "--config.data.kind=procedural",
  "--config.encoders.vae=random:tiny",
  "--config.batch_size=2",
  "--config.log_every_steps=1",
  "--config.model.overrides.block_out_channels=(32,)",
  "--config.model.overrides.attention=(False,)",
  "--config.model.overrides.layers_per_block=(1,)",
  "--config.model.overrides.transformer_layers_per_block=(1,)",
  "--config.model.overrides.num_attention_heads=(4,)",
)


def _start(folder, steps: int) -> subprocess.Popen:
  flags = (
    f"--workdir={folder / 'run'}",
    f"--config.total_samples={2 * steps}",
    "--config.checkpoint.every_steps=100000",
    f"--config.checkpoint.local_folder={folder / 'ram'}",
    "--config.checkpoint.local_every_steps=2",
  )
  return subprocess.Popen(
    [sys.executable, "-m", "vidjax.train", *ARGUMENTS, *flags],
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    env=os.environ | {"JAX_NUM_CPU_DEVICES": "1"},
  )


def test_second_run_is_refused_and_a_killed_one_goes_on_from_memory(tmp_path):
  first = _start(tmp_path, 10_000)
  try:
    deadline = time.monotonic() + 200
    while len(list((tmp_path / "ram").rglob("*.npz"))) < 2:
      assert first.poll() is None, first.communicate()[0]
      assert time.monotonic() < deadline
      time.sleep(0.05)
    before = (tmp_path / "run" / "run.json").read_text()
    second = _start(tmp_path, 10_000)
    said = second.communicate(timeout=200)[0]
    assert second.returncode == 2, said
    assert f"{tmp_path / 'run'} is in use: process {first.pid} on" in said
    assert "Traceback" not in said
    assert (tmp_path / "run" / "run.json").read_text() == before
    assert first.poll() is None, "not disturbed"
  finally:
    first.send_signal(signal.SIGKILL)
    first.communicate()

  newest = max(int(path.stem) for path in (tmp_path / "ram").rglob("[0-9]*.npz"))
  steps = newest + 10
  third = _start(tmp_path, steps)
  said = third.communicate(timeout=200)[0]
  assert third.returncode == 0, said
  assert "from the local copies of step" in said
  assert f"trained {steps} steps" in said
  by_step = collections.defaultdict(dict)
  for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines():
    row = json.loads(line)
    by_step[row["step"]][row["attempt"]] = (row["loss"], row["sample_ids_hash"])
  assert by_step.keys() >= set(range(1, steps + 1))
  assert 2 in by_step[steps]
  assert 2 not in by_step[newest - 2], "not from the start"
  for step, rows in by_step.items():
    assert len(set(rows.values())) == 1, f"step {step} came out otherwise: {rows}"
  assert list((tmp_path / "ram").rglob("*.npz")) == [], "the last checkpoint made them useless"
