"""Plans of real configs on real topologies; where libtpu is absent, they are skipped."""

import importlib.util
import json
import pathlib
import re
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
from miniature_job import ONE_LEVEL
import pytest

from tests.unit.planning import programs
from vidjax import storage
from vidjax.planning import (
  cell,
  compilation,
  piece_costs,
  pieces,
  planner,
  pricing,
  quick,
  search,
  topology,
)

pytestmark = pytest.mark.skipif(
  importlib.util.find_spec("libtpu") is None,
  reason="libtpu, which compiles for TPUs, is not installed",
)

# One level and one size for all in plans of compiled blocks, which take a minute each: most blocks
# of a config are then those of another one, too.
ONE_SIZE = [
  *(flag.removeprefix("--config.") for flag in ONE_LEVEL),
  *("batch_size=2", "data.height=32", "data.width=32"),
]

# Each config of a training run, on the slice that its header names.
NATURAL = {
  "autoencoder/kl": "v5p:2x4x4",
  "svd/ablation": "v5p:4x4x4",
  "svd/image": "v5p:4x4x4",
  "svd/image_to_video": "v5p:4x8x8",
  "svd/interpolation": "v5p:4x4x4",
  "svd/multi_view": "v5p:2x2x2",
  "svd/video_highres": "v5p:4x8x8",
  "svd/video_lowres": "v5p:8x8x8",
}


def test_what_no_device_holds_is_refused_by_xla_itself(tmp_path):
  v5e = topology.parse("v5e:1x1")
  mesh = jax.sharding.Mesh(compilation.devices_of(v5e), ("device",))
  huge = jax.ShapeDtypeStruct((2**40,), jnp.float32, sharding=jax.NamedSharding(mesh, jax.P()))
  lowered = jax.jit(lambda x: x + 1).lower(huge)
  compiled = compilation.compile_lowered(lowered, v5e, compilation.Cache(tmp_path))
  assert "RESOURCE_EXHAUSTED" in compiled.too_large
  assert compiled.memory.total >= 4 * 2**40
  limit = compilation.memory_limit(compilation.devices_of(v5e), 0)
  assert 15 * 2**30 < limit < 16 * 2**30


class _Unread:
  """A lowered program that jaxlib cannot read once it is compiled."""

  def __init__(self, lowered):
    self.lowered = lowered
    self.as_text = lowered.as_text

  def compile(self, compiler_options=None):
    compiled = self.lowered.compile(compiler_options=compiler_options)

    def as_text():
      raise jax.errors.JaxRuntimeError("INTERNAL: RET_CHECK failure")

    return types.SimpleNamespace(memory_analysis=compiled.memory_analysis, as_text=as_text)


def test_a_program_that_jaxlib_does_not_read_is_priced_alike(tmp_path):
  v5e = topology.parse("v5e:1x1")
  mesh = jax.sharding.Mesh(compilation.devices_of(v5e), ("device",))
  x = jax.ShapeDtypeStruct((512, 512), jnp.bfloat16, sharding=jax.NamedSharding(mesh, jax.P()))
  lowered = jax.jit(lambda x: jax.nn.gelu(x @ x) @ x).lower(x)
  read, unread = (
    compilation.compile_lowered(one, v5e, compilation.Cache(tmp_path / name))
    for one, name in ((lowered, "read"), (_Unread(lowered), "unread"))
  )
  assert unread.memory == read.memory
  assert pricing.price(unread.hlo_text, v5e) == pricing.price(read.hlo_text, v5e)
  assert pricing.price(read.hlo_text, v5e).matrix_flops == 2 * 2 * 512**3


def test_every_training_config_has_a_topology(repo_root):
  files = {
    str(path.relative_to(repo_root / "configs").with_suffix(""))
    for path in (repo_root / "configs").rglob("*.py")
    if "total_samples" in path.read_text()
  }
  assert files == set(NATURAL)


@pytest.fixture(scope="module")
def compiled_blocks(tmp_path_factory) -> compilation.Cache:
  """What the plans of this file share."""
  return compilation.Cache(tmp_path_factory.mktemp("plan"))


@pytest.mark.slow
@pytest.mark.parametrize("name", NATURAL)
def test_every_config_has_a_quick_plan(name, compiled_blocks):
  """In its tiny variant, its networks and conditions as they are, at one size for all."""
  flag, site = f"configs/{name}.py:tiny", planner.site_of(topology.parse("v5e:1x1"))
  smaller = [] if name == "autoencoder/kl" else ONE_SIZE
  frames = [] if name in ("autoencoder/kl", "svd/image") else ["data.num_frames=4"]
  config, _ = planner.load(flag, [*smaller, *frames])
  content = search.Estimator(flag, site, compiled_blocks, 2)(config).to_json()
  json.dumps(content, allow_nan=False)
  assert content["fits"]
  assert content["unpriced"] == {}
  assert content["compile_seconds"] > 0
  assert content["hardware_flops_per_step"] >= 0.9 * content["model_flops_per_step"] > 0
  assert content["step_seconds_low"] <= content["step_seconds"] <= content["step_seconds_high"]


