"""The demo's job in miniature, by the real commands: what the end-to-end tests look at."""

from collections.abc import Mapping
import os
import pathlib
import subprocess
import sys

import numpy as np

# The tiny configs, smaller still: seconds instead of minutes on a CPU.
SMALL = ("--config.checkpoint.every_steps=2", "--config.log_every_steps=1")
PICTURES = ("--config.data.height=16", "--config.data.width=24")
# A UNet of one level: it is compiled in every command.
ONE_LEVEL = (
  "--config.model.overrides.block_out_channels=(64,)",
  "--config.model.overrides.attention=(True,)",
  "--config.model.overrides.layers_per_block=(1,)",
  "--config.model.overrides.transformer_layers_per_block=(1,)",
  "--config.model.overrides.num_attention_heads=(4,)",
)
IMAGE = (*PICTURES, *ONE_LEVEL)
VIDEO = (*IMAGE, "--config.data.num_frames=4")


def environment(env: Mapping[str, str] | None = None) -> dict[str, str]:
  """Of a command as a user runs it: without torch, and with `env`."""
  without_torch = str(pathlib.Path(__file__).parent / "without_torch")
  return {**os.environ, "PYTHONPATH": without_torch, **(env or {})}


def run_vidjax(*args: str, code: int = 0, env: Mapping[str, str] | None = None):
  """Runs `vidjax ARGS` as a user would; fails with its output unless it exits with `code`."""
  done = subprocess.run(
    [sys.executable, "-m", "vidjax.cli", *map(str, args)],
    capture_output=True,
    text=True,
    timeout=300,
    env=environment(env),
  )
  assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
  return done


def moving_square(seed: int, num_frames: int = 150, size: tuple[int, int] = (48, 72)) -> np.ndarray:
  """A bright square that crosses a textured background: (T, H, W, 3) uint8."""
  rng = np.random.default_rng(seed)
  height, width = size
  back = np.kron(rng.integers(30, 200, (6, 9, 3)), np.ones((height // 6, width // 9, 1)))
  frames = np.repeat(back[None].astype(np.uint8), num_frames, axis=0)
  side, dx, dy = 16, rng.uniform(0.6, 1.4), rng.uniform(0.3, 0.8)
  for t in range(num_frames):
    x = int(abs((dx * t) % (2 * (width - side)) - (width - side)))
    y = int(abs((dy * t) % (2 * (height - side)) - (height - side)))
    frames[t, y : y + side, x : x + side] = rng.integers(200, 256, 3) if t == 0 else frames[0].max()
  return frames


def run_job(videos: pathlib.Path, root: str, env: Mapping[str, str] | None = None) -> None:
  """Curates `videos` and trains all stages below `root`, which may be remote."""
  data = f"--config.data.path={root}/clips/shards"
  vae = f"--config.encoders.vae={root}/autoencoder/export"

  def train(config: str, name: str, samples: int, *flags: str) -> None:
    workdir = f"--workdir={root}/{name}"
    total = f"--config.total_samples={samples}"
    run_vidjax("train", f"--config={config}", workdir, data, total, *SMALL, *flags, env=env)

  run_vidjax(
    "curate",
    f"--videos={videos}",
    f"--out={root}/clips",
    "--config.select.min_motion_score=0.01",
    "--config.encode.short_side=48",
    env=env,
  )
  train("configs/autoencoder/kl.py:tiny", "autoencoder", 16, "--config.batch_size=4", *PICTURES)
  run_vidjax("export", f"--model={root}/autoencoder", f"--out={root}/autoencoder/export", env=env)
  train("configs/svd/image.py:tiny", "image", 16, "--config.batch_size=4", *IMAGE, vae)
  train(
    "configs/svd/video_lowres.py:tiny",
    "video_lowres",
    8,
    "--config.batch_size=2",
    *VIDEO,
    vae,
    f"--config.init_from={root}/image",
  )
  train(
    "configs/svd/image_to_video.py:highres,tiny",
    "video_highres",
    8,
    "--config.batch_size=2",
    *VIDEO,
    vae,
    f"--config.init_from={root}/video_lowres",
  )
