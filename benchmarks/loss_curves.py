"""How far the losses of twenty steps are from those of one device: meshes, parts, policies.

  JAX_PLATFORMS=cpu JAX_NUM_CPU_DEVICES=8 python -m benchmarks.loss_curves

Prints a table: the largest relative difference of a loss over the steps. A tiny SVD model is
trained on made-up latents, in float32. `tests/invariance/test_training.py` holds the bound.
"""

import dataclasses
import functools

from absl import app
import jax
import numpy as np

from vidjax import config as configs
from vidjax import divisibility
from vidjax import program as programs
from vidjax.parallel import mesh as meshes
from vidjax.parallel import plan
from vidjax.parallel.mesh import MeshConfig

STEPS, ROWS, FRAMES = 20, 8, 4


@dataclasses.dataclass(frozen=True)
class Way:
  """One way to compute the same steps."""

  mesh: MeshConfig = dataclasses.field(default_factory=MeshConfig)
  devices: int = 8
  parts: int = 1
  remat: str = "none"


WAYS = {
  "fsdp 8": Way(),
  "replica 2, fsdp 4; products stored": Way(MeshConfig(replica=2), remat="matmuls"),
  "fsdp 4, context 2; attention stored": Way(MeshConfig(context=2), remat="attention"),
  "fsdp 4, tensor 2; inputs of blocks stored": Way(MeshConfig(tensor=2), remat="block"),
  "replica 2, fsdp 2, context 2; inputs of blocks in host memory": Way(
    MeshConfig(replica=2, context=2), remat="offload"
  ),
  "fsdp 2, context 2, tensor 2; two parts": Way(MeshConfig(context=2, tensor=2), parts=2),
  "context 4, tensor 2; four parts": Way(MeshConfig(context=4, tensor=2), parts=4),
}


def config_of(way: Way) -> configs.TrainConfig:
  """Video from text, of latents 2 x 3: context=2 divides a frame's positions, context=4 does not.

  Latents are cached, and there is one level, of which the middle has a transformer: every way is a
  program to compile.
  """
  keys = ["encoders.vae=random:tiny", "data.path=none", "data.kind=latents"]
  config = configs.load("configs/svd/video_lowres.py:tiny", keys)
  overrides = {"in_channels": 8, "block_out_channels": (32,), "num_attention_heads": (4,)}
  overrides |= {"layers_per_block": (1,), "transformer_layers_per_block": (1,)}
  overrides |= {"attention": (False,), "remat": (way.remat,)}
  return dataclasses.replace(
    config,
    batch_size=ROWS,
    accumulation_steps=way.parts,
    mesh=way.mesh,
    data=dataclasses.replace(config.data, num_frames=FRAMES, height=16, width=24),
    optimizer=dataclasses.replace(config.optimizer, learning_rate=1e-3, warmup_samples=0),
    model=dataclasses.replace(config.model, overrides=overrides),
  )


def batch() -> dict[str, np.ndarray]:
  """Latents without spread, captions and scores: the same at every step, to be learned."""
  rng = np.random.default_rng(0)
  mean = 5 * rng.standard_normal((ROWS, FRAMES, 2, 3, 8), np.float32)
  return {
    "latents_BTHWC": np.concatenate([mean, np.full_like(mean, -10)], axis=-1).astype(np.float16),
    "tokens_BL": rng.integers(0, 250, (ROWS, 64), np.int32),
    "fps_B": np.full(ROWS, 4, np.float32),
    "motion_score_B": rng.uniform(0, 10, ROWS).astype(np.float32),
    "sample_index_B": np.arange(ROWS, dtype=np.uint32),
  }


def losses(way: Way) -> np.ndarray:
  """The loss of each step."""
  config = config_of(way)
  mesh = meshes.make_mesh(config.mesh, jax.devices()[: way.devices])
  divisibility.check(config, mesh.shape)
  # optax raises a Python float to the power of an int32 count: its own promotion, not ours.
  with jax.set_mesh(mesh), jax.numpy_dtype_promotion("standard"):
    program = programs.make(config, mesh)
    state, frozen = program.fresh(), program.load_frozen()
    found = []
    placed = jax.device_put(batch(), jax.tree.map(lambda a: a.sharding, program.batch))
    for _ in range(STEPS):
      state, metrics = program.step(state, frozen, placed)
      found.append(float(metrics["loss"]))
  return np.asarray(found)


@functools.cache
def on_one_device() -> np.ndarray:
  """What the others are compared with."""
  return losses(Way(devices=1))


def main(_) -> None:
  """Prints the table."""
  plan.SMALL = 2**12  # else most weights of a tiny model are replicated
  expected = on_one_device()
  print(f"one device: loss {expected[0]:.4f} at step 1, {expected[-1]:.4f} at step {STEPS}\n")
  print("| way | largest relative difference |\n|---|---|")
  for name, way in WAYS.items():
    difference = np.max(np.abs(losses(way) / expected - 1.0))
    print(f"| {name} | {difference:.1e} |", flush=True)


if __name__ == "__main__":
  app.run(main)
