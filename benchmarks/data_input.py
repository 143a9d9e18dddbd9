"""From shards to batches: what the loader adds, whether training waits, what cores a host needs.

  JAX_PLATFORMS=cpu python -m benchmarks.data_input --videos=DIR --work=DIR

Curates the videos three times, to shorter sides of 256, 320 and 576 pixels, into --work (kept for
the next run), then measures with all processes on one core:

1. batches made by calling the function that the decoding processes call, against the same batches
   out of the loader (grain), in turns: windows per second and what the loader adds;
2. milliseconds of one core for a window of each stage of SVD;
3. a training run whose step takes longer than its data: seconds that it waits for them;
4. from 2. and the published peak of a chip, the cores that feed a host (arithmetic).
"""

from collections.abc import Callable, Iterator
import itertools
import json
import os
import statistics
import subprocess
import sys
import time

from absl import app, flags
import cv2

from vidjax import storage
from vidjax.data import batches, loader, schedule
from vidjax.data.config import DataConfig

_VIDEOS = flags.DEFINE_string("videos", None, "Folder of videos.", required=True)
_WORK = flags.DEFINE_string("work", None, "Folder for shards.", required=True)
_ROUNDS = flags.DEFINE_integer("rounds", 7, "Timings of each; medians are reported.")
_BATCHES = flags.DEFINE_integer("batches", 12, "Batches in a timing.")
_ROWS = 8

# Stage -> shorter side of its shards, height, width, frames, TFLOP of a training step for one clip.
# 41.5 (16 x 320 x 576) and 134.1 (14 x 576 x 1024) are counted from the network; the others are
# those by number of latents, which leaves out that attention grows faster.
_STAGES = {
  "I-b image": (256, 256, 384, 1, 41.5 * 1536 / 2880 / 16),
  "II-a video": (256, 256, 384, 16, 41.5 * 1536 / 2880),
  "II-b video, III I2V low-res": (320, 320, 576, 16, 41.5),
  "III video, I2V high-res": (576, 576, 1024, 16, 134.1 * 16 / 14),
}
_MFU = 0.46  # the best that a prototype reached by the compiler's estimate
# Host -> chips, peak bf16 TFLOP/s of a chip, cores of the host.
_HOSTS = {"v5e": (8, 197, 224), "v5p": (4, 459, 208), "v6e": (8, 918, 180)}


def curate(short_side: int) -> str:
  """Shards with this shorter side; the same clips for each."""
  out = f"{_WORK.value}/{short_side}"
  if not storage.Path(f"{out}/report.html").exists():
    command = [sys.executable, "-m", "vidjax.cli", "curate", f"--videos={_VIDEOS.value}"]
    options = ("select.min_motion_score=0", "select.holdout_fraction=0.0")
    flag_of = [f"--config.{option}" for option in (f"encode.short_side={short_side}", *options)]
    subprocess.run([*command, f"--out={out}", *flag_of], check=True)
  return f"{out}/shards"


def data(stage: str, num_workers: int = 0) -> DataConfig:
  """What a stage reads."""
  short_side, height, width, frames, _ = _STAGES[stage]
  return DataConfig(
    path=curate(short_side), height=height, width=width, num_frames=frames, num_workers=num_workers
  )


def bare(config: DataConfig) -> Iterator[batches.Batch]:
  """Batches of the run, made here one after the other."""
  opened = schedule.open_schedule(config, seed=0)
  make = batches.MakeBatch(opened, None, 0, _ROWS, 0, 1)
  return (make(number) for number in itertools.count())


def timed(stream: Iterator[batches.Batch]) -> float:
  """Windows per second of the next batches."""
  began = time.perf_counter()
  for _ in range(_BATCHES.value):
    next(stream)
  return _BATCHES.value * _ROWS / (time.perf_counter() - began)


def loader_rows(stage: str) -> dict[str, list[float]]:
  """Windows per second, by way of making them. A loader lives for one timing: it works ahead."""

  def through_loader(num_workers: int) -> float:
    with loader.make_loader(
      data(stage, num_workers), global_batch=_ROWS, start_sample=0, seed=0, tokenizer=None
    ) as stream:
      for _ in range(4):  # started, and what was made ahead is gone
        next(stream)
      return timed(stream)

  ways: dict[str, Callable[[], float]] = {
    "the function alone": lambda: timed(bare(data(stage))),
    "loader, num_workers=0": lambda: through_loader(0),
    "loader, num_workers=1": lambda: through_loader(1),
  }
  rows: dict[str, list[float]] = {name: [] for name in ways}
  for _ in range(_ROUNDS.value):
    for name, way in ways.items():
      rows[name].append(way())
  return rows


def wait_of_training() -> tuple[float, float]:
  """Medians of (step_seconds, data_wait_seconds) of a run on the shards of stage II-a."""
  workdir = f"{_WORK.value}/run"
  storage.remove(workdir)
  settings = ("batch_size=4", "total_samples=80", "log_every_steps=1", "data.num_workers=1")
  view = ("data.height=128", "data.width=192")
  command = [
    *(sys.executable, "-m", "vidjax.cli", "train", "--config=configs/svd/video_lowres.py:tiny"),
    *(f"--workdir={workdir}", f"--config.data.path={curate(256)}"),
    *("--config.encoders.vae=random:tiny", "--config.init_from="),
    *(f"--config.{setting}" for setting in (*settings, *view)),
  ]
  subprocess.run(command, check=True)
  lines = storage.read_text(f"{workdir}/metrics.jsonl").splitlines()
  rows = [json.loads(line) for line in lines][2:]  # the first holds the compilation
  return tuple(statistics.median(r[k] for r in rows) for k in ("step_seconds", "data_wait_seconds"))


def main(_: list[str]) -> None:
  for stage in _STAGES:
    data(stage)  # curated with all cores
  step, wait = wait_of_training()
  cores = os.sched_getaffinity(0)
  os.sched_setaffinity(0, {min(cores)})  # inherited by the decoding processes
  cv2.setNumThreads(1)

  print("\n| batches of 8, one core | windows/s | slowest, fastest | of the function alone |")
  print("|---|---|---|---|")
  rows = loader_rows("II-a video")
  alone = rows["the function alone"]
  for name, rates in rows.items():
    ratio = statistics.median(a / b for a, b in zip(rates, alone, strict=True))
    spread = f"{min(rates):.1f}, {max(rates):.1f}"
    print(f"| {name} | {statistics.median(rates):.1f} | {spread} | {ratio:.3f} |")

  print(f"\nstep {step:.3f} s, of which it waited for data {wait:.5f} s (medians)\n")

  print(
    "| stage | ms of a core | " + " | ".join(f"{host}: clips/s, cores" for host in _HOSTS) + " |"
  )
  print("|---" * (2 + len(_HOSTS)) + "|")
  for stage, (_, height, width, frames, tflop) in _STAGES.items():
    stream = bare(data(stage))
    next(stream)
    ms = 1e3 / statistics.median(timed(stream) for _ in range(_ROUNDS.value))
    cells = []
    for chips, peak, have in _HOSTS.values():
      clips = chips * peak * _MFU / tflop
      cells.append(f"{clips:.1f}, {clips * ms / 1e3:.1f} of {have}")
    print(f"| {stage}, {frames} x {height} x {width} | {ms:.1f} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
  app.run(main)
