"""The table of plans in docs/svd.md: of these configs, complete, and what its rows say."""

import math

import pytest

from benchmarks import plan_table
from vidjax import config as configs
from vidjax.parallel import mesh as meshes


@pytest.mark.parametrize("row", plan_table.rows(), ids=lambda row: row.name)
def test_a_mesh_takes_all_devices_and_divides_the_batch(row):
  replica, fsdp, context, tensor = meshes.mesh_shape(row.config.mesh, row.topology.device_count)
  assert tensor == 1
  assert replica % row.slices == 0
  assert row.config.batch_size % (replica * fsdp) == 0
  assert row.config.data.num_frames % context == 0
  assert fsdp <= 64 or replica == row.slices


@pytest.mark.parametrize("stage", plan_table.STAGES)
def test_every_stage_has_slices_of_16_chips_and_more(stage):
  """Up to 1024, where there are frames to divide: pictures have one, and 25 have no half.

  The cheap recipe stays where each chip has a clip.
  """
  most = {"image": 512, "image:time_embedding": 512, "image_to_video:highres,xt": 256}
  most["ablation"] = 256
  chips = {row.topology.device_count for row in plan_table.rows() if row.stage == stage}
  assert (min(chips), max(chips)) == (16, most.get(stage, 1024))


def test_the_guide_has_the_plans_of_these_configs():
  done = plan_table.read()
  for row in plan_table.rows():
    if row.name in done:
      assert plan_table.is_made(row, done), f"{row.name}: python -m benchmarks.plan_table"
  assert plan_table.table(done) in plan_table.GUIDE.read_text()


def test_what_a_plan_does_not_depend_on_makes_no_row_anew(monkeypatch):
  row = plan_table.rows()[0]
  before, load_file = row.settings, configs.load_file
  for change, same in (
    ({"seed": 7}, True),
    ({"log_every_steps": 1}, True),
    ({"batch_size": 8}, False),
  ):
    monkeypatch.setattr(configs, "load_file", lambda flag, c=change: load_file(flag) | c)
    assert (row.settings == before) is same


def test_a_line_says_what_the_plan_says():
  made = {
    "row": "image 2 x v5e:16x16",
    "devices": 512,
    "mesh": {"replica": 8, "fsdp": 64, "context": 1, "tensor": 1},
    "batch_size": 1536,
    "accumulation_steps": 3,
    "remat": ["matmuls"],
    "hbm": {"total": 5 * 2**30, "limit": math.floor(15.75 * 2**30)},
    "fits": True,
    **{"step_seconds": 1.5, "step_seconds_low": 1.0, "step_seconds_high": 2.25},
    **{"mfu": 0.4, "clips_per_second": 1024.0, "days_for_config": 2.0, "host_decode_cores": 0.25},
  }
  assert plan_table.line(made) == (
    "| 2 x v5e:16x16 | 512 | replica 8, fsdp 64 | 3 x 1 | matmuls | 5.0 of 15.8 |"
    " 1.5 (1 to 2.25) | 40 % | 1,024 | 2 days | 0.2 |"
  )
  assert "does not fit" in plan_table.line(made | {"fits": False})
