"""What is refused before it costs anything, and what is only said."""

import dataclasses
import importlib.util
import math
import sys

import jax
import numpy as np
import pytest

from launch import job as jobs
from launch import preflight, resting
from tests.unit.launch.descriptions import GPU, TPU, written
from vidjax import program as programs
from vidjax.errors import UserError
from vidjax.parallel import mesh as meshes


def report(path, place, *overrides, how=preflight.NO_PLAN):
  job = jobs.load(path, overrides)
  return preflight.check(job, place, preflight.load_config(job), how)


def test_what_is_right(tmp_path):
  found = report(written(tmp_path, TPU), "gke")
  assert found.refused == []
  texts = [line.text for line in found.lines]
  assert "batch 16 divides over 16 devices (fsdp 16)" in texts
  assert any(line.verdict == "note" and "NOT PLANNED" in line.text for line in found.lines)


@pytest.mark.parametrize(
  ("place", "text", "change", "said"),
  [
    ("gke", TPU, ("vidjax:1.0", "vidjax"), "has no tag"),
    ("gke", TPU, ("vidjax:1.0", "vidjax:latest"), "has the tag latest"),
    ("tpu_vm", TPU, ("gs://bucket/run", "/data/run"), "workdir=/data/run is on the disk of a"),
    ("gke", TPU, ('name = "run"', 'name = "run"\ncompile_cache = "/c"'), "compile_cache=/c is on"),
    ("gke", TPU, ("random:tiny", ""), "encoders.vae not given, which text_to_video needs"),
    ("gke", TPU, ("batch_size = 16", "batch_size = 24"), "batch_size=24 does not divide over"),
    ("gke", TPU, ("[overrides]", "slices = 2\n[overrides]"), "--config.mesh.replica=2"),
    ("gke", TPU, ("[overrides]", "grace = 20\n[overrides]"), "set grace to 30 or more"),
    (
      "slurm",
      GPU,
      ("/shared/run", "/dev/shm/run"),
      "workdir=/dev/shm/run is on the disk of one machine",
    ),
    ("slurm", GPU, ("ghcr.io/o/vidjax:1.0", "ghcr.io:5000/vidjax"), "has no tag"),
    ("slurm", GPU, ("batch_size = 16", "mesh.fsdp = 3"), "needs 3 devices, 16 are here"),
  ],
)
def test_what_is_refused(tmp_path, place, text, change, said):
  (refused,) = report(written(tmp_path, text, change), place).refused
  assert said in refused


def test_everything_wrong_is_said_at_once(tmp_path):
  path = written(tmp_path, TPU, ("vidjax:1.0", "vidjax"), ("batch_size = 16", "batch_size = 24"))
  found = report(path, "gke", how=preflight.FULL)
  assert len(found.refused) == 2
  assert any("not planned yet" in line.text for line in found.lines)


@pytest.mark.parametrize(
  "image", ["a/b:v1", "localhost:5000/b:v1", "b@sha256:" + "0" * 64, "b:v1@sha256:" + "0" * 64]
)
def test_images_with_a_version(tmp_path, image):
  path = written(tmp_path, TPU, ("us-docker.pkg.dev/p/r/vidjax:1.0", image))
  assert report(path, "gke").refused == []


def test_a_stage_that_follows_another_is_given_it(tmp_path):
  bare = written(tmp_path, TPU, (":tiny", ""), ("[overrides]", '[overrides]\nencoders.text = "t"'))
  (refused,) = report(bare, "gke").refused
  assert "the header of configs/svd/video_lowres.py starts this stage from another model" in refused
  assert report(bare, "gke", "init_from=gs://bucket/image").refused == []
  fresh = written(
    tmp_path, (tmp_path / "job.toml").read_text(), ("name", 'init_from = "fresh"\nname')
  )
  assert report(fresh, "gke").refused == []


def test_a_container_has_its_own_files(tmp_path, repo_root):
  path = written(tmp_path, TPU, ("configs/svd", f"{repo_root}/configs/svd"))
  (refused,) = report(path, "gke", "encoders.vae=weights/vae").refused
  assert "name it by its path in the image" in refused
  notes = [line.text for line in report(path, "gke", "encoders.vae=weights/vae").lines]
  assert "encoders.vae=weights/vae is not in a bucket: the image has to have it" in notes


def test_a_config_that_cannot_be_built(tmp_path):
  for old, new, said in (
    ('kind = "procedural"', 'knd = "x"', "did you mean 'kind'"),
    ('data.kind = "procedural"', "", "data.path is empty"),
    ("video_lowres.py", "nowhere.py", "does not exist"),
  ):
    job = jobs.load(written(tmp_path, TPU, (old, new)))
    with pytest.raises(UserError, match=said):
      preflight.load_config(job)


