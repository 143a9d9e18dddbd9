"""Folders, tables, archives and TFDS data sets through the config and the stream of samples."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds
import tfds_sets

from vidjax import config as configs
from vidjax import errors
from vidjax.data import loader, sources
from vidjax.data.config import KINDS, DataConfig, SetConfig

PICTURES = np.random.default_rng(3).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)


def samples(*overrides, count=4):
  """Windows of a config as a command line gives it."""
  base = {"num_frames": 2, "fps": 2.0, "height": 32, "width": 32}
  values = configs.apply_overrides(configs.TrainConfig, {"data": base}, overrides)
  config = configs.from_dict(DataConfig, values["data"])
  return list(loader.fixed_windows(config, count))


@pytest.fixture
def pictures(tmp_path, png):
  for i, picture in enumerate(PICTURES):
    (tmp_path / f"{i}.png").write_bytes(png(picture))
    (tmp_path / f"{i}.txt").write_text(f"Picture {i}.")
  return tmp_path


def test_videos(videos, tmp_path):
  shutil.copytree(videos, tmp_path, dirs_exist_ok=True)
  (tmp_path / "text.mp4").write_text("no video")  # is not used
  (tmp_path / "a.txt").write_text("A meadow.")
  windows = samples(f"data.path={tmp_path}", "data.kind=videos")
  assert {w.source for w in windows} == {"a.mp4", "b/c.webm"}
  assert {w.caption for w in windows} == {"A meadow.", ""}
  assert {w.frames.shape for w in windows} == {(2, 32, 32, 3)}


def test_images_are_single_frames(pictures):
  windows = samples(f"data.path={pictures}", "data.kind=images", "data.num_frames=1", count=3)
  for window in windows:
    number = int(window.source[0])
    np.testing.assert_array_equal(window.frames, [PICTURES[number]])
    assert window.caption == f"Picture {number}."
  with pytest.raises(errors.DataError, match="no clip of the split 'train' holds a window"):
    samples(f"data.path={pictures}", "data.kind=images")


def test_a_table(pictures):
  rows = [{"file_name": f"{i}.png", "long": f"Long {i}.", "short": str(i)} for i in range(3)]
  (pictures / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
  windows = samples(
    f"data.path={pictures}",
    "data.kind=image_text",
    "data.num_frames=1",
    "data.options.caption={'a': 'long', 'b': 'short'}",
    "data.captions={'b': 1.0}",
    count=3,
  )
  assert sorted(w.caption for w in windows) == ["0", "1", "2"]


def test_a_damaged_picture_is_replaced(pictures):
  (pictures / "1.png").write_bytes((pictures / "1.png").read_bytes()[:900])
  windows = samples(f"data.path={pictures}", "data.kind=images", "data.num_frames=1", count=6)
  assert {w.source for w in windows} == {"0.png", "2.png"}
  assert any("1.png" in w.rejected[0][0] for w in windows if w.rejected)


def test_tfds(tmp_path):
  feature = tfds.features
  frames = np.repeat(PICTURES, 2, axis=0)
  path = tfds_sets.prepare(
    tmp_path,
    "films",
    {
      "film": feature.Tensor(shape=(6, 32, 32, 3), dtype=np.uint8),
      "label": feature.ClassLabel(names=["a", "b"]),
    },
    [{"film": frames, "label": i} for i in range(2)],
  )
  windows = samples(
    f"data.path={path}", "data.kind=tfds", "data.options.video=film", "data.options.fps=4", count=2
  )
  assert sorted(w.caption for w in windows) == ["a", "b"]
  for window in windows:
    start = round(window.start_s * 4)
    np.testing.assert_array_equal(window.frames, frames[[start, start + 2]])


def test_a_name_that_is_no_kind(tmp_path):
  with pytest.raises(ValueError, match="data kind 'video': choose from shards, tfds, videos"):
    sources.open_source(SetConfig(str(tmp_path), "video"))


@pytest.mark.parametrize("kind", ["tfds", "videos", "images", "image_text"])
def test_each_kind_says_what_is_wrong(tmp_path, kind):
  assert kind in KINDS
  config = SetConfig(str(tmp_path), kind)
  with pytest.raises(errors.DataError, match=str(tmp_path)):
    sources.open_source(config)
  with pytest.raises(FileNotFoundError, match="nowhere"):
    sources.open_source(dataclasses.replace(config, path=str(tmp_path / "nowhere")))
  with pytest.raises(ValueError, match=f"'{kind}' has no option 'typo'"):
    sources.open_source(dataclasses.replace(config, options={"typo": 1}))
