import io
import json
import math
import pickle
import shutil
import subprocess
import sys

from array_record.python import array_record_module
import clip_shards
import numpy as np
import pytest
import tensorflow_datasets as tfds
import tfds_sets

from vidjax import errors
from vidjax.data import pictures, records, sources, video
from vidjax.data.config import SetConfig
from vidjax.data.sources import tfds_features

RNG = np.random.default_rng(2)
LENGTHS = (5, 9, 3, 7)
FRAMES = [RNG.integers(0, 256, (n, 12, 16, 3), dtype=np.uint8) for n in LENGTHS]
CAPTIONS = ["Ein Bär.", "", "A cat.", "A dog."]
feature = tfds.features


def open_set(path, split="train", **options):
  return sources.open_source(SetConfig(str(path), "tfds", split, options=options))


@pytest.fixture(scope="session")
def clips_folder(tmp_path_factory, videos, png):
  """Every way to store a video; only to read. Records are not in the order of `FRAMES`."""
  files = [(videos / name).read_bytes() for name in ("a.mp4", "b/c.webm")]
  examples = [
    {
      "number": i,
      "clip": [io.BytesIO(png(frame)) for frame in FRAMES[i]],
      "raw": FRAMES[i],
      "packed": FRAMES[i],
      "listed": list(FRAMES[i]),
      "file": files[i % 2],
      "text_file": files[0],
      "poster": io.BytesIO(png(FRAMES[i][0])),
      "caption": CAPTIONS[i],
      "more_texts": [f"One {i}.", f"Two {i}.", f"One {i}."],
      "file_name": f"{i}.mp4",
      "label": i % 3,
      "rate": 4.0 + i,
      "steps": [{"image": io.BytesIO(png(f)), "reward": 1.0} for f in FRAMES[i]],
    }
    for i in range(4)
  ]
  path = tfds_sets.prepare(
    tmp_path_factory.mktemp("tfds"),
    "clips_of_all_kinds",
    {
      "number": feature.Scalar(np.int64),
      "clip": feature.Sequence(feature.Image(shape=(None, None, 3))),
      "raw": feature.Tensor(shape=(None, 12, 16, 3), dtype=np.uint8),
      "packed": feature.Tensor(shape=(None, None, None, 3), dtype=np.uint8, encoding="zlib"),
      "listed": feature.Sequence(feature.Tensor(shape=(12, 16, 3), dtype=np.uint8)),
      "file": feature.Tensor(shape=(), dtype=np.object_),
      "text_file": feature.Text(),
      "poster": feature.Image(shape=(None, None, 3)),
      "caption": feature.Text(),
      "more_texts": feature.Sequence(feature.Text()),
      "file_name": feature.Text(),
      "label": feature.ClassLabel(names=["walk", "run", "sit"]),
      "rate": feature.Scalar(np.float32),
      "steps": feature.Dataset({"image": feature.Image(shape=(12, 16, 3)), "reward": np.float32}),
    },
    examples,
    splits=("train", "test"),
  )
  tfds_sets.as_video(path, "clip")
  return path


@pytest.fixture(scope="session")
def order(clips_folder):
  """Which of `FRAMES` each record holds."""
  source = open_set(clips_folder, image="poster", caption="number")
  return [int(source[i].captions["number"]) for i in range(4)]


def test_frames_of_a_video(clips_folder, order):
  source = open_set(clips_folder, fps=2)
  assert sorted(order) == [0, 1, 2, 3]
  np.testing.assert_allclose(source.listing.durations_s, [LENGTHS[i] / 2 for i in order])
  assert (source.listing.fps == 2).all()
  np.testing.assert_array_equal(source.listing.sizes, [[12, 16]] * 4)
  for number, i in enumerate(order):
    clip = source[number]
    assert clip.duration_s == source.listing.durations_s[number]
    np.testing.assert_array_equal(clip.times_s(), np.arange(LENGTHS[i]) / 2)
    read = clip.read(np.array([0.0, 0.49, 0.49999, 1.0, 1.2, 99.0]), (12, 16))
    np.testing.assert_array_equal(read, FRAMES[i][[0, 0, 1, 2, 2, -1]])


@pytest.mark.parametrize("stored", ["clip", "raw", "packed", "listed", "steps/image"])
def test_every_way_to_store_frames(clips_folder, order, stored):
  source = open_set(clips_folder, video=stored, fps="rate")
  rates = np.array([4.0 + i for i in order])
  np.testing.assert_allclose(source.listing.fps, rates)
  np.testing.assert_allclose(source.listing.durations_s, [LENGTHS[i] for i in order] / rates)
  np.testing.assert_array_equal(source.listing.sizes, [[12, 16]] * 4)
  for number, i in enumerate(order):
    read = source[number].read(np.arange(LENGTHS[i]) / rates[number], (12, 16))
    np.testing.assert_array_equal(read, FRAMES[i])


