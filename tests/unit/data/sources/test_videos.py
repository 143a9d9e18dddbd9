import json
import os
import pickle
import shutil
import subprocess
import sys

import media
import numpy as np
import object_store
import pytest

from vidjax import errors, storage
from vidjax.data import sources, transforms, upright, video
from vidjax.data.config import SetConfig
from vidjax.data.sources import folder, index


def open_videos(path, split="train", **options):
  return sources.open_source(SetConfig(str(path), "videos", split, options=options))


def copy(videos, target):
  ignore = shutil.ignore_patterns("index-*")
  shutil.copytree(videos, target, dirs_exist_ok=True, ignore=ignore)
  return target


def warnings(caplog):
  return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def test_all_videos_are_listed_by_path(videos):
  source = open_videos(videos)
  assert [source.name(i) for i in range(len(source.listing))] == ["a.mp4", "b/c.webm"]
  np.testing.assert_allclose(source.listing.durations_s, [2.0, 1.0], atol=0.11)
  np.testing.assert_allclose(source.listing.fps, [12.0, 6.0], rtol=0.1)
  np.testing.assert_array_equal(source.listing.sizes, [[72, 128], [64, 48]])
  assert source[1].clip_id == source[1].source == "b/c.webm"
  assert source[0].duration_s == source.listing.durations_s[0]


@pytest.mark.parametrize("number", [0, 1])
def test_frames_are_those_of_a_full_decode(videos, number):
  source = open_videos(videos)
  with video.FrameReader(str(videos / source.name(number))) as reader:
    decoded = [(f.time_s, upright.rgb(f.picture, reader.stream)) for f in reader]
  times_s = np.array([time_s for time_s, _ in decoded])
  clip = source[number]
  np.testing.assert_allclose(clip.times_s(), times_s, atol=1e-3)
  moments_s = np.array([0.0, 0.13, 0.45, 0.5, 0.93])
  shown = np.searchsorted(times_s, moments_s + 1e-4, side="right") - 1
  expected = np.stack([decoded[i][1] for i in shown])
  np.testing.assert_array_equal(clip.read(moments_s, expected.shape[1:3]), expected)
  scaled = clip.read(moments_s, (32, 40))
  assert scaled.shape[1:3] == transforms.cover_size(expected.shape[1:3], (32, 40))
  differences = np.abs(scaled.astype(int) - transforms.cover(expected, (32, 40))).mean()
  assert differences < 3.0  # one pass from YUV rounds otherwise


def test_a_rotated_video_is_upright(tmp_path):
  media.write(tmp_path / "r.mp4", media.shot(3, 6), rotation=90)
  source = open_videos(tmp_path)
  np.testing.assert_array_equal(source.listing.sizes, [[128, 72]])
  assert source[0].read(np.zeros(1), (128, 72)).shape == (1, 128, 72, 3)


@pytest.mark.parametrize(
  ("name", "text", "expected"),
  [
    ("a.txt", " A meadow.\n", {"sidecar": "A meadow."}),
    ("a.mp4.txt", "\ufeffA meadow.", {"sidecar": "A meadow."}),
    ("a.json", json.dumps({"caption": "A meadow.", "fps": 3}), {"sidecar": "A meadow."}),
    ("a.json", json.dumps({"short": "A.", "long": "A b c."}), {"short": "A.", "long": "A b c."}),
    ("a.json", json.dumps({"captions": {"human": "B."}, "url": "x"}), {"human": "B."}),
    ("a.json", json.dumps({"url": "x", "views": 3}), {}),
    ("a.json", "{broken", {}),
  ],
)
def test_captions_beside(videos, tmp_path, name, text, expected):
  copy(videos, tmp_path)
  (tmp_path / name).write_text(text, encoding="utf-8")
  source = open_videos(tmp_path)
  assert source[0].captions == expected
  assert source[1].captions == {}


