"""The demo, by its own commands, in the sizes of a test: `python -m tests.miniature_demo`."""

import sys

from demo import run as demo
from tests.miniature_job import IMAGE, PICTURES, SMALL, VIDEO
from vidjax import errors

BATCH = {"autoencoder": 4, "image": 4, "video_lowres": 2, "video_highres": 2}
SIZES = {"autoencoder": PICTURES, "image": IMAGE}
STEPS = 4
_plan = demo.stages


def stages(run: str, videos: str) -> list[demo.Stage]:
  """Stands in for `demo.run.stages`."""
  found = []
  for stage in _plan(run, videos):
    command = list(stage.command)
    if command[0] == "curate":
      command += ["--config.select.min_motion_score=0.01", "--config.encode.short_side=48"]
    if command[0] == "train":
      name = next(a for a in command if a.startswith("--workdir")).rsplit("/", 1)[1]
      samples = STEPS * BATCH[name]
      command += [*SMALL, f"--config.batch_size={BATCH[name]}", f"--config.total_samples={samples}"]
      command += SIZES.get(name, VIDEO)
    found.append(demo.Stage(stage.title, command))
  return found


if __name__ == "__main__":
  demo.stages = stages
  sys.exit(errors.run_main(demo.main))
