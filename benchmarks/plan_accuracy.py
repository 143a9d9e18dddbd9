"""Quick plans beside plans from the whole step, on models small enough to be compiled whole.

  python -m benchmarks.plan_accuracy --cache=DIR [--models=svd,image,conv1d]

Each model is planned for twice, from its distinct blocks and from the whole step, compiled for a
TPU topology; nothing runs. Prints a table. What is in the cache is not compiled again, so a change
of prices is seen in seconds.
"""

import os
import time

from absl import app, flags
import jax

from vidjax.planning import compilation, planner, search, topology
from vidjax.planning.figures import Plan

_CACHE = flags.DEFINE_string("cache", None, "Folder of compiled programs.", required=True)
_MODELS = flags.DEFINE_list("models", ["svd", "image", "conv1d"], "Which models.")

_TEXT = "encoders.text=random:tiny"
_CONTEXT = "model.overrides.cross_attention_dims=(64,)"
# Model -> (config, topology, overrides): SVD with narrow levels, two levels of Stable Diffusion
# 2.1 with one layer each, and convolutions along time between the spatial ones.
MODELS = {
  "svd": (
    "configs/svd/video_lowres.py",
    "v5e:2x2",
    _TEXT,
    _CONTEXT,
    "model.overrides.block_out_channels=(128,256,256)",
    "model.overrides.num_attention_heads=(2,4,4)",
    "model.overrides.attention=(True,True,False)",
    "model.overrides.layers_per_block=(1,1,1)",
    "model.overrides.transformer_layers_per_block=(1,1,1)",
    "batch_size=8",
    "data.num_frames=8",
  ),
  "image": (
    "configs/svd/image.py",
    "v5e:4x4",
    _TEXT,
    _CONTEXT,
    "encoders.vae=random:tiny",
    "model.overrides.in_channels=8",
    "model.overrides.out_channels=8",
    "model.overrides.block_out_channels=(320,640)",
    "model.overrides.num_attention_heads=(5,10)",
    "model.overrides.attention=(True,True)",
    "model.overrides.layers_per_block=(1,1)",
    "model.overrides.transformer_layers_per_block=(1,1)",
    "batch_size=128",
  ),
  "conv1d": (
    "configs/svd/video_lowres.py",
    "v5e:4x4",
    _TEXT,
    _CONTEXT,
    "encoders.vae=random:tiny",
    "model.overrides.in_channels=8",
    "model.overrides.out_channels=8",
    "model.overrides.temporal='conv1d'",
    "model.overrides.conv1d_outside_resblocks=True",
    "model.overrides.block_out_channels=(192,384)",
    "model.overrides.num_attention_heads=(3,6)",
    "model.overrides.attention=(True,True)",
    "model.overrides.layers_per_block=(1,1)",
    "model.overrides.transformer_layers_per_block=(1,1)",
    "batch_size=32",
  ),
}


def row(name: str, kind: str, plan: Plan, seconds: float) -> str:
  cells = (
    f"{name}, {plan.topology}",
    kind,
    f"{1e3 * plan.step_seconds:.1f}",
    f"{1e3 * plan.step_seconds_low:.0f} to {1e3 * plan.step_seconds_high:.0f}",
    f"{100 * plan.mfu:.1f}",
    f"{plan.hardware_flops_per_step / 1e12:.2f}",
    f"{plan.bytes_accessed / 1e9:.1f}",
    f"{plan.hbm.total / 2**30:.2f}",
    f"{plan.compile_seconds:.0f}",
    f"{seconds:.0f}",
  )
  return f"| {' | '.join(cells)} |"


def main(_) -> None:
  jax.config.update("jax_platforms", "cpu")
  header = (
    "model | plan | step, ms | bounds | MFU, % | TFLOP | HBM GB | GiB | compiled, s | took, s"
  )
  print(f"| {header} |\n|{'---|' * header.count('|')}---|", flush=True)
  for name in _MODELS.value:
    flag, where, *overrides = MODELS[name]
    config, _ = planner.load(flag, overrides)
    site = planner.site_of(topology.parse(where))
    cache = compilation.Cache(_CACHE.value)
    began = time.perf_counter()
    quick = search.Estimator(flag, site, cache, os.cpu_count() or 1)(config)
    print(row(name, "quick", quick, time.perf_counter() - began), flush=True)
    began = time.perf_counter()
    whole = planner.plan_whole(flag, planner.describe(config, site), site, cache)
    print(row(name, "whole", whole, time.perf_counter() - began), flush=True)
    print(f"{name}: quick / whole = {quick.step_seconds / whole.step_seconds:.2f}", flush=True)


if __name__ == "__main__":
  app.run(main)