def test_damaged_files_have_no_length_and_are_named(videos, tmp_path, caplog):
  copy(videos, tmp_path)
  (tmp_path / "empty.mp4").touch()
  (tmp_path / "text.mp4").write_text("no video at all, but some words")
  media.write_sound(tmp_path / "sound.mp4")
  (tmp_path / "link.mp4").symlink_to(tmp_path / "nowhere")
  source = open_videos(tmp_path)
  names = [source.name(i) for i in range(len(source.listing))]
  bad = [n for n, s in zip(names, source.listing.durations_s, strict=True) if np.isnan(s)]
  assert bad == ["empty.mp4", "link.mp4", "sound.mp4", "text.mp4"]
  assert any("text.mp4 cannot be read" in text for text in warnings(caplog))
  assert any("4 of 6 clips cannot be read" in text for text in warnings(caplog))
  with pytest.raises((errors.DataError, ValueError, OSError)):
    source[names.index("text.mp4")].read(np.zeros(1), (8, 8))


def test_a_file_that_was_mended_is_looked_at_again(videos, tmp_path):
  copy(videos, tmp_path)
  whole = (tmp_path / "a.mp4").read_bytes()
  (tmp_path / "a.mp4").write_bytes(whole[:50])
  assert np.isnan(open_videos(tmp_path).listing.durations_s[0])
  (tmp_path / "a.mp4").write_bytes(whole)
  assert open_videos(tmp_path).listing.durations_s[0] == pytest.approx(2.0)


def test_a_failure_that_passes_is_not_remembered(videos, tmp_path, monkeypatch):
  copy(videos, tmp_path)
  with monkeypatch.context() as patch:
    patch.setattr(video, "probe", lambda _: (_ for _ in ()).throw(OSError("the disk is away")))
    assert np.isnan(open_videos(tmp_path).listing.durations_s).all()
  assert np.isfinite(open_videos(tmp_path).listing.durations_s).all()


def test_files_are_opened_once_and_then_only_those_that_changed(videos, tmp_path, monkeypatch):
  copy(videos, tmp_path)
  first = open_videos(tmp_path)
  assert (tmp_path / "index-videos.npz").exists()
  probed = []
  probe = video.probe
  monkeypatch.setattr(video, "probe", lambda path: probed.append(path) or probe(path))
  again = open_videos(tmp_path)
  assert probed == []
  np.testing.assert_array_equal(first.listing.durations_s, again.listing.durations_s)
  shutil.copy(videos / "a.mp4", tmp_path / "z.mp4")
  os.utime(tmp_path / "a.mp4", (5, 5))
  grown = open_videos(tmp_path)
  assert sorted(probed) == [str(tmp_path / "a.mp4"), str(tmp_path / "z.mp4")]
  assert len(grown.listing) == 3


def test_an_index_that_cannot_be_written_or_read_is_made_elsewhere(
  videos, tmp_path, monkeypatch, cache
):
  copy(videos, tmp_path)
  (tmp_path / "index-videos.npz").write_bytes(b"damaged")
  write = storage.write_bytes

  def refuse(path, content):
    if str(path).startswith(str(tmp_path)):
      raise PermissionError(13, "read only", str(path))
    write(path, content)

  monkeypatch.setattr(storage, "write_bytes", refuse)
  source = open_videos(tmp_path)
  assert source.index_file.startswith(str(cache))
  monkeypatch.setattr(video, "probe", lambda _: pytest.fail("opened again"))
  assert open_videos(tmp_path)[0].source == "a.mp4"


def test_nothing_is_written_where_nobody_may_write(videos, tmp_path, cache):
  copy(videos, tmp_path)
  tmp_path.chmod(0o555)  # the superuser could
  try:
    assert open_videos(tmp_path).index_file.startswith(str(cache))
    assert not (tmp_path / "index-videos.npz").exists()
  finally:
    tmp_path.chmod(0o755)


def test_what_changes_the_digest(videos, tmp_path):
  digest = open_videos(copy(videos, tmp_path / "one")).listing.digest
  other = copy(videos, tmp_path / "two")
  os.utime(other / "a.mp4", (5, 5))
  assert open_videos(other).listing.digest == digest  # moved, and written at another time
  (other / "a.txt").write_text("A caption.")
  captioned = open_videos(other).listing.digest
  (other / "a.txt").write_text("B caption.")
  recaptioned = open_videos(other).listing.digest
  with open(other / "a.mp4", "ab") as file:
    file.write(b"x")
  longer = open_videos(other).listing.digest
  (other / "a.mp4").rename(other / "d.mp4")
  (other / "a.txt").rename(other / "d.txt")
  renamed = open_videos(other).listing.digest
  assert len({digest, captioned, recaptioned, longer, renamed}) == 5


