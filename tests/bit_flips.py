"""Single bits of a saved step, flipped at random places: each is noticed, or does not matter.

python tests/bit_flips.py SEED FLIPS      prints one JSON object
"""

import dataclasses
import json
import os
import pathlib
import sys
import tempfile

import jax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
import ml_dtypes
import numpy as np

from vidjax.checkpoint import Checkpointer, layout
from vidjax.errors import CheckpointError

STEP = 3
POSITION = {"samples": 12, "data": {"clips": "a1b2"}, "config": {"seed": 5}}


@dataclasses.dataclass
class Counts:
  """What became of the flips.

  Attributes:
    seed: of their places.
    detected: the restore refused the step.
    harmless: the restore gave the right values and position.
    wrong: places (file, byte, bit) where it did neither; there must be none.
    by_file: how many were detected and harmless, by kind of file.
  """

  seed: int
  detected: int = 0
  harmless: int = 0
  wrong: list[tuple[str, int, int]] = dataclasses.field(default_factory=list)
  by_file: dict[str, list[int]] = dataclasses.field(default_factory=dict)


def make_state(seed: int) -> dict:
  """A state of incompressible and of constant arrays, sharded and not."""
  devices = jax.device_count()
  mesh = jax.make_mesh((devices,), ("fsdp",), axis_types=(AxisType.Explicit,))
  rng = np.random.default_rng(seed)
  noise = rng.normal(size=(32, 24)).astype(np.float32)

  def put(x, *spec):
    return jax.device_put(x, NamedSharding(mesh, P(*spec)))

  return {
    "params": {"kernel": put(noise, "fsdp"), "bias": put(noise[0])},
    "mu": put(np.zeros((32, 24), np.float32), "fsdp"),
    "half": put(noise.astype(ml_dtypes.bfloat16)),
    "step": put(np.int32(STEP)),
  }


def flip_bits(seed: int, flips: int, folder: pathlib.Path) -> Counts:
  """Saves a small step in `folder` and restores it once for each flipped bit.

  Half of the flips choose among all files alike, half among all bytes.
  """
  rng = np.random.default_rng(seed)
  state = make_state(seed)
  with Checkpointer(folder, keep=1) as saver:
    saver.save(STEP, state, POSITION)
  saver = Checkpointer(folder, keep=1)
  like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)
  expected = {name: np.asarray(x).tobytes() for name, x in layout.flatten(state).items()}
  files = sorted(p for p in (folder / str(STEP)).rglob("*") if p.is_file() and p.stat().st_size)
  sizes = np.array([path.stat().st_size for path in files])
  counts = Counts(seed)
  for number in range(flips):
    chances = sizes / sizes.sum() if number % 2 else None
    at = int(rng.choice(len(files), p=chances))
    byte, bit = int(rng.integers(sizes[at])), int(rng.integers(8))
    flip(files[at], byte, bit)
    try:
      restored = layout.flatten(saver.restore(STEP, like))
      same = {name: np.asarray(x).tobytes() for name, x in restored.items()} == expected
      if not same or saver.position(STEP) != POSITION:
        counts.wrong.append((str(files[at].relative_to(folder)), byte, bit))
      else:
        counts.harmless += 1
        counts.by_file.setdefault(kind(files[at]), [0, 0])[1] += 1
    except CheckpointError:
      counts.detected += 1
      counts.by_file.setdefault(kind(files[at]), [0, 0])[0] += 1
    finally:
      flip(files[at], byte, bit)
  return counts


def flip(file: pathlib.Path, byte: int, bit: int) -> None:
  """Turns one bit of a file around, in place."""
  with open(file, "r+b") as opened:
    opened.seek(byte)
    old = opened.read(1)[0]
    opened.seek(byte)
    opened.write(bytes([old ^ (1 << bit)]))


def kind(file: pathlib.Path) -> str:
  """Name of a file, or `data` where it is a random one."""
  return "data" if file.parent.name == "d" else f"{file.parent.name}/{file.name}"


def main() -> None:
  """Flips as many bits as the command line says."""
  jax.config.update("jax_platforms", "cpu")
  seed, flips = map(int, sys.argv[1:])
  memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
  with tempfile.TemporaryDirectory(dir=memory) as folder:
    counts = flip_bits(seed, flips, pathlib.Path(folder))
  print(json.dumps(dataclasses.asdict(counts)))
  sys.exit(bool(counts.wrong))


if __name__ == "__main__":
  main()