@pytest.mark.filterwarnings("ignore:label:DeprecationWarning")
def test_values_are_those_that_tfds_reads(clips_folder, order):
  """All but the video, which TFDS needs TensorFlow for, is compared with its own data source."""
  file = clips_folder / "features.json"
  written = file.read_text()
  tree = json.loads(written)
  del tree["featuresDict"]["features"]["clip"]
  file.write_text(json.dumps(tree))
  try:
    theirs = tfds.builder_from_directory(clips_folder).as_data_source("train")
    names = theirs.dataset_info.features["label"].names
  finally:
    file.write_text(written)
  ours = open_set(clips_folder, video="raw", fps="rate", caption=("caption", "label", "more_texts"))
  assert len(theirs) == len(ours.listing)
  for number, record in enumerate(theirs):
    clip = ours[number]
    moments_s = np.arange(len(record["raw"])) / record["rate"]
    np.testing.assert_array_equal(clip.read(moments_s, (12, 16)), record["raw"])
    np.testing.assert_array_equal(clip.read(moments_s[:1], (12, 16))[0], record["poster"])
    assert clip.captions.get("caption", "") == record["caption"].decode()
    assert clip.captions["label"] == names[record["label"]]
    texts = [clip.captions["more_texts"], clip.captions["more_texts_1"]]
    assert texts == list(dict.fromkeys(text.decode() for text in record["more_texts"]))


@pytest.mark.parametrize("stored", ["file", "text_file"])
def test_encoded_files(clips_folder, order, videos, stored):
  source = open_set(clips_folder, video=stored)
  files = [videos / ("b/c.webm" if i % 2 and stored == "file" else "a.mp4") for i in order]
  for number, file in enumerate(files):
    clip, moments_s = source[number], np.array([0.1, 0.7])
    info = video.probe(str(file))
    size = (info.height, info.width)
    np.testing.assert_array_equal(
      clip.read(moments_s, size), video.read_frames_at(str(file), moments_s)
    )
    assert tuple(source.listing.sizes[number]) == size
    assert source.listing.durations_s[number] == clip.duration_s == info.duration_s
    np.testing.assert_array_equal(clip.times_s(), info.times_s)


def test_pictures(clips_folder, order, monkeypatch):
  monkeypatch.setattr(records, "read", lambda *_: pytest.fail("listing reads records"))
  source = open_set(clips_folder, image="poster")
  monkeypatch.undo()
  assert (source.listing.durations_s == math.inf).all()
  np.testing.assert_array_equal(source.listing.sizes, np.zeros((4, 2)))  # the feature has no size
  clip = source[3]
  assert clip.duration_s == math.inf
  np.testing.assert_array_equal(
    clip.read(np.array([0.0, 5.0]), (12, 16)), [FRAMES[order[3]][0]] * 2
  )


def test_only_frames_that_are_shown_are_decoded(clips_folder, monkeypatch):
  source = open_set(clips_folder, fps=1)
  decoded = []
  read = pictures.read
  monkeypatch.setattr(pictures, "read", lambda content: decoded.append(1) or read(content))
  assert source[0].read(np.array([1.0, 1.5, 2.0]), (12, 16)).shape[0] == 3
  assert len(decoded) == 2


def test_captions(clips_folder, order):
  def captions(**options):
    source = open_set(clips_folder, fps=2, **options)
    return source[order.index(0)].captions

  # Found by type and name: not the name of a file.
  label = {"label": "walk"}
  texts = {"more_texts": "One 0.", "more_texts_1": "Two 0."}
  found = captions()
  assert {k: v for k, v in found.items() if k != "text_file"} == {
    "caption": "Ein Bär.",
    **label,
    **texts,
  }
  assert captions(caption="label") == label
  assert captions(caption=["label", "caption"]) == {**label, "caption": "Ein Bär."}
  assert captions(caption={"action": "label"}) == {"action": "walk"}
  without = open_set(clips_folder, fps=2, caption="caption")
  assert without[order.index(1)].captions == {}  # an empty text is none


def test_names_and_ids(clips_folder):
  source = open_set(clips_folder, fps=2)
  names = [source.name(i) for i in range(4)]
  file = "clips_of_all_kinds-train.array_record-0000{}-of-00002[{}]"
  assert names == [file.format(0, 0), file.format(0, 1), file.format(1, 0), file.format(1, 1)]
  assert [source[i].clip_id for i in range(4)] == names