@pytest.mark.slow
@pytest.mark.parametrize("name", NATURAL)
def test_every_config_fits_its_slice_by_arithmetic(name):
  """At its own width, with arithmetic in place of compiled blocks."""
  where = topology.parse(NATURAL[name])
  config, _ = planner.load(f"configs/{name}.py", [])
  site = planner.Site(where, list(compilation.devices_of(where)), where.chip.hbm_bytes)
  program = planner.describe(config, site)
  of_cell = cell.make(config, program.mesh, where)
  steps = pieces.record(of_cell.program)
  assert {n for c in steps.calls if c.trained for n in c.names} == set(program.params)
  costs = {key: piece_costs.small(call, where) for key, (call, _) in steps.distinct.items()}
  plan = planner.of_measured(name, program, site, quick.Measured(of_cell, steps, costs, 0.0))
  content = plan.to_json()
  assert content["fits"]
  assert content["hardware_flops_per_step"] >= 0.9 * content["model_flops_per_step"] > 0
  assert content["clips_per_second"] > 0
  assert 0 < content["hbm"]["arguments"] < content["hbm"]["total"]


@pytest.mark.slow
def test_a_whole_step_and_an_independent_estimator(repo_root, tmp_path):
  where = topology.parse("v5e:2x2")
  config, _ = planner.load(programs.FLAG, ["encoders.vae=random:tiny", "batch_size=4"])
  site = planner.site_of(where)
  cache = compilation.Cache(tmp_path)
  program = planner.describe(config, site)
  with jax.numpy_dtype_promotion("standard"):  # optax raises decay rates to integer powers
    content = planner.plan_whole("x", program, site, cache).to_json()
  assert content["fits"]
  assert content["hbm"]["limit"] == 15.75 * 2**30
  assert {"all-gather", "all-reduce"} <= content["collectives"].keys()
  assert content["unpriced"] == {}
  # The compiled step does what the model asks for, and little else that is a product.
  assert content["hardware_flops_per_step"] == pytest.approx(
    content["model_flops_per_step"], rel=0.1
  )
  other = _estimator(repo_root.parent / "shared" / "tools" / "tpu_cost.py")
  if other is not None:
    (path,) = storage.list_files(tmp_path)
    compiled = cache.get(path.name.split(".")[0])
    theirs = other.analyse_text(compiled.hlo_text, where.name)
    ours = pricing.price(compiled.hlo_text, where)
    assert ours.seconds == pytest.approx(theirs["est_seconds"], rel=0.1)
    assert ours.matrix_flops == pytest.approx(theirs["flops"], rel=0.1)


@pytest.mark.slow
def test_the_documented_command_and_its_cache(repo_root, tmp_path):
  command = [
    *(sys.executable, "-m", "vidjax.cli", "plan", f"--config={programs.FLAG}"),
    *("--topology=v5e:2x2", "--config.batch_size=4", "--quick", f"--json={tmp_path}/plan.json"),
    *("--config.encoders.vae=random:tiny", f"--cache={tmp_path}/cache"),
  ]
  done = _run(command, repo_root)
  assert done.returncode == 0, done.stderr
  assert "fits" in done.stdout
  assert "host bounds" not in done.stderr  # libtpu's words about the TPU that is not here
  first = storage.read_json(tmp_path / "plan.json")
  assert first["topology"] == "v5e:2x2"
  again = _run([*command, "--jobs=1"], repo_root)
  assert again.returncode == 0, again.stderr
  assert (
    storage.read_json(tmp_path / "plan.json") == first
  )  # compile_seconds included: it was found


@pytest.mark.slow
def test_what_does_not_fit_is_refused_with_the_largest_batch_that_does(repo_root, tmp_path):
  command = [
    *(sys.executable, "-m", "vidjax.plan", f"--config={programs.FLAG}", "--topology=v5e:1x1"),
    *("--config.batch_size=2048", "--config.encoders.vae=random:tiny", "--quick"),
    f"--cache={tmp_path}",
  ]
  done = _run(command, repo_root)
  assert done.returncode == 2
  assert "DOES NOT FIT" in done.stdout
  found = re.search(r"batch_size=2048 on 1 devices .* batch_size=(\d+) is the largest", done.stderr)
  assert found is not None, done.stderr
  assert 256 <= int(found[1]) <= 1024  # it needs four times what there is


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    (("--topology=v9:4x4",), "known: v4, v5e"),
    (("--topology=v5e:4x4", "--config.batch_sise=3"), "did you mean 'batch_size'"),
  ],
)
def test_what_cannot_be_planned_ends_with_code_2(repo_root, flags, message):
  done = _run([sys.executable, "-m", "vidjax.plan", f"--config={programs.FLAG}", *flags], repo_root)
  assert done.returncode == 2
  assert message in done.stderr
  assert "Traceback" not in done.stderr


def _run(command: list[str], folder: pathlib.Path) -> subprocess.CompletedProcess:
  return subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=600)


def _estimator(path: pathlib.Path):
  if not path.exists():
    return None
  spec = importlib.util.spec_from_file_location("other_estimator", path)
  assert spec is not None
  assert spec.loader is not None
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module
