"""Configs to plan for, and what is refused before anything is compiled."""

import pytest

from tests.unit.planning import programs
from vidjax import plan
from vidjax.planning import planner, topology
from vidjax.planning.figures import Hbm

CONTRACT = {
  *("config", "topology", "slices", "devices", "fits", "hbm", "model_flops_per_step"),
  *("hardware_flops_per_step", "bytes_accessed", "collectives", "compute_seconds"),
  *("step_seconds", "mfu", "clips_per_second", "days_for_config", "host_decode_cores"),
  *("compile_seconds", "top_ops", "assumed_share", "method"),
}


def a_plan(limit=2**34, overrides=()):
  return planner.of_measured(
    "CONFIG",
    programs.described(*overrides),
    programs.site(limit),
    programs.measured(*overrides),
  )


def test_no_data_and_no_encoder_are_needed():
  config, notes = planner.load("configs/svd/video_lowres.py", [])
  assert config.data.path
  assert len(notes) == 2
  assert "encoders.vae is not named: that of SVD stands in" in notes[0]


def test_what_stands_in_for_a_missing_encoder_is_said():
  config, notes = planner.load("configs/svd/video_lowres.py", ["encoders.vae=nowhere"])
  assert config.encoders.vae == ""
  assert "encoders.vae 'nowhere' is not here" in notes[0]
  config, notes = planner.load("configs/svd/video_lowres.py:tiny", [])
  assert config.encoders.vae == "random:tiny"  # its latents have the tiny model's channels
  assert "random:tiny stands in" in notes[0]


@pytest.mark.parametrize(
  ("overrides", "message"),
  [
    (("batch_size=6",), "batch_size=6 does not divide over mesh.replica x mesh.fsdp = 4"),
    (("mesh.fsdp=3",), "4 are here"),
    (("batch_sise=4",), "did you mean 'batch_size'"),
    (
      ("data.kind=latents", "conditioning.mode=image_to_video"),
      "conditioning.mode='image_to_video' shows the model pixels: data of kind 'latents' have none",
    ),
  ],
)
def test_refusals_name_the_key(overrides, message):
  with pytest.raises(ValueError, match=message):
    planner.describe(programs.config(*overrides), programs.site())


def test_plan_json_holds_what_is_promised():
  found = a_plan()
  content = found.to_json()
  assert content.keys() >= CONTRACT
  assert content["hbm"].keys() >= {"limit", "total", "arguments", "temporaries", "code"}
  assert content["fits"] is True
  assert content["devices"] == 4
  seconds = (content["step_seconds_low"], content["step_seconds"], content["step_seconds_high"])
  assert 0 < seconds[0] <= seconds[1] <= seconds[2]
  assert content["clips_per_second"] == pytest.approx(8 / seconds[1])
  assert content["days_for_config"] == pytest.approx(240 / content["clips_per_second"] / 86400)
  could = seconds[1] * 4 * 197e12
  assert content["mfu"] == pytest.approx(content["model_flops_per_step"] / could)
  assert all({"count", "bytes"} <= c.keys() for c in content["collectives"].values())
  assert all(op.keys() == {"name", "share"} for op in content["top_ops"])
  assert sum(op["share"] for op in content["top_ops"]) < 1.01


def test_a_batch_goes_in_as_many_parts_as_the_devices_need():
  """Each part computes its rows, and gathers the weights anew."""
  whole, parts = a_plan(), a_plan(overrides=("rows_per_device=1",))
  assert (whole.accumulation_steps, parts.accumulation_steps) == (1, 2)
  assert parts.to_json()["accumulation_steps"] == 2
  assert dict(parts.rows())["batch"].startswith("8 in 2 parts; remat")
  assert parts.batch_size == whole.batch_size
  # Up to what does not depend on the rows, the positions of frames.
  assert parts.model_flops_per_step == pytest.approx(whole.model_flops_per_step, rel=0.03)
  gathered = [plan.collectives["all-gather"]["bytes"] for plan in (whole, parts)]
  assert gathered[1] == 2 * gathered[0]


def test_the_table_says_whether_it_fits():
  assert "fits" in dict(a_plan().rows())["memory"]
  assert "DOES NOT FIT" in dict(a_plan(1).rows())["memory"]


def test_a_refusal_names_the_largest_batch_and_remedies():
  text = plan.refusal(a_plan(1), 4)
  assert "batch_size=8 on 4 devices of v5e:2x2 does not fit" in text
  assert "batch_size=4 is the largest that fits" in text
  assert "remat" in text
  assert "mesh.fsdp" in text
  assert "no batch fits" in plan.refusal(a_plan(1), 0)


def test_decoding_is_priced_by_pixels():
  config = programs.config("data.height=256", "data.width=384", "data.num_frames=16")
  assert planner.decode_cores(config, topology.parse("v5e:4x4"), 280.0) == pytest.approx(1.0)
  latents = programs.config("data.kind=latents")
  assert planner.decode_cores(latents, topology.parse("v5e:4x4"), 280.0) == 0.0


def test_memory_fits_up_to_the_limit():
  assert Hbm(limit=10, total=10, arguments=0, temporaries=0, code=0).fits
  assert not Hbm(limit=10, total=11, arguments=0, temporaries=0, code=0).fits
