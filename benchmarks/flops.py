"""The model's own FLOPs of a training step beside those of its compiled program.

  JAX_PLATFORMS=cpu python -m benchmarks.flops

Prints a table for SVD's stages in CPU size: what `vidjax.flops` counts, for MFU, and the products
in the text of the program that XLA compiled for the CPU. `tests/unit/test_flops.py` holds the
bound, and full sizes against another implementation's count.
"""

import pathlib
from typing import Any

from absl import app
import jax
import jax.numpy as jnp

from benchmarks import hlo_products
from vidjax import config as configs
from vidjax import denoising, flops
from vidjax.diffusion import noise

STAGES = ("image", "video_lowres", "video_highres", "image_to_video", "image_to_video:highres")
TRAINED = ("", "up_blocks")  # all, or what has this in its name
_ROOT = pathlib.Path(__file__).parents[1]


def of(*shape: int, dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(shape, dtype)


def count(stage: str, trained: str) -> tuple[int, int]:
  """FLOPs of the model and of the program: encoders, condition, UNet and gradient."""
  name, _, phase = stage.partition(":")
  variants = ",".join(filter(None, (phase, "tiny")))
  config = configs.load(
    f"{_ROOT}/configs/svd/{name}.py:{variants}", ["data.path=none", "encoders.vae=random:tiny"]
  )
  task = denoising.make_task(config)
  size = config.batch_size, config.data.num_frames, config.data.height, config.data.width
  batch = {
    "video_BTHWC": of(*size, 3, dtype=jnp.uint8),
    "motion_score_B": of(size[0]),
    "fps_B": of(size[0]),
    "sample_index_B": of(size[0], dtype=jnp.uint32),
  }
  if config.encoders.text:
    batch["tokens_BL"] = of(size[0], 64, dtype=jnp.int32)

  def loss(live: Any, fixed: Any, frozen: Any, batch: Any) -> Any:
    keys_B = noise.sample_keys(0, batch["sample_index_B"])
    return task.loss({**live, **fixed}, frozen, batch, keys_B)

  live = {name: leaf for name, leaf in task.network.abstract.items() if trained in name}
  fixed = {name: leaf for name, leaf in task.network.abstract.items() if name not in live}
  frozen = {kind: encoder.network.abstract for kind, encoder in task.frozen.encoders.items()}
  args = live, fixed, frozen, batch
  program = jax.jit(jax.value_and_grad(loss, has_aux=True)).lower(*args).compile()
  return flops.step_flops(loss, *args).total, hlo_products.flops(program)


def main(_) -> None:
  """Prints the table."""
  print(
    "| stage | trained | model, GFLOP | program, GFLOP | model / program |\n|---|---|---|---|---|"
  )
  for stage in STAGES:
    for trained in TRAINED:
      model, program = count(stage, trained)
      cells = f"{model / 1e9:.2f} | {program / 1e9:.2f} | {model / program:.4f}"
      print(f"| {stage} | {trained or 'all'} | {cells} |", flush=True)


if __name__ == "__main__":
  app.run(main)
