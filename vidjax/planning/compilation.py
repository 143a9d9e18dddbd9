"""Compiling for TPUs that are not here, each program once: results are kept by what was compiled.

What is kept of a program is what a plan reads: the optimized HLO text, XLA's own account of memory,
and how long compiling took. The key covers all that the result depends on: the program before
optimization, the topology and the versions of JAX and libtpu.
"""

from collections.abc import Iterator, Sequence
import contextlib
import ctypes
import dataclasses
import functools
import gzip
import hashlib
import importlib.metadata
import json
import os
import re
import tempfile
import time
from typing import Any

import jax
import jax.numpy as jnp

from vidjax import packed, storage
from vidjax.planning import topology as topologies
from vidjax.planning.topology import Topology

_M_ARENA_MAX = -8  # the name of the choice in glibc's malloc.h
_FORM = 1  # of a cache file; a reader of another form compiles anew
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_LIMIT = re.compile(r"exceeds available HBM \(([\d.]+)([KMGT])\)")
_NEEDED = re.compile(r"(?:Used|total memory required[^(]*\()\s*([\d.]+)([KMGT])")
_OF_MEMORY = "RESOURCE_EXHAUSTED"
_WRITTEN = ".after_codegen.txt"  # the last of the files that XLA writes of a program


@dataclasses.dataclass(frozen=True)
class Memory:
  """XLA's account of one device's HBM, bytes.

  Attributes:
    arguments: what goes in: state, frozen weights, batch.
    outputs: what comes out and lies in no argument's place.
    temporaries: what lives in between.
    code: the program.
    peak: the most that is in use at once; 0 if XLA does not say.
  """

  arguments: int
  outputs: int
  temporaries: int
  code: int
  peak: int = 0

  @property
  def total(self) -> int:
    """What has to be there: XLA's peak, or the sum of the parts where it gives none."""
    return self.peak or self.arguments + self.outputs + self.temporaries + self.code


@dataclasses.dataclass(frozen=True)
class Compiled:
  """A program, or why there is none.

  Attributes:
    hlo_text: optimized and scheduled; "" if it did not fit.
    memory: of one device; of a program that did not fit all that is known is the total.
    seconds: of compiling, when it was done.
    too_large: XLA's words, if the program did not fit into HBM.
  """

  hlo_text: str
  memory: Memory
  seconds: float
  too_large: str = ""


class Cache:
  """Compiled programs in a folder, safe for several processes: a file is there whole or not at all.

  Args:
    folder: where; any path that `vidjax.storage` takes.
  """

  def __init__(self, folder: storage.PathLike):
    self._folder = storage.Path(folder)

  def get(self, key: str) -> Compiled | None:
    """What is kept under `key`; None if nothing is, or nothing that can be read."""
    path = self._folder / f"{key}.json.gz"
    try:
      values = json.loads(packed.gunzip(path))
      if values.pop("form") != _FORM:
        return None
      return Compiled(**values | {"memory": Memory(**values["memory"])})
    except FileNotFoundError:
      return None
    except (OSError, EOFError, ValueError, TypeError, KeyError):
      return None  # damaged, or of another version: it is compiled again and written anew

  def put(self, key: str, compiled: Compiled) -> None:
    """Keeps `compiled` under `key`."""
    content = json.dumps(dataclasses.asdict(compiled) | {"form": _FORM}).encode()
    storage.write_bytes(self._folder / f"{key}.json.gz", gzip.compress(content, 6))


@functools.cache
def devices_of(topology: Topology) -> tuple[Any, ...]:
  """Devices of a topology, see `vidjax.planning.topology.devices`.

  libtpu writes to the process's standard error that it finds no TPU, which is why it is here.
  """
  _allocate_from_one_arena()
  with _silence():
    return tuple(topologies.devices(topology))


def _allocate_from_one_arena() -> None:
  """Has glibc use one arena for all threads; to be called before libtpu starts its own.

  With one for each, what a thread of XLA has freed is of no use to the others, and most of the
  memory in which a large step is compiled is such. Other C libraries have no such choice.
  """
  if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
    mallopt(_M_ARENA_MAX, 1)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
  kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
  os.dup2(nowhere, 2)
  try:
    yield
  finally:
    os.dup2(kept, 2)
    os.close(kept)
    os.close(nowhere)


def key_of(program_text: str, topology: Topology, options: dict[str, Any] | None = None) -> str:
  """Name of a program in the cache."""
  versions = [importlib.metadata.version(name) for name in ("jax", "jaxlib", "libtpu")]
  parts = (program_text, topology.name, str(topology.slices), *versions, repr(options))
  return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:40]


def compile_lowered(lowered: Any, topology: Topology, cache: Cache) -> Compiled:
  """Compiles what `jax.jit(...).lower(...)` made for devices of `topology`, or finds it compiled.

  A program that does not fit into HBM is a result, too: see `Compiled.too_large`.
  """
  key = key_of(lowered.as_text(), topology)
  found = cache.get(key)
  if found is not None:
    return found
  began = time.perf_counter()
  try:
    compiled = lowered.compile()
  except jax.errors.JaxRuntimeError as error:
    if _OF_MEMORY not in str(error):
      raise
    text = str(error)
    result = Compiled("", Memory(0, 0, needed_bytes(text), 0), time.perf_counter() - began, text)
  else:
    stats = compiled.memory_analysis()
    memory = Memory(
      arguments=stats.argument_size_in_bytes,
      outputs=stats.output_size_in_bytes - stats.alias_size_in_bytes,
      temporaries=stats.temp_size_in_bytes,
      code=stats.generated_code_size_in_bytes,
      peak=getattr(stats, "peak_memory_in_bytes", 0),
    )
    result = Compiled(_text(lowered, compiled), memory, time.perf_counter() - began)
  cache.put(key, result)
  return result


def _text(lowered: Any, compiled: Any) -> str:
  """The compiled program's HLO, with the compiler's cycle counts."""
  try:
    return compiled.as_text()
  except jax.errors.JaxRuntimeError:
    # Some asynchronous instructions that libtpu makes are wrong to jaxlib, which reads the program
    # before it writes it. libtpu writes them itself, while it compiles.
    with tempfile.TemporaryDirectory(prefix="vidjax-") as folder:
      lowered.compile(compiler_options={"xla_dump_to": folder, "xla_dump_hlo_as_text": True})
      (path,) = (path for path in storage.list_files(folder) if path.name.endswith(_WRITTEN))
      return storage.read_text(path)


def needed_bytes(error: str) -> int:
  """What XLA says that a program would need which does not fit; 0 if it does not say."""
  found = _NEEDED.search(error)
  return _bytes(*found.groups()) if found else 0


def memory_limit(devices: Sequence[Any], assumed: int) -> int:
  """HBM of a device that a program may use, bytes: XLA's own figure, a little below the chip's.

  It is read from XLA's refusal of a program that no device can hold.

  Args:
    devices: of the topology.
    assumed: what is returned if the refusal has other words.
  """
  mesh = jax.sharding.Mesh(devices[:1], ("device",))
  sharding = jax.NamedSharding(mesh, jax.P())
  huge = jax.ShapeDtypeStruct((2**40,), jnp.float32, sharding=sharding)
  try:
    jax.jit(lambda x: x + 1).lower(huge).compile()
  except jax.errors.JaxRuntimeError as error:
    found = _LIMIT.search(str(error))
    return _bytes(*found.groups()) if found else assumed
  return assumed


def _bytes(number: str, unit: str) -> int:
  return int(float(number) * _UNITS[unit])
