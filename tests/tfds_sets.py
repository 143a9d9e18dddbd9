"""Data sets as builders of TFDS write them, for tests that read such."""

from collections.abc import Iterable, Mapping, Sequence
import json
import pathlib
from typing import Any, ClassVar

import tensorflow_datasets as tfds


def prepare(
  folder: pathlib.Path,
  name: str,
  features: Mapping[str, Any],
  examples: Iterable[Mapping[str, Any]],
  splits: Sequence[str] = ("train",),
) -> pathlib.Path:
  """Writes a data set as a builder of TFDS does; returns the folder of its version."""

  class WrittenByATest(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    VERSION = tfds.core.Version("1.2.0")
    url_infos: ClassVar = {}  # nothing is downloaded; else it looks for a file beside this one

    def _info(self):
      return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
      return {split: self._generate_examples() for split in splits}

    def _generate_examples(self):
      yield from enumerate(examples)

  WrittenByATest.name = name
  builder = WrittenByATest(data_dir=folder, file_format="array_record")
  config = tfds.download.DownloadConfig(num_shards=2)
  builder.download_and_prepare(download_config=config)
  return builder.data_path


def as_video(path: pathlib.Path, *keys: str) -> None:
  """Declares sequences of images as videos, which are the same in records.

  Without TensorFlow TFDS cannot make that feature.
  """
  file = path / "features.json"
  tree = json.loads(file.read_text())
  children = tree["featuresDict"]["features"]
  for key in keys:
    sequence = children[key]["sequence"]
    image = sequence["feature"]["image"]
    shape = {"dimensions": [sequence["length"], *image["shape"]["dimensions"]]}
    children[key] = {
      "pythonClassName": "tensorflow_datasets.core.features.video_feature.Video",
      "video": {"shape": shape, "dtype": "uint8", "encodingFormat": "png"},
    }
  file.write_text(json.dumps(tree))
