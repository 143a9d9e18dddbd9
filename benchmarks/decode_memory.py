"""Peak memory of decoding many frames against few, a chunk at a time.

  JAX_PLATFORMS=cpu python -m benchmarks.decode_memory --at_once=64

Decodes random latents with SVD's temporal decoder (random weights) through `Pipeline`, each number
of frames in a process of its own; with --at_once the last row decodes all frames at once, which is
what chunks are for. Prints a table: the peak of anonymous memory while decoding (RssAnon of
/proc/self/status, sampled), what of it decoding added, the peak of resident memory of the process
(VmHWM), the time with compilation, and the ratio of the peaks to the first row. Needs Linux.
"""

from collections.abc import Iterator
import contextlib
import dataclasses
import json
import subprocess
import sys
import tempfile
import threading
import time

from absl import app, flags

from vidjax import storage

_FRAMES = flags.DEFINE_list("frames", ["8", "64"], "Numbers of frames.")
_CHUNK = flags.DEFINE_integer("chunk", 8, "Frames decoded at once.")
_HEIGHT = flags.DEFINE_integer("height", 128, "Pixels.")
_WIDTH = flags.DEFINE_integer("width", 192, "Pixels.")
_AT_ONCE = flags.DEFINE_integer("at_once", 0, "Frames of the last row; 0: no such row.")
_ONE = flags.DEFINE_integer("one", 0, "Only decode this many frames; used by itself.")


@dataclasses.dataclass
class Row:
  """One line of the table; memory in MiB."""

  frames: int
  chunk: int
  before: float = 0.0
  anonymous: float = 0.0
  resident: float = 0.0
  seconds: float = 0.0


def status_mib(field: str) -> float:
  lines = storage.read_text("/proc/self/status").splitlines()
  return int(next(line for line in lines if line.startswith(f"{field}:")).split()[1]) / 1024


@contextlib.contextmanager
def measured(row: Row) -> Iterator[None]:
  """Notes time and the peaks of memory of what runs inside."""
  done = threading.Event()

  def sample() -> None:
    while not done.wait(0.01):
      row.anonymous = max(row.anonymous, status_mib("RssAnon"))

  thread = threading.Thread(target=sample)
  row.before, began = status_mib("RssAnon"), time.perf_counter()
  thread.start()
  try:
    yield
  finally:
    row.seconds = time.perf_counter() - began
    done.set()
    thread.join()
    row.resident = status_mib("VmHWM")


def decode(frames: int, chunk: int) -> Row:
  """In this process."""
  import jax
  import numpy as np

  from vidjax import config as configs
  from vidjax.encoders import vae
  from vidjax.interop import export
  from vidjax.pipeline import Pipeline

  shape = vae.VAEConfig(use_post_quant_conv=False, temporal_decoder=True)
  rng = np.random.default_rng(0)
  weights = {
    name: rng.standard_normal(leaf.shape, np.float32)
    * np.float32(0.5 if len(leaf.shape) < 2 else np.prod(leaf.shape[:-1]) ** -0.5)
    for name, leaf in vae.describe(shape).abstract.items()
  }
  with tempfile.TemporaryDirectory() as folder:
    export.write_vae(folder, shape, weights, _HEIGHT.value)
    del weights
    values = {
      "total_samples": 1,
      "data": {"path": "none"},
      "encoders": {"vae": folder, "text": "random:tiny"},
      "model": {"preset": "tiny"},
      "conditioning": {"mode": "text_to_video"},
    }
    pipe = Pipeline(configs.from_dict(configs.TrainConfig, values), {}, "random")
    frozen = jax.block_until_ready(jax.device_put(pipe._frozen.weights))
  size = (frames, _HEIGHT.value // shape.downsampling, _WIDTH.value // shape.downsampling)
  latents = jax.device_put(rng.standard_normal((1, *size, shape.latent_channels), np.float32))
  row = Row(frames, chunk)
  with measured(row):
    video = pipe._decoded(frozen, latents, chunk)
  assert video.shape == (1, frames, _HEIGHT.value, _WIDTH.value, 3)
  assert video.std() > 0.01
  return row


def in_child(frames: int, chunk: int) -> Row:
  command = [sys.executable, "-m", "benchmarks.decode_memory", f"--one={frames}"]
  command += [f"--chunk={chunk}", f"--height={_HEIGHT.value}", f"--width={_WIDTH.value}"]
  done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
  row = Row(**json.loads(done.stdout.splitlines()[-1]))
  print(row, flush=True)
  return row


def main(_: list[str]) -> None:
  if _ONE.value:
    print(json.dumps(dataclasses.asdict(decode(_ONE.value, _CHUNK.value))))
    return
  rows = [in_child(int(frames), _CHUNK.value) for frames in _FRAMES.value]
  if _AT_ONCE.value:
    rows.append(in_child(_AT_ONCE.value, _AT_ONCE.value))
  print(
    "\n| frames | at once | ratio of anonymous peaks | of resident peaks | anonymous peak, MiB |"
    " added by decoding | resident peak | seconds |\n|---|---|---|---|---|---|---|---|"
  )
  for row in rows:
    print(
      f"| {row.frames} | {row.chunk} | {row.anonymous / rows[0].anonymous:.2f}"
      f" | {row.resident / rows[0].resident:.2f} | {row.anonymous:.0f}"
      f" | {row.anonymous - row.before:.0f} | {row.resident:.0f} | {row.seconds:.0f} |"
    )


if __name__ == "__main__":
  app.run(main)
