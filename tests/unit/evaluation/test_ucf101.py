import io
import shutil

import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds
import tfds_sets

from vidjax import errors
from vidjax.data import video
from vidjax.evaluation.datasets import ClipRule, open_dataset, read_clip, ucf101

VIDEOS = {
  "Archery/v_Archery_g01_c01": "test",
  "Archery/v_Archery_g08_c01": "train",
  "Archery/v_Archery_g08_c02": "train",
  "HandstandPushups/v_HandStandPushups_g01_c01": "test",
  "HandstandPushups/v_HandStandPushups_g08_c01": "train",
}


def write_lists(folder, **files):
  folder.mkdir(parents=True, exist_ok=True)
  for name, lines in files.items():
    (folder / f"{name}.txt").write_text("".join(f"{line}\r\n" for line in lines))


@pytest.fixture
def small(tmp_path):
  """A part of UCF-101 with lists of its own; files that no decoder would take."""
  numbers = {"Archery": 1, "HandstandPushups": 2}
  write_lists(
    tmp_path / "ucfTrainTestlist",
    classInd=[f"{number} {name} " for name, number in numbers.items()],
    trainlist01=[
      f"{v}.avi {numbers[v.split('/')[0]]}" for v, part in VIDEOS.items() if part == "train"
    ],
    testlist01=[f"{v}.avi" for v, part in VIDEOS.items() if part == "test"],
  )
  for name in VIDEOS:
    file = tmp_path / "UCF-101" / f"{name}.avi"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"")
  return tmp_path


def opened(path, split="all", **options):
  return open_dataset("ucf101", str(path), split, **options)


@pytest.fixture(scope="module")
def official(shared_data, tmp_path_factory):
  """All 13,320 names of the data set, empty; the real lists beside."""
  root = tmp_path_factory.mktemp("official")
  shutil.copytree(shared_data / "ucf101", root / "ucfTrainTestlist")
  names = [
    line.split()[0]
    for part in ("train", "test")
    for line in (shared_data / "ucf101" / f"{part}list01.txt").read_text().splitlines()
  ]
  for label in {name.split("/")[0] for name in names}:
    (root / "UCF-101" / label).mkdir(parents=True)
  for name in names:
    (root / "UCF-101" / name).touch()
  return root


def test_the_official_splits(official):
  found = {split: opened(official / "UCF-101", split) for split in ("train", "test", "all")}
  assert {s: (len(d.items), d.expected) for s, d in found.items()} == {
    "train": (9537, 9537),
    "test": (3783, 3783),
    "all": (13320, 13320),
  }
  whole = found["all"]
  assert whole.histogram["TableTennisShot"] == 140, "as SVD writes, App. E.4"
  assert whole.histogram["PlayingPiano"] == 105
  assert whole.histogram["HandstandPushups"] == 128
  assert len(whole.histogram) == 101
  assert sum(whole.histogram.values()) == 13320
  assert whole.classes == ucf101.CLASSES
  assert {item.label for item in whole.items} == set(ucf101.CLASSES)
  assert [item.id for item in whole.items] == sorted(item.id for item in whole.items)
  assert whole.missing == ()
  assert (whole.name, found["test"].name) == ("ucf101/all", "ucf101/test01")


def test_all_videos_need_no_lists_and_are_the_same(official, tmp_path):
  whole = opened(official / "UCF-101")
  (tmp_path / "UCF-101").symlink_to(official / "UCF-101")
  alone = opened(tmp_path / "UCF-101")
  pairs = [(item.id, item.label) for item in whole.items]
  assert [(item.id, item.label) for item in alone.items] == pairs
  assert alone.histogram == whole.histogram
  with pytest.raises(errors.DataError, match=r"'test' is said by the official lists, and no ucfT"):
    opened(tmp_path / "UCF-101", "test")


@pytest.mark.parametrize("place", ["beside", "within", "itself", "above", "given"])
def test_lists_are_found(small, tmp_path, place):
  lists, videos, options = small / "ucfTrainTestlist", small / "UCF-101", {}
  if place == "within":
    lists.rename(videos / "ucfTrainTestlist")
  elif place == "itself":
    for file in lists.iterdir():
      file.rename(videos / file.name)
  elif place == "above":
    videos = small
  elif place == "given":
    options = {"lists": str(lists.rename(tmp_path / "elsewhere"))}
  found = opened(videos, "train", **options)
  assert [(item.id, item.label) for item in found.items] == [
    ("v_Archery_g08_c01", "Archery"),
    ("v_Archery_g08_c02", "Archery"),
    ("v_HandStandPushups_g08_c01", "HandstandPushups"),
  ]
  assert found.classes == ("Archery", "HandstandPushups")


