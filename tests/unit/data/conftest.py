import clip_shards
import pytest


@pytest.fixture(scope="session")
def records():
  """Six clips of 4 s, one of them with a variable frame rate."""
  made = [clip_shards.make_clip(i, clip_shards.steady(4.0)) for i in range(5)]
  vfr_s = [0.0, 0.1, 0.2, 1.3, 1.4, 2.0, 2.6, 3.0, 3.9]
  return [*made, clip_shards.make_clip(5, vfr_s)]


@pytest.fixture(scope="session")
def dataset(records, tmp_path_factory):
  """The six clips in two shards; only to be read."""
  return clip_shards.write_shards(tmp_path_factory.mktemp("dataset"), records, shards=2)