def test_splits(clips_folder, order):
  whole = open_set(clips_folder, fps=2)
  part = open_set(clips_folder, "train[25%:75%]", fps=2)
  assert [part.name(i) for i in range(2)] == [whole.name(1), whole.name(2)]
  assert part[1].captions == whole[2].captions
  np.testing.assert_array_equal(part.listing.durations_s, whole.listing.durations_s[1:3])
  assert open_set(clips_folder, "test", fps=2).name(0).startswith("clips_of_all_kinds-test")
  for split in ("val", "train[bad"):
    with pytest.raises(errors.DataError, match=r"it has train \(4\), test \(4\)"):
      open_set(clips_folder, split, fps=2)
  with pytest.raises(errors.DataError, match="has the same records twice"):
    open_set(clips_folder, "train+train[:1]", fps=2)


def test_the_digest(clips_folder, tmp_path):
  digest = open_set(clips_folder, fps=2).listing.digest
  moved = tmp_path / "moved"
  shutil.copytree(clips_folder, moved)
  assert open_set(moved, fps=2).listing.digest == digest
  others = [
    open_set(clips_folder, fps=3),
    open_set(clips_folder, fps=2, caption="label"),
    open_set(clips_folder, "test", fps=2),
    open_set(clips_folder, "train[:3]", fps=2),
    open_set(clips_folder, video="raw", fps=2),
  ]
  (moved / "label.labels.txt").write_text("walk\nrun\nlie\n")
  others.append(open_set(moved, fps=2))
  info = json.loads((moved / "dataset_info.json").read_text())
  (moved / "dataset_info.json").write_text(json.dumps(info | {"version": "1.3.0"}))
  others.append(open_set(moved, fps=2))
  assert len({digest, *(source.listing.digest for source in others)}) == 8


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({}, "'clip' is stored as frames.*set the option fps"),
    ({"fps": 0}, "'clip' is stored as frames.*it is 0"),
    ({"fps": "label"}, "fps='label' is no number among"),
    ({"fps": "nothing"}, "fps='nothing' is no number among"),
    ({"video": "nothing", "fps": 2}, "video='nothing' is none of caption, clip, file"),
    ({"video": "poster", "fps": 2}, "video='poster' cannot be shown as one"),
    ({"image": "clip"}, "image='clip' cannot be shown as one"),
    ({"image": "label"}, "image='label' cannot be shown as one"),
    ({"image": "poster", "fps": 3}, "fps=3 is for videos stored as frames, 'poster' is none"),
    ({"image": "poster", "video": "raw"}, "set one of the options video and image"),
    ({"fps": 2, "caption": "nothing"}, "caption='nothing' is none of"),
    ({"fps": 2, "caption": "poster"}, "caption='poster' is no text, class or number"),
    ({"frames": 2}, "'tfds' has no option 'frames': it knows video, image, caption, fps"),
  ],
)
def test_options_that_do_not_fit(clips_folder, options, message):
  with pytest.raises(ValueError, match=message):
    open_set(clips_folder, **options)


def test_a_curated_folder_is_a_tfds_data_set_too(tmp_path):
  made = [clip_shards.make_clip(i, clip_shards.steady(1.0 + i)) for i in range(3)]
  folder = clip_shards.write_shards(tmp_path, made, shards=2) / "shards"
  names = [file.name for file in sorted(folder.glob("*.array_record*"))]
  features = {
    "caption": {"text": {}},
    "video": {"tensor": {"shape": {}, "dtype": "string", "encoding": "none"}},
  }
  (folder / "features.json").write_text(json.dumps({"featuresDict": {"features": features}}))
  info = {
    "name": "clips",
    "version": "1.0.0",
    "fileFormat": "array_record",
    "splits": [{"name": "train", "shardLengths": ["2", "1"], "numBytes": "9"}],
  }
  (folder / "dataset_info.json").write_text(json.dumps(info))
  source = open_set(folder, video="video")
  np.testing.assert_allclose(source.listing.durations_s, [1.0, 2.0, 3.0], atol=0.1)
  read = source[2].read(np.array([0.5, 2.0]), (clip_shards.SIZE, clip_shards.SIZE))
  assert clip_shards.read_numbers(read) == (2, [6, 24])
  assert source.name(2) == f"{names[1]}[0]"