def test_splits_are_folders(videos, tmp_path):
  copy(videos, tmp_path / "train")
  copy(videos / "b", tmp_path / "test")
  assert len(open_videos(tmp_path, "test").listing) == 1
  assert open_videos(tmp_path)[0].source == "a.mp4"
  assert len(open_videos(tmp_path / "train").listing) == 2  # no folder "train" in there: all of it
  with pytest.raises(errors.DataError, match=r"no folder 'val'.*test, train"):
    open_videos(tmp_path, "val")


def test_what_is_no_data_set(tmp_path):
  with pytest.raises(FileNotFoundError, match="nowhere"):
    open_videos(tmp_path / "nowhere")
  with pytest.raises(errors.DataError, match=r"no videos in there or below.*\.mp4"):
    open_videos(tmp_path)
  with pytest.raises(ValueError, match=r"'videos' has no option 'fps': it knows none"):
    open_videos(tmp_path, fps=3)


def test_hidden_files_are_no_clips(videos, tmp_path):
  copy(videos, tmp_path)
  (tmp_path / "._a.mp4").write_bytes(b"resource fork")
  copy(videos, tmp_path / ".trash")
  assert len(open_videos(tmp_path).listing) == 2


def test_it_pickles_without_its_names(videos, tmp_path):
  for i in range(30):
    shutil.copy(videos / "b" / "c.webm", tmp_path / f"a_rather_long_name_of_a_file_{i:04d}.webm")
  source = open_videos(tmp_path)
  pickled = pickle.dumps(source)
  assert len(pickled) < 2500
  index.load.cache_clear()
  assert pickle.loads(pickled)[7].source == "a_rather_long_name_of_a_file_0007.webm"


def test_another_index_under_a_running_job_is_noticed(videos, tmp_path):
  source = open_videos(copy(videos, tmp_path))
  (tmp_path / "a.txt").write_text("Changed.")
  open_videos(tmp_path)
  index.load.cache_clear()
  with pytest.raises(errors.DataError, match="the data changed while they are used"):
    source[0]


def test_decoding_needs_neither_jax_nor_tfds(videos):
  source = open_videos(videos)
  code = (
    "import pickle, sys, numpy as np\n"
    "source = pickle.loads(sys.stdin.buffer.read())\n"
    "print(source[0].read(np.array([0.0, 1.0]), (16, 16)).shape)\n"
    "print([m for m in ('jax', 'flax', 'tensorflow_datasets', 'pyarrow') if m in sys.modules])"
  )
  done = subprocess.run(
    [sys.executable, "-c", code], input=pickle.dumps(source), capture_output=True
  )
  assert done.stdout.decode().split("\n")[:2] == ["(2, 16, 28, 3)", "[]"], done.stderr.decode()


def test_videos_in_an_object_store(videos):
  with object_store.serve() as store, store.environment():
    storage.publish(videos, "gs://bucket/videos")
    storage.write_text("gs://bucket/videos/b/c.txt", "From afar.")
    source = open_videos("gs://bucket/videos")
    assert source.listing.durations_s[0] == pytest.approx(2.0)
    assert source[1].captions == {"sidecar": "From afar."}
    assert storage.Path("gs://bucket/videos/index-videos.npz").exists()
    here = folder.open_tree(str(videos), "train", "videos", frozenset({".mp4"}))
    moments_s = np.array([0.0, 1.2])
    np.testing.assert_array_equal(
      source[0].read(moments_s, (36, 64)), here[0].read(moments_s, (36, 64))
    )


def test_real_videos(shared_data, cache):
  """Any container, codec, rotation and rate; the folder cannot be written to."""
  manifest = json.loads((shared_data / "MANIFEST.json").read_text())
  facts = {f["file"]: f for f in manifest["files"] if f["kind"] == "video"}
  source = open_videos(shared_data / "videos")
  for i, duration_s in enumerate(source.listing.durations_s):
    known = facts.get("videos/" + source.name(i), {})
    if np.isnan(duration_s) or not known.get("frames"):
      continue
    size = (known["height"], known["width"])
    if known["rotation"] % 180:
      size = size[::-1]
    if known["sample_aspect_ratio"] in (None, "1:1"):
      assert tuple(source.listing.sizes[i]) == size, known
  assert np.isfinite(source.listing.durations_s).sum() >= 10
  assert source.index_file.startswith(str(cache))