def test_local_runs_need_no_image_and_no_bucket(tmp_path):
  path = written(tmp_path, GPU, ('image = "ghcr.io/o/vidjax:1.0"\n', ""), ("h100:2x8", "h100:1x8"))
  assert report(path, "local").refused == []


# --- The planner --------------------------------------------------------------------------------


def test_the_plan_is_asked_for_what_is_started(tmp_path):
  job = jobs.load(written(tmp_path, TPU), ["encoders.text=gs://bucket/text"])
  command = preflight.plan_command(job, preflight.load_config(job))
  assert command[:5] == [sys.executable, "-m", "vidjax.cli", "plan", "--quick"]
  assert "--topology=v5p:2x2x4" in command
  assert command.index("--config.encoders.text=") > command.index(
    "--config.encoders.text=gs://bucket/text"
  ), "a bucket is not asked: the planner has a stand-in"
  assert "--config.encoders.vae=" not in command, "random:tiny is here"


@pytest.fixture
def planner(monkeypatch):
  """Says what it is told to, in the place of the planner."""
  answers = {}
  monkeypatch.setattr(preflight, "run_plan", lambda command: answers["answer"])
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: answers.get("libtpu", True))
  return answers


def test_the_plan_decides(tmp_path, planner):
  path = written(tmp_path, TPU)
  planner["answer"] = (0, "memory     about 3.00 of 94.75 GiB, fits\nstep       10 ms\n", "")
  found = report(path, "gke", how=preflight.FULL)
  assert found.refused == []
  assert "plan: memory  about 3.00 of 94.75 GiB, fits" in [line.text for line in found.lines]
  planner["answer"] = (
    2,
    "",
    "noise\nvidjax: error: batch_size=16 does not fit: batch_size=4 is the",
  )
  assert report(path, "gke", how=preflight.FULL).refused == [
    "vidjax plan, exit code 2: batch_size=16 does not fit: batch_size=4 is the"
  ]
  planner["libtpu"] = None
  (refused,) = report(path, "gke", how=preflight.FULL).refused
  assert "pip install 'vidjax[tpu]'" in refused
  assert "--preflight=no_plan" in refused


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed")
def test_the_real_planner_refuses_with_its_largest_batch(tmp_path):
  path = written(tmp_path, TPU, ("v5p:2x2x4", "v5e:1x1"), ("batch_size = 16", "batch_size = 65536"))
  (refused,) = report(path, "gke", how=preflight.FULL).refused
  assert "batch_size=65536 on 1 devices of v5e:1x1 does not fit" in refused
  assert "is the largest that fits" in refused


# --- GPUs ---------------------------------------------------------------------------------------


def test_bytes_at_rest_are_those_that_a_device_holds(tmp_path):
  """Of arrays that lie on devices; for the estimate nothing but shapes was used."""
  job = jobs.load(written(tmp_path, GPU, ("2x8", "1x8")))
  config = preflight.load_config(job)
  program = programs.make(config, meshes.make_mesh(config.mesh))
  first, held = jax.devices()[0], 0
  for leaf in jax.tree.leaves((program.state, program.frozen, program.batch)):
    array = jax.device_put(np.zeros(leaf.shape, leaf.dtype), leaf.sharding)
    held += sum(s.data.nbytes for s in array.addressable_shards if s.device == first)
  assert resting.bytes_per_device(config, 8) == held
  weights = sum(math.prod(p.shape) * 4 for p in program.params.values())
  assert held > 4 * weights / 8, "weights, two moments and an average, over eight devices"


def test_what_does_not_fit_at_rest_is_refused(tmp_path, monkeypatch):
  path = written(tmp_path, GPU)
  lines = [line for line in report(path, "slurm").lines if "lie there between steps" in line.text]
  assert [line.verdict for line in lines] == ["ok"]
  assert "lower bound" in lines[0].text
  monkeypatch.setattr(resting, "bytes_per_device", lambda config, devices: 81 * 2**30)
  (refused,) = report(path, "slurm").refused
  assert "it does not fit: 81.00 GiB of 80 on each h100" in refused


def test_encoders_that_are_not_here_are_taken_to_be_published_ones(tmp_path):
  job = jobs.load(written(tmp_path, GPU))
  config = preflight.load_config(job)
  named = dataclasses.replace(config.encoders, vae="/nowhere/vae", text=str(tmp_path))
  config = dataclasses.replace(config, encoders=named)
  assert resting.absent_encoders(config) == ["vae"]