def test_damaged_records(clips_folder, tmp_path, caplog):
  path = tmp_path / "damaged"
  shutil.copytree(clips_folder, path, ignore=shutil.ignore_patterns("index-*"))
  shard = path / "clips_of_all_kinds-train.array_record-00001-of-00002"
  first, second = (records.read(str(shard), i) for i in range(2))
  writer = array_record_module.ArrayRecordWriter(str(shard), "group_size:1,uncompressed")
  for record in (first, second):
    writer.write(record)
  writer.close()
  data = bytearray(shard.read_bytes())
  data[data.index(first[200:260])] ^= 255
  shard.write_bytes(data)
  records.open_shard.cache_clear()
  source = open_set(path, fps=2)
  assert np.isnan(source.listing.durations_s).tolist() == [False, False, True, False]
  assert "array_record-00001-of-00002[0] cannot be read" in caplog.text
  with pytest.raises(RuntimeError):
    source[2]
  assert records.read(str(shard), 1) == second


def test_records_of_something_else(clips_folder):
  from vidjax.data.sources import tfds as kind

  plan = open_set(clips_folder, fps=2).plan
  with pytest.raises(errors.DataError, match=r"is not a tf\.train\.Example"):
    kind.as_clip(b"no example", "x", plan)
  with pytest.raises(errors.DataError, match="the record has no feature 'clip'"):
    kind.as_clip(b"", "x", plan)
  with pytest.raises(errors.DataError, match="no bytes in 'file'"):
    kind.as_clip(b"", "x", open_set(clips_folder, video="file").plan)
  raw = tfds_features.Feature("raw", "tensor", shape=(-1, 12, 16, 3), dtype="uint8")
  record = records._Example()
  record.features.feature["raw"].int64_list.value.extend([1] * 100)
  with pytest.raises(errors.DataError, match="100 values of 'raw' do not fit"):
    tfds_features.frames(tfds_features.parse(record.SerializeToString()), raw)


def test_folders_that_are_none(clips_folder, tmp_path):
  with pytest.raises(FileNotFoundError, match="nowhere"):
    open_set(tmp_path / "nowhere")
  with pytest.raises(errors.DataError, match=rf"no dataset_info.json.*such as {clips_folder}"):
    open_set(clips_folder.parent.parent)
  path = tmp_path / "copy"
  shutil.copytree(clips_folder, path)
  (path / "clips_of_all_kinds-train.array_record-00001-of-00002").unlink()
  with pytest.raises(errors.DataError, match="00001-of-00002 of the split 'train' does not exist"):
    open_set(path, fps=2)
  assert len(open_set(path, "test", fps=2).listing) == 4
  shard = path / "clips_of_all_kinds-test.array_record-00000-of-00002"
  shard.write_bytes(shard.read_bytes()[:1000])
  records.open_shard.cache_clear()
  with pytest.raises(errors.DataError, match="is not an ArrayRecord file, or it is cut short"):
    open_set(path, "test", image="poster")[0]
  (path / "features.json").write_text("{}")
  with pytest.raises(errors.DataError, match="no field 'featuresDict'"):
    open_set(path, fps=2)
  info = json.loads((path / "dataset_info.json").read_text())
  (path / "dataset_info.json").write_text(json.dumps(info | {"fileFormat": "tfrecord"}))
  with pytest.raises(errors.DataError, match="stored as tfrecord, which has no random access"):
    open_set(path, fps=2)


def test_nothing_to_show(tmp_path):
  path = tfds_sets.prepare(
    tmp_path, "texts", {"text": feature.Text()}, [{"text": "a"}, {"text": "b"}]
  )
  with pytest.raises(errors.DataError, match=r"no feature of videos or images.*one of text"):
    open_set(path)


def test_pictures_of_a_known_size_with_classes(tmp_path, png):
  examples = [{"image": io.BytesIO(png(f[0])), "label": i} for i, f in enumerate(FRAMES)]
  features = {"image": feature.Image(shape=(12, 16, 3)), "label": feature.ClassLabel(num_classes=4)}
  source = open_set(tfds_sets.prepare(tmp_path, "pictures", features, examples))
  np.testing.assert_array_equal(source.listing.sizes, [[12, 16]] * 4)
  for number in range(4):
    label = int(source[number].captions["label"])
    np.testing.assert_array_equal(source[number].read(np.zeros(1), (12, 16))[0], FRAMES[label][0])


def test_decoding_needs_neither_jax_nor_tfds(clips_folder):
  pickled = pickle.dumps(open_set(clips_folder, fps=2))
  assert len(pickled) < 5000
  code = (
    "import pickle, sys, numpy as np\n"
    "source = pickle.loads(sys.stdin.buffer.read())\n"
    "print(source[0].read(np.array([0.0, 1.0]), (12, 16)).shape)\n"
    "print([m for m in ('jax', 'flax', 'tensorflow_datasets', 'pyarrow') if m in sys.modules])"
  )
  done = subprocess.run([sys.executable, "-c", code], input=pickled, capture_output=True)
  lines = done.stdout.decode().split("\n")
  assert lines[:2] == ["(2, 12, 16, 3)", "[]"], done.stderr.decode()