def test_all_files_in_one_folder_in_any_case(small):
  flat = small / "flat"
  flat.mkdir()
  for i, file in enumerate(sorted((small / "UCF-101").rglob("*.avi"))):
    file.rename(flat / (file.name.replace("HandStand", "Handstand") if i % 2 else file.name))
  (flat / "._v_Archery_g01_c01.avi").write_bytes(b"of a Mac")
  found = opened(flat)
  assert [item.id for item in found.items] == sorted(name.split("/")[1] for name in VIDEOS)
  assert found.histogram == {"Archery": 3, "HandstandPushups": 2}


def test_missing_videos_are_named_or_recorded(small):
  for name in list(VIDEOS)[2:4]:
    (small / "UCF-101" / f"{name}.avi").unlink()
  message = r"2 videos \(v_Archery_g08_c02, v_HandStandPushups_g01_c01\) of 5 are missing; a part"
  with pytest.raises(errors.DataError, match=message):
    opened(small)
  found = opened(small, allow_missing=True)
  assert (len(found.items), found.expected) == (3, 5)
  assert found.missing == ("v_Archery_g08_c02", "v_HandStandPushups_g01_c01")
  assert found.histogram == {"Archery": 3, "HandstandPushups": 2}, "that of the lists"


def test_nothing_there_is_not_allowed_either(small, tmp_path):
  (tmp_path / "other").mkdir()
  (tmp_path / "other" / "v_Archery_g25_c09.avi").touch()
  with pytest.raises(errors.DataError, match="none of the 5 videos is there"):
    opened(tmp_path / "other", lists=str(small / "ucfTrainTestlist"), allow_missing=True)


def test_many_missing_ones_are_counted(official, shared_data, tmp_path):
  (tmp_path / "one").mkdir()
  shutil.copy(shared_data / "videos" / "v_BaseballPitch_g01_c01.avi", tmp_path / "one")
  options = {"lists": str(shared_data / "ucf101")}
  message = r"3782 videos \(v_ApplyEyeMakeup_g01_c01, .*_c05, ...\) of 3783 are missing"
  with pytest.raises(errors.DataError, match=message):
    opened(tmp_path / "one", "test", **options)
  found = opened(tmp_path / "one", "test", allow_missing=True, **options)
  assert len(found.missing) == 3782
  assert found.histogram == opened(official, "test").histogram
  (item,) = found.items
  assert item.label == "BaseballPitch"
  clip = read_clip(item, ClipRule())
  assert clip.frames_THWC.shape == (16, 240, 320, 3)
  assert clip.fps == pytest.approx(30000 / 1001)


def test_a_part_without_lists_cannot_say_what_is_missing(small):
  shutil.rmtree(small / "ucfTrainTestlist")
  with pytest.raises(errors.DataError, match="5 of 13320 videos, and no ucfTrainTestlist"):
    opened(small / "UCF-101", allow_missing=True)


@pytest.mark.parametrize(
  ("file", "lines", "message"),
  [
    ("trainlist01", ["Archery/v_Archery_g08_c01.avi 2"], r"txt:1: .* label 2, by .* it is 1"),
    ("trainlist01", ["Bowling/v_Bowling_g08_c01.avi 2"], r"txt:1: 'Bowling/.*' is not 'Class/"),
    ("trainlist01", ["Archery/archery.avi 1"], r"txt:1: .* is not 'Class/v_Class_gNN_cNN.avi'"),
    ("trainlist01", ["Archery/v_Archery_g08_c01.avi 1"] * 2, r"txt:2: .* twice"),
    ("testlist01", ["Archery/v_Archery_g08_c01.avi"], r"testlist01.txt:1: .* twice"),
    ("classInd", ["0 Archery", "1 Bowling"], r"classInd.txt:1: '0 Archery' is not '1 ClassName'"),
  ],
)
def test_lists_that_are_none(small, file, lines, message):
  write_lists(small / "ucfTrainTestlist", **{file: lines})
  with pytest.raises(errors.DataError, match=message):
    opened(small)


