"""Config files, overrides, and what is refused."""

import pytest

from data_pipelines import config


def test_defaults_files_and_overrides(repo_root):
  assert config.load(None) == config.CurateConfig()
  demo = config.load(f"{repo_root}/configs/data/demo.py")
  tiny = config.load(f"{repo_root}/configs/data/demo.py:tiny", ["encode.crf=30"])
  assert (demo.encode.short_side, tiny.encode.short_side, tiny.encode.crf) == (144, 64, 30)
  assert demo.select.min_seconds < config.CurateConfig().select.min_seconds


@pytest.mark.parametrize(
  ("override", "message"),
  [
    ("select.min_second=2", "did you mean 'min_seconds'"),
    ("encoding.crf=2", "did you mean 'encode'"),
    ("select.min_seconds=30", "no clip could be kept"),
    ("select.holdout_fraction=1.5", "is a share"),
    ("select.max_hash_distance=40", "at most 11"),
    ("encode.short_side=0", "too small"),
    ("encode.crf=99", "0 to 51"),
    ("ingest.max_gap_seconds=0", "too small"),
    ("ingest.max_gigabytes=-1", "0 for any"),
  ],
)
def test_bad_values_are_named(override, message):
  with pytest.raises(ValueError, match=message):
    config.load(None, [override])


def test_copies_in_several_sizes_are_refused():
  with pytest.raises(ValueError, match=r"encode\.copy=True .* encode\.rungs=\(576,\)"):
    config.load(None, ["encode.copy=True", "encode.rungs=(576,)"])


def test_fingerprints_follow_every_value():
  base = config.fingerprint(1, config.CurateConfig())
  assert base == config.fingerprint(1, config.CurateConfig())
  assert base != config.fingerprint(2, config.CurateConfig())
  assert base != config.fingerprint(1, config.load(None, ["cut.max_seconds=19.5"]))
