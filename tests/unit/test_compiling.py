"""The compiled step: one program for each form of batch, its cost, and the cache it comes from."""

import contextlib
import dataclasses

import jax
import jax.numpy as jnp
import object_store
import pytest

from vidjax import compiling, storage
from vidjax import config as configs
from vidjax.compiling import CompiledSteps
from vidjax.observe.goodput import Ledger

CONFIG = configs.TrainConfig(total_samples=1, data=configs.DataConfig(path="none"))


@dataclasses.dataclass
class Tiny:
  """As much of a `Program` as is asked."""

  mesh: jax.sharding.Mesh
  config: configs.TrainConfig
  loops: bool = False
  traces: int = 0

  def trace(self, batch):
    def step(state, frozen, batch):
      self.traces += 1
      del frozen
      x = batch["x"] @ state["w"]
      if self.loops:
        x, _ = jax.lax.scan(lambda c, _: (jnp.sin(c) @ state["w"], None), x, length=3)
      return {"w": state["w"] + x.sum()}, {"loss": x.mean()}

    state = {"w": jax.ShapeDtypeStruct((16, 16), jnp.float32)}
    return jax.jit(step, donate_argnums=0).trace(state, {}, batch)

  def model_flops(self, batch):
    return 2.0 * batch["x"].shape[0] * 16 * 16


@pytest.fixture
def steps(tmp_path):
  root = storage.Path(tmp_path)
  storage.write_json(root / "run.json", {"attempt": 1})

  def make(**fields):
    program = Tiny(jax.make_mesh((1,), ("x",), devices=jax.devices()[:1]), CONFIG, **fields)
    return program, CompiledSteps(program, root, contextlib.nullcontext)

  return make


def programs(tmp_path):
  return storage.read_json(storage.Path(tmp_path) / "run.json")["programs"]


def batch(rows):
  return {"y": jnp.zeros(rows), "x": jnp.ones((rows, 16))}


def test_each_form_is_compiled_once_and_counted(steps, tmp_path):
  program, compiled = steps()
  shapes = {name: jax.ShapeDtypeStruct(a.shape, a.dtype) for name, a in batch(4).items()}
  first = compiled.of(dict(sorted(shapes.items())))  # before there is a batch
  assert compiled.of(batch(4)) is first
  other = compiled.of(batch(8))
  assert (first.model_flops, other.model_flops) == (2048.0, 4096.0)
  assert program.traces == 2
  state, metrics = first.call({"w": jnp.ones((16, 16))}, {}, batch(4))
  assert float(metrics["loss"]) == 16.0
  assert float(state["w"][0, 0]) == 1.0 + 16.0 * 64
  of_four, of_eight = programs(tmp_path)
  assert of_four["batch"] == {"x": "4x16", "y": "4"}
  assert of_eight["batch"] == {"x": "8x16", "y": "8"}
  assert 1.0 <= of_four["hardware_flops"] / of_four["model_flops"] < 1.5
  assert of_four["peak_bytes_per_device"] > 16 * 16 * 4


def test_what_xla_counts_once_is_not_passed_off_as_all(steps, tmp_path):
  _, compiled = steps(loops=True)
  compiled.of(batch(4))
  (only,) = programs(tmp_path)
  assert only["hardware_flops"] is None
  assert only["model_flops"] == 2048.0


@pytest.fixture
def settings():
  """JAX's settings of the cache are put back."""
  names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
  before = {name: getattr(jax.config, name) for name in names}
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
  yield
  for name, value in before.items():
    jax.config.update(name, value)
  compiling.compilation_cache.reset_cache()


@pytest.mark.parametrize("place", ["local", "gs"])
def test_cache_is_used_and_spoken_of(steps, tmp_path, settings, capsys, place):
  with contextlib.ExitStack() as stack:
    folder = str(tmp_path / "cache")
    if place == "gs":
      store = stack.enter_context(object_store.serve())
      stack.enter_context(store.environment())
      folder = "gs://bucket/cache"
    compiling.use_cache(folder)
    for _ in range(2):
      jax.clear_caches()  # as in another process
      steps()[1].of(batch(4))
    assert storage.list_files(folder)
  assert [program["compile_cache"] for program in programs(tmp_path)] == ["miss", "hit"]
  assert "(cache: hit)" in capsys.readouterr().out


def test_no_folder_leaves_jax_alone(settings):
  before = jax.config.jax_compilation_cache_dir
  compiling.use_cache("")
  assert jax.config.jax_compilation_cache_dir == before


def test_compilation_is_a_phase_of_its_own(tmp_path):
  ledger = Ledger(storage.Path(tmp_path), 1)
  storage.write_json(storage.Path(tmp_path) / "run.json", {})
  program = Tiny(jax.make_mesh((1,), ("x",), devices=jax.devices()[:1]), CONFIG)
  compiled = CompiledSteps(program, storage.Path(tmp_path), lambda: ledger.phase("compile"))
  with ledger, ledger.phase("steps"):
    compiled.of(batch(4))
  line = storage.read_text(storage.Path(tmp_path) / "goodput.jsonl")
  assert '"compile"' in line


def test_without_the_cache_nothing_is_kept_and_afterwards_it_is_there_again(
  steps, tmp_path, settings
):
  compiling.use_cache(str(tmp_path / "cache"))
  with compiling.without_cache():
    steps()[1].of(batch(4))
  jax.clear_caches()
  steps()[1].of(batch(4))
  assert [program["compile_cache"] for program in programs(tmp_path)] == ["off", "miss"]
