"""Reading what is there: windows on the stored grid, and what is said of damage."""

import dataclasses
import json
import os
import pickle
import shutil

from array_record.python import array_record_module
import numpy as np
import pytest

from vidjax import errors
from vidjax.data import latents, records, shard_writer, sources, windows
from vidjax.data.config import SetConfig

MANIFEST = latents.Manifest("ab12", {"latent_channels": 2}, 0.5, 16, 24, 4.0)


def record(number, frames=12, **changes):
  """A clip whose moments say (clip, frame)."""
  moments_THWC = np.zeros((frames, 2, 3, 4), np.float16)
  moments_THWC[..., 0], moments_THWC[..., 1] = number, np.arange(frames)[:, None, None]
  made = latents.LatentRecord(
    clip_id=f"clip{number}",
    source="a.mp4",
    moments=moments_THWC.tobytes(),
    num_frames=frames,
    latent_height=2,
    latent_width=3,
    moment_channels=4,
    fps=4.0,
    height=16,
    width=24,
    duration_s=frames / 4.0,
    motion_score=1.5,
    captions_json='{"a":"text"}',
    scores_json="{}",
    made_by=MANIFEST.digest,
  )
  return dataclasses.replace(made, **changes)


def write(folder, parts, durations_s=None):
  """Writes records, a list for each shard, as the verb does."""
  latents.write_manifest(folder, MANIFEST)
  names = tuple(latents.shard_name("train", i, len(parts)) for i in range(len(parts)))
  sizes, all_records = [], [one for part in parts for one in part]
  for name, part in zip(names, parts, strict=True):
    contents = map(latents.serialize_record, part)
    shard_writer.write_shard(folder / name, contents, compressed=False)
    sizes.append((folder / name).stat().st_size)
  if durations_s is None:
    durations_s = np.array([one.duration_s for one in all_records])
  counts = tuple(len(part) for part in parts)
  index = latents.Index(
    names, tuple(sizes), counts, counts, durations_s, "d1", "o1", MANIFEST.digest
  )
  latents.write_index(folder, "train", index)
  return folder


def open_source(folder):
  return sources.open_source(SetConfig(path=str(folder), kind="latents"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """Six clips in three shards, one of them empty; a picture is the last; only to be read."""
  parts = [[record(0), record(1)], [], [record(2), record(3), record(4, 8)]]
  parts[2].append(record(5, 1, duration_s=float("inf")))
  return write(tmp_path_factory.mktemp("latents"), parts)


def said(frames):
  """(clip, [frames]) that moments say."""
  (clip,) = set(frames[..., 0].ravel().tolist())
  return int(clip), frames[:, 0, 0, 1].astype(int).tolist()


def test_records_survive_a_round_trip():
  read = latents.parse_record(latents.serialize_record(record(3)))
  assert read == record(3)
  assert read.frames().base is not None  # no copy
  assert latents.serialize_record(read) == latents.serialize_record(record(3))


def test_every_record_is_reached_across_shards(folder):
  source = open_source(folder)
  assert [source[i].clip_id for i in range(6)] == [f"clip{i}" for i in range(6)]
  assert source.name(2) == "latents-train.array_record-00002-of-00003[0]"
  again = pickle.loads(pickle.dumps(source))
  assert said(again[3].read(np.array([0.0]), (16, 24))) == (3, [0])


def test_listing(folder):
  listing = open_source(folder).listing
  np.testing.assert_array_equal(listing.durations_s, [3, 3, 3, 3, 2, np.inf])
  np.testing.assert_array_equal(listing.fps, [4, 4, 4, 4, 4, np.inf])
  assert (listing.sizes == (16, 24)).all()
  assert windows.WindowGrid(9, 4.0).fits(listing).tolist() == [True] * 5 + [False]
  assert windows.WindowGrid(4, 8.0).fits(listing).tolist() == [False] * 6


@pytest.mark.parametrize(
  ("moments_s", "rows"),
  [
    ([0.0, 0.25, 0.5], [0, 1, 2]),
    ([0.2, 0.45, 0.7], [0, 1, 2]),  # the last row at or before it
    ([0.24995, 0.7499], [1, 3]),  # rounding of the way here
    ([0.0, 1.0, 2.0], [0, 4, 8]),
    ([2.75, 3.0, 9.0], [11, 11, 11]),
  ],
)
def test_rows_of_a_window(folder, moments_s, rows):
  frames = open_source(folder)[1].read(np.array(moments_s), (16, 24))
  assert said(frames) == (1, rows)
  assert frames.dtype == np.float16


def test_each_window_of_the_grid_is_rows_in_turn(folder):
  clip, grid = open_source(folder)[2], windows.WindowGrid(6, 4.0)
  starts = set()
  for fraction in np.linspace(0, 1, 50, endpoint=False):
    moments_s, fps = grid.place(clip, fraction)
    _, rows = said(clip.read(moments_s, (16, 24)))
    assert rows == list(range(rows[0], rows[0] + 6))
    assert fps == 4.0
    starts.add(rows[0])
  assert starts == set(range(7))
  assert said(clip.read(windows.StrideGrid(3, 5).place(clip, 0.99)[0], (16, 24))) == (2, [1, 6, 11])


def test_a_picture_is_shown_at_every_moment(folder):
  clip = open_source(folder)[5]
  assert said(clip.read(np.array([0.0, 7.0]), (16, 24))) == (5, [0, 0])
  assert clip.duration_s == np.inf
  assert latents.num_rows(np.inf, 4.0) == 1


@pytest.mark.parametrize(
  ("duration_s", "fps", "rows"),
  [(4.0, 4.0, 16), (4.0 + 1e-7, 4.0, 16), (4.1, 4.0, 17), (96 / 23.976, 4.0, 17), (0.01, 4.0, 1)],
)
def test_rows_of_a_clip(duration_s, fps, rows):
  assert latents.num_rows(duration_s, fps) == rows


def test_another_view_is_refused(folder):
  clip = open_source(folder)[0]
  with pytest.raises(errors.DataError, match=r"of 16x24 pixels, 32x48 are asked for: set data.hei"):
    clip.read(np.array([0.0]), (32, 48))


def test_options_are_refused(folder):
  with pytest.raises(ValueError, match=r"have no options, got \['x'\]"):
    sources.open_source(SetConfig(path=str(folder), kind="latents", options={"x": 1}))


@pytest.fixture
def copy(folder, tmp_path):
  shutil.copytree(folder, tmp_path / "copy")
  yield tmp_path / "copy"
  records.open_shard.cache_clear()


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"schema_version": 1}, r"latents.json: the field 'schema_version' is 1, this version .* 2"),
    ({"schema_version": None}, r"latents.json: the field 'schema_version' is None"),
    ({"more": 1}, r"latents.json: missing fields \[\], unknown fields \['more'\]"),
    ({"fps": 5.0}, r"index-train.npz: the field 'made_by' is .*mixes two runs"),
  ],
)
def test_another_manifest_is_refused(copy, change, message):
  file = copy / "latents.json"
  file.write_text(json.dumps(json.loads(file.read_text()) | change))
  with pytest.raises(errors.DataError, match=message):
    open_source(copy)


