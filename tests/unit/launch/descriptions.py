"""Descriptions of runs for the tests of `launch`: one of TPUs, one of GPUs, parts to change."""

import pathlib

from launch import job as jobs
from launch import places, preflight
from launch.training import Training

TPU = """
name = "run"
config = "configs/svd/video_lowres.py:tiny"
workdir = "gs://bucket/run"
topology = "v5p:2x2x4"
image = "us-docker.pkg.dev/p/r/vidjax:1.0"

[overrides]
batch_size = 16
data.kind = "procedural"
encoders.vae = "random:tiny"

[xpk]
cluster = "c"
project = "p"
zone = "z"

[tpu_vm]
project = "p"
zone = "z"
"""

GPU = """
name = "run"
config = "configs/svd/video_lowres.py:tiny"
workdir = "/shared/run"
gpus = "h100:2x8"
image = "ghcr.io/o/vidjax:1.0"

[overrides]
batch_size = 16
data.kind = "procedural"
encoders.vae = "random:tiny"

[slurm]
container = "pyxis"
folder = "/shared/vidjax"
"""


def written(folder: pathlib.Path, text: str, *changes: tuple[str, str]) -> str:
  """Writes a description with parts of its text replaced; returns its path."""
  for old, new in changes:
    assert old in text, old
    text = text.replace(old, new)
  path = folder / "job.toml"
  path.write_text(text)
  return str(path)


def rendered(path: str, place: str, *overrides: str, folder: str = "OUT") -> places.Launch:
  """What a place makes of the description at `path`."""
  job = jobs.load(path, overrides)
  return places.RENDER[place](Training(job, preflight.load_config(job)), folder)