def test_other_layouts_and_options(small, tmp_path):
  with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
    opened(tmp_path / "nowhere")
  with pytest.raises(ValueError, match="split='val', choose from train, test, all"):
    opened(small, "val")
  with pytest.raises(ValueError, match="fold=4, there are the lists 1, 2 and 3"):
    opened(small, fold=4)
  with pytest.raises(ValueError, match="fps=25 is for TFDS data sets"):
    opened(small, fps=25)
  with pytest.raises(errors.DataError, match=r"testlist02.txt cannot be read"):
    opened(small, "test", fold=2)
  with pytest.raises(errors.DataError, match=r"holds neither trainlist01.txt nor testlist01.txt"):
    opened(small, lists=str(small / "UCF-101"))
  shutil.copy(small / "UCF-101/Archery/v_Archery_g01_c01.avi", small / "UCF-101")
  with pytest.raises(errors.DataError, match=r"twice: .*v_Archery_g01_c01.avi and .*; remove one"):
    opened(small)
  (tmp_path / "empty").mkdir()
  with pytest.raises(errors.DataError, match=r"empty is not UCF-101: no v_Class_gNN_cNN.avi"):
    opened(tmp_path / "empty")
  (tmp_path / "empty" / "v_Archery_g01_c01.mp4").touch()
  with pytest.raises(
    errors.DataError, match=r"holds no avi but v_Archery_g01_c01.mp4: a copy in an"
  ):
    opened(tmp_path / "empty")


def jpeg(frame):
  content = io.BytesIO()
  PIL.Image.fromarray(frame).save(content, "JPEG")
  return content.getvalue()


@pytest.fixture(scope="module")
def prepared(shared_data, tmp_path_factory):
  """As TFDS's builder of UCF-101 writes it: frames as JPEG."""
  frames = video.read_frames_at(
    str(shared_data / "videos/v_BaseballPitch_g01_c01.avi"), np.arange(20) * 1001 / 30000
  )
  features = {
    "video": tfds.features.Sequence(
      tfds.features.Image(shape=(240, 320, 3), encoding_format="jpeg")
    ),
    "label": tfds.features.ClassLabel(names=list(ucf101.CLASSES)),
  }
  examples = [{"video": [jpeg(f) for f in frames[: 20 - i]], "label": i} for i in range(3)]
  path = tfds_sets.prepare(
    tmp_path_factory.mktemp("tfds"), "ucf101", features, examples, splits=["train", "test"]
  )
  return path, frames


def test_a_tfds_data_set_is_another_real_set(prepared):
  path, frames = prepared
  found = opened(path)
  assert found.name == "ucf101/all (TFDS ucf101/1.2.0, JPEG frames)"
  assert len(found.items) == found.expected == 6
  assert found.histogram == {}, "classes are inside the records"
  clips = [read_clip(item, ClipRule(frames=18)) for item in found.items]
  assert sorted(clip is None for clip in clips) == [False] * 6
  clip = clips[0]
  assert clip.decoder.startswith("Pillow ")
  assert clip.decoder.endswith(" (JPEG frames of TFDS)")
  assert clip.fps is None
  error = np.abs(clip.frames_THWC.astype(int) - frames[:18])
  assert 0 < error.mean() < 10, "not the frames of the file"
  timed = read_clip(opened(path, "test", fps=25.0).items[0], ClipRule(frames=4, fps=12.5))
  np.testing.assert_array_equal(timed.frames_THWC, clip.frames_THWC[:8:2])


def test_a_tfds_data_set_of_another_fold_does_not_fit_the_lists(prepared, shared_data):
  path, _ = prepared
  with pytest.raises(
    errors.DataError, match=r"holds 6 videos .* 'all', the lists in .* name 13320"
  ):
    opened(path, lists=str(shared_data / "ucf101"))


def test_the_lists_may_be_in_a_folder_of_any_name(shared_data):
  """Two of the files and all of the lists, as they came, among other things."""
  found = open_dataset("ucf101", str(shared_data), "all", allow_missing=True)
  assert (len(found.items), found.expected, len(found.missing)) == (2, 13_320, 13_318)