def test_what_is_missing_is_named(copy, tmp_path):
  with pytest.raises(FileNotFoundError, match="nowhere does not exist; write it with"):
    open_source(tmp_path / "nowhere")
  with pytest.raises(errors.DataError, match=r"index-holdout.npz does not exist: the split"):
    sources.open_source(SetConfig(path=str(copy), kind="latents", split="holdout"))
  (copy / latents.shard_name("train", 2, 3)).unlink()
  with pytest.raises(errors.DataError, match="incomplete"):
    open_source(copy)
  (copy / "latents.json").unlink()
  with pytest.raises(errors.DataError, match="holds no latents"):
    open_source(copy)


def test_a_shard_cut_short_is_named(copy):
  shard = copy / latents.shard_name("train", 2, 3)
  os.truncate(shard, shard.stat().st_size // 2)
  with pytest.raises(errors.DataError, match=r"00002-of-00003 has .* bytes, its index says"):
    open_source(copy)


def test_damage_within_a_record(copy):
  shard = copy / latents.shard_name("train", 0, 3)
  data = bytearray(shard.read_bytes())
  data[data.index(record(1).moments) + 10] ^= 255
  shard.write_bytes(data)
  source = open_source(copy)
  assert source[0].clip_id == "clip0"
  with pytest.raises(RuntimeError):
    source[1]


def test_records_of_another_run_and_of_other_shapes(tmp_path):
  other, short = record(1, made_by="0" * 16), record(2, moments=b"short")
  source = open_source(write(tmp_path, [[record(0), other, short]]))
  with pytest.raises(errors.DataError, match=r"\[1\]: the field 'made_by' is '0{16}'"):
    source[1]
  with pytest.raises(errors.DataError, match="clip2: the field 'moments' has 5 bytes"):
    source[2]


def test_records_are_not_compressed(folder):
  """Inflating would take several times as long as reading."""
  content = (folder / latents.shard_name("train", 0, 3)).read_bytes()
  assert record(0).moments in content
  reader = array_record_module.ArrayRecordReader(str(folder / latents.shard_name("train", 0, 3)))
  assert "group_size:1," in reader.writer_options_string()
