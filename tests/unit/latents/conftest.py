import dataclasses

import clip_shards
import pytest

from vidjax import cache_latents
from vidjax import config as configs
from vidjax.data import schema

SIZE = (32, 48)


@pytest.fixture(scope="session")
def view():
  """Makes a training config for clips at 2 fps, their own rate: a window starts at a frame."""

  def make(path, config="configs/svd/video_lowres.py:tiny", **data):
    size = {"height": SIZE[0], "width": SIZE[1], "num_frames": 4, "fps": 2.0, "num_workers": 0}
    overrides = [f"data.{key}={value}" for key, value in (size | data).items()]
    return configs.load(config, [*overrides, f"data.path={path}", "encoders.vae=random:tiny"])

  return make


@pytest.fixture(scope="session")
def records():
  """Five clips of 2 to 4 s at 2 fps; the first has no motion score."""
  clips = [clip_shards.make_clip(i, clip_shards.steady(2.0 + i / 2, 2.0)) for i in range(5)]
  extra = {"captions_json": '{"a":"Ein Hund","b":"läuft"}', "scores_json": '{"area":0.5}'}
  return [dataclasses.replace(clips[0], motion_score=float("nan"), **extra), *clips[1:]]


@pytest.fixture(scope="session")
def clips(records, tmp_path_factory):
  """The clips in a split `train` and two of them in `holdout`; only to be read."""
  root = clip_shards.write_shards(tmp_path_factory.mktemp("clips"), records, shards=2)
  clip_shards.write_shards(root, records[:2], split=schema.SPLITS[1])
  return root


@pytest.fixture(scope="session")
def cached(clips, view, tmp_path_factory):
  """Their latents; only to be read."""
  out = tmp_path_factory.mktemp("latents")
  cache_latents.cache(view(clips), str(out), chunk=8, shard_megabytes=0.008)
  return out
