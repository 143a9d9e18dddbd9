"""The training step as compiled programs, one for each form of batch, and what is known of each.

A batch of videos, one of pictures and one of another view have different shapes and so different
programs. Each is compiled explicitly, so that its time is nobody's step, and its costs are known.
"""

from collections.abc import Callable, Iterator
import contextlib
import dataclasses
import time
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache
from jax.extend import core as jax_core

from vidjax import storage
from vidjax.observe import console, run_info
from vidjax.parallel import distributed
from vidjax.program import Program

_CACHE_ON = "jax_enable_compilation_cache"
# What XLA's count of FLOPs has once, or not at all: loops, our kernels, attention by cuDNN.
_MISCOUNTED = {"scan", "while", "pallas_call", "dot_product_attention_fwd_wrapper"}


@dataclasses.dataclass(frozen=True)
class CompiledStep:
  """The step for one form of batch.

  Attributes:
    call: `(state, frozen, batch) -> (state, metrics)`; the state is donated.
    model_flops: of one step, all devices; None where they cannot be counted.
  """

  call: Callable[..., Any]
  model_flops: int | None


class CompiledSteps:
  """The step of a program for every form of batch that comes.

  Args:
    program: to be compiled.
    root: workdir; `run.json` in it gets a line for each program.
    aside: gives a context whose time is not that of a step.
  """

  def __init__(
    self,
    program: Program,
    root: storage.Path,
    aside: Callable[[], contextlib.AbstractContextManager[None]],
  ):
    self._program, self._root, self._aside = program, root, aside
    self._steps: dict[Any, CompiledStep] = {}

  def of(self, batch: dict[str, Any]) -> CompiledStep:
    """The step for batches like this one, which may be arrays or shapes; compiled at most once."""
    form = _form(batch)
    if form not in self._steps:
      with self._aside():
        self._steps[form] = self._compile(batch)
    return self._steps[form]

  def _compile(self, batch: dict[str, Any]) -> CompiledStep:
    began = time.perf_counter()
    traced = self._program.trace(batch)
    model_flops = self._model_flops(batch)
    lowered = traced.lower()
    lowered_at = time.perf_counter()
    with _cache_use() as cache:
      compiled = lowered.compile()
    seconds = time.perf_counter() - lowered_at
    # One process may compile while the others find the program in their caches; the first
    # collective would not wait so long for it.
    distributed.meet("compilation", self._program.config.deadlines.compile)
    memory = compiled.memory_analysis()
    facts = {
      "batch": {name: "x".join(map(str, shape)) for name, shape in _form(batch)},
      "trace_seconds": round(lowered_at - began, 3),
      "compile_seconds": round(seconds, 3),
      "compile_cache": cache(),
      "model_flops": model_flops,
      "hardware_flops": _hardware_flops(traced, compiled, self._program.mesh.size),
      "peak_bytes_per_device": memory and memory.peak_memory_in_bytes,
    }
    run_info.add_program(self._root, facts)
    console.line(f"{self._root}: compiled the step in {seconds:.1f} s (cache: {cache()})")
    return CompiledStep(compiled, model_flops)

  def _model_flops(self, batch: dict[str, Any]) -> int | None:
    try:
      return self._program.model_flops(batch)
    except ValueError as error:  # nobody trains for the sake of a figure
      console.line(f"no MFU: {error}")
      return None


def use_cache(folder: str) -> None:
  """Keeps compiled programs in `folder`, for this process and those that come after it.

  Args:
    folder: local, gs:// or s3://; "" leaves it to JAX (JAX_COMPILATION_CACHE_DIR, else no cache).
      What is kept there (programs that take a second or longer) is JAX's to decide, too.
  """
  if folder:
    jax.config.update("jax_compilation_cache_dir", folder)
    compilation_cache.reset_cache()  # what was compiled before has fixed it


@contextlib.contextmanager
def without_cache() -> Iterator[None]:
  """A context in which JAX keeps no compiled programs and looks for none, in any thread.

  It writes those for devices that are not here, but cannot read them: a warning for each, and none
  is found. `vidjax plan` has a cache of its own.
  """
  before = getattr(jax.config, _CACHE_ON)
  jax.config.update(_CACHE_ON, False)
  compilation_cache.reset_cache()  # the first program decides whether the cache is used at all
  try:
    yield
  finally:
    jax.config.update(_CACHE_ON, before)
    compilation_cache.reset_cache()


@contextlib.contextmanager
def _cache_use() -> Iterator[Callable[[], str]]:
  """Gives a function that says how the cache served the block: "hit", "miss" or "off"."""
  events = set()

  def listen(event: str, **_) -> None:
    events.add(event.rsplit("/", 1)[-1])

  def said() -> str:
    if "cache_hits" in events:
      return "hit"
    return "miss" if "compile_requests_use_cache" in events else "off"

  jax.monitoring.register_event_listener(listen)
  try:
    yield said
  finally:
    jax.monitoring.unregister_event_listener(listen)


def _hardware_flops(traced: Any, compiled: Any, devices: int) -> float | None:
  """FLOPs of one call, all devices, by XLA's own count; None where that is not the whole.

  XLA counts the body of a loop once, and a hand-written kernel not at all.
  """
  if _MISCOUNTED & set(_primitives(traced.jaxpr.jaxpr)):
    return None
  costs = compiled.cost_analysis()
  return costs["flops"] * devices if costs and "flops" in costs else None


def _primitives(jaxpr: Any) -> Iterator[str]:
  """Names of all operations, at any depth."""
  for equation in jaxpr.eqns:
    yield equation.primitive.name
    for inner in jax_core.jaxprs_in_params(equation.params):
      yield from _primitives(inner)


def _form(batch: dict[str, Any]) -> tuple[tuple[str, tuple[int, ...]], ...]:
  """Names and shapes, in order of names; dtypes follow from the names."""
  form = []
  for name, value in sorted(batch.items()):
    if isinstance(value, dict):
      form += [(f"{name}/{inner}", shape) for inner, shape in _form(value)]
    else:
      form.append((name, value.shape))
  return tuple(form)
