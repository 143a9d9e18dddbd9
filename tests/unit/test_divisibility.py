"""Configs that do not fit a mesh are refused with key, value and what would do."""

import dataclasses

import pytest

from vidjax import config as configs
from vidjax import divisibility
from vidjax.config import ModelConfig, TrainConfig
from vidjax.data.config import ImagesConfig
from vidjax.parallel.mesh import AXES

CONFIG = TrainConfig(
  total_samples=16,
  batch_size=16,
  data=configs.DataConfig(path="none", num_frames=14, height=320, width=576),
  encoders=configs.EncodersConfig(vae="random:tiny", text="random:tiny"),
  model=ModelConfig(preset="svd_t2v"),
)


def with_data(**changes):
  return dataclasses.replace(CONFIG, data=dataclasses.replace(CONFIG.data, **changes))


def on(*sizes: int) -> dict[str, int]:
  return dict(zip(AXES, sizes, strict=True))


@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (2, 8, 1, 1), (1, 8, 2, 1), (2, 2, 7, 2)])
def test_what_divides_is_accepted(sizes):
  divisibility.check(CONFIG, on(*sizes))


@pytest.mark.parametrize(
  ("config", "sizes", "message"),
  [
    (
      CONFIG,
      (3, 2, 1, 1),
      "batch_size=16 does not .* mesh.fsdp = 6: use a multiple of 6",
    ),
    (with_data(images=ImagesConfig(rows=2)), (1, 4, 1, 1), "data.images.rows=2 .* multiple of 4"),
    (CONFIG, (1, 1, 4, 1), "data.num_frames=14 .* mesh.context=4: .* mesh.context=1, 2, 7 or 14"),
    (with_data(num_frames=1), (1, 1, 2, 1), "data.num_frames=1: give its devices to mesh.fsdp"),
    (CONFIG, (1, 1, 1, 5), "mesh.tensor=5 does not divide the 32 groups"),
    (
      CONFIG,
      (1, 1, 1, 8),
      "mesh.tensor=8 .* no level, .*5, 10, 20, 20.* use mesh.tensor=1, 2 or 4",
    ),
    (
      dataclasses.replace(CONFIG, task="autoencoder"),
      (1, 1, 1, 2),
      "mesh.tensor=2: the channels of an autoencoder",
    ),
  ],
)
def test_what_does_not_divide_is_named(config, sizes, message):
  with pytest.raises(ValueError, match=message):
    divisibility.check(config, on(*sizes))


@pytest.mark.parametrize(
  ("most", "given", "pictures", "sizes", "parts"),
  [
    (0, 1, 0, (1, 1, 1, 1), 1),
    (0, 4, 0, (1, 1, 1, 1), 4),
    (16, 1, 0, (1, 1, 1, 1), 1),
    (5, 1, 0, (1, 1, 1, 1), 4),  # 3.2 rows would do, but do not divide
    (1, 1, 0, (2, 4, 1, 1), 2),
    (1, 1, 0, (2, 4, 2, 2), 2),  # devices that share rows count as one
    (8, 1, 0, (2, 4, 1, 1), 1),  # as many devices take less
    (6, 2, 0, (1, 1, 1, 1), 4),  # a multiple of what was given
    (6, 1, 4, (1, 1, 1, 1), 4),
  ],
)
def test_a_device_takes_no_more_rows_than_it_may(most, given, pictures, sizes, parts):
  images = ImagesConfig(rows=pictures)
  config = dataclasses.replace(
    with_data(images=images), rows_per_device=most, accumulation_steps=given
  )
  found = divisibility.in_parts(config, on(*sizes))
  assert found.accumulation_steps == parts
  assert found.rows_per_device == 0
  assert dataclasses.replace(found, accumulation_steps=given, rows_per_device=most) == config


def test_pictures_that_no_parts_divide_are_named():
  config = dataclasses.replace(with_data(images=ImagesConfig(rows=3)), rows_per_device=4)
  with pytest.raises(ValueError, match=r"divides both the 16 rows and the 3 pictures"):
    divisibility.in_parts(config, on(1, 1, 1, 1))


def test_all_is_said_at_once():
  with pytest.raises(ValueError, match=r"(?s)batch_size=16.*\n.*num_frames=14.*\n.*32 groups"):
    divisibility.check(CONFIG, on(1, 3, 4, 3))


def test_levels_that_are_computed_whole_are_known():
  assert divisibility.computed_whole(CONFIG, on(2, 8, 1, 1)) == []
  # The tiny autoencoder halves three times: 40 x 72, 20 x 36, 10 x 18, 5 x 9.
  assert divisibility.computed_whole(CONFIG, on(1, 1, 2, 2)) == [
    "level 0: attention of 5 heads, over mesh.tensor=2",
    "level 3: temporal layers of 5 x 9, over mesh.context=2",
  ]
  pictures = with_data(images=ImagesConfig(every_steps=8))
  assert divisibility.computed_whole(pictures, on(1, 1, 7, 1))[-1:] == [
    "pictures beside the videos, over mesh.context=7"
  ]
