"""Time and memory of moving 1.5 billion parameters between layouts, and onto eight devices.

  python -m benchmarks.convert_weights --dir=DIR [--preset=svd]

Writes a UNet with random weights, drawn tensor by tensor, as diffusers; converts that to
Stability's layout and back; checks that the same bytes come back; loads it onto eight CPU devices,
each of which gets its shards only. Prints a table: wall time, and the peak of anonymous memory
(RssAnon of /proc/self/status, sampled; what files are in the page cache is not counted). Needs
Linux and, for SVD, 19 GB of disk in DIR and 8 GB of memory. What it writes is removed at the end.
"""

from collections.abc import Callable, Iterator
import contextlib
import dataclasses
import hashlib
import json
import os
import subprocess
import sys
import threading
import time

from absl import app, flags
import numpy as np

from vidjax import lazy, storage
from vidjax.interop import diffusers, export, stability
from vidjax.models.unet import PRESETS, UNet
from vidjax.nn.params import network

_DIR = flags.DEFINE_string("dir", None, "Folder with room for three copies.", required=True)
_PRESET = flags.DEFINE_string("preset", "svd", "Preset of vidjax.models.unet.")
_CHILD = flags.DEFINE_bool("load_only", False, "Only load what is in DIR; used by itself.")

_DEVICES = 8


@dataclasses.dataclass
class Row:
  """One line of the table."""

  what: str
  seconds: float = 0.0
  peak_mib: float = 0.0
  notes: dict = dataclasses.field(default_factory=dict)


@contextlib.contextmanager
def measured(what: str, rows: list[Row]) -> Iterator[Row]:
  row, done = Row(what), threading.Event()

  def sample() -> None:
    while not done.wait(0.02):
      row.peak_mib = max(row.peak_mib, anonymous_mib())

  thread = threading.Thread(target=sample)
  thread.start()
  began = time.perf_counter()
  try:
    yield row
  finally:
    row.seconds = time.perf_counter() - began
    done.set()
    thread.join()
    rows.append(row)
    print(f"{row.what}: {row.seconds:.0f} s, {row.peak_mib:.0f} MiB {row.notes or ''}", flush=True)


def anonymous_mib() -> float:
  status = storage.read_text("/proc/self/status")
  line = next(line for line in status.splitlines() if line.startswith("RssAnon:"))
  return int(line.split()[1]) / 1024


def drawn(shape: tuple[int, ...], seed: int) -> lazy.LazyArray:
  """Random values that exist only while somebody looks at them."""

  def fetch(index: lazy.Index) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)[index]

  return lazy.LazyArray(shape, np.dtype(np.float32), fetch)


def convert(rows: list[Row]) -> None:
  config, root = PRESETS[_PRESET.value], storage.Path(_DIR.value)
  abstract = network(lambda rngs: UNet(config, rngs)).abstract
  weights = {name: drawn(leaf.shape, i) for i, (name, leaf) in enumerate(abstract.items())}
  with measured("draw, write as diffusers", rows) as row:
    export.write_unet(root / "a", config, weights, 14, 96)
    row.notes = {"parameters": sum(w.size for w in weights.values()), "tensors": len(weights)}
  with measured("diffusers -> Stability", rows):
    stability.write(root / "file", {"unet": diffusers.open_unet(root / "a")}, {})
  with measured("Stability -> diffusers", rows):
    opened = stability.open_file(root / "file" / "model.safetensors").open("unet")
    export.write_unet(root / "b", *opened, 14, 96)
  names = [f.name for f in storage.list_files(root / "a")]
  left, right = ([digest(root / x / name) for name in names] for x in "ab")
  assert left == right, "the round trip changed the weights"
  print(f"the round trip gave the same bytes: {left[0][:16]}", flush=True)


def digest(path: storage.Path) -> str:
  with storage.open_read(path) as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


def load(rows: list[Row]) -> None:
  """In a process of its own, whose devices are eight parts of the CPU."""
  import jax

  from vidjax import pretrained
  from vidjax.checkpoint import warm_start
  from vidjax.parallel import mesh as meshes
  from vidjax.parallel import plan

  mesh = meshes.make_mesh(meshes.MeshConfig(fsdp=_DEVICES))
  with measured(f"load onto {_DEVICES} devices, fsdp={_DEVICES}", rows) as row:
    source = pretrained.load(str(storage.Path(_DIR.value) / "a"))
    net = network(lambda rngs: UNet(PRESETS[_PRESET.value], rngs))
    shardings = plan.param_shardings(net.roles, net.abstract, mesh)
    wanted = {
      name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=shardings[name])
      for name, leaf in net.abstract.items()
    }
    params, _ = warm_start(wanted, source.params, no_draw)
    jax.block_until_ready(params)
    held = dict.fromkeys(jax.devices(), 0)
    for value in params.values():
      for shard in value.addressable_shards:
        held[shard.device] += shard.data.nbytes
    whole = lazy.nbytes(source.params)
    row.notes = {
      "model_mib": round(whole / 2**20),
      "largest_share_of_a_device": round(max(held.values()) / whole, 4),
      "all_devices_mib": round(sum(held.values()) / 2**20),
    }


def no_draw(names: frozenset[str]) -> dict:
  raise AssertionError(f"all is there, but {sorted(names)[:3]}")


def load_in_child(rows: list[Row]) -> None:
  env = {
    **os.environ,
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": f"--xla_force_host_platform_device_count={_DEVICES}",
  }
  command = [sys.executable, "-m", "benchmarks.convert_weights", "--load_only"]
  command += [f"--dir={_DIR.value}", f"--preset={_PRESET.value}"]
  done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True)
  rows += [Row(**values) for values in json.loads(done.stdout.splitlines()[-1])]


def main(_: list[str]) -> None:
  rows: list[Row] = []
  if _CHILD.value:
    load(rows)
    print(json.dumps([dataclasses.asdict(row) for row in rows]))
    return
  parts: tuple[Callable[[list[Row]], None], ...] = (convert, load_in_child)
  try:
    for part in parts:
      part(rows)
  finally:
    for name in ("a", "b", "file"):
      storage.remove(storage.Path(_DIR.value) / name)
  print("\n| | seconds | peak of anonymous memory, MiB | |\n|---|---|---|---|")
  for row in rows:
    notes = ", ".join(f"{key} {value}" for key, value in row.notes.items())
    print(f"| {row.what} | {row.seconds:.0f} | {row.peak_mib:.0f} | {notes} |")


if __name__ == "__main__":
  app.run(main)
