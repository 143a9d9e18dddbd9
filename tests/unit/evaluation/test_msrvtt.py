import json
import re
import shutil

import pytest

from vidjax import errors
from vidjax.evaluation.datasets import Caption, ClipRule, draw_captions, open_dataset, read_clip


def opened(path, split="test", **options):
  return open_dataset("msrvtt", str(path), split, **options)


def annotations(numbers, *, split=None, captions=3):
  """In the form of the official file, with texts of our own."""
  videos = [{"video_id": f"video{n}", "category": 1, "url": "", "id": n} for n in numbers]
  for video in videos if split else []:
    video["split"] = split(video["id"])
  sentences = [
    {"caption": f" text {i} of {n}\n", "video_id": f"video{n}", "sen_id": 100 * n + i}
    for i in reversed(range(captions))
    for n in numbers
  ]
  return {"info": {"year": "2016"}, "videos": videos, "sentences": sentences}


def touch(folder, numbers, suffix=".mp4"):
  folder.mkdir(parents=True, exist_ok=True)
  for n in numbers:
    (folder / f"video{n}{suffix}").touch()


def edges():
  return [0, 6512, 6513, 7009, 7010, 9999]


@pytest.fixture
def root(tmp_path):
  """First and last video of each split."""
  content = annotations(edges())
  (tmp_path / "videodatainfo_2016.json").write_text(json.dumps(content))
  touch(tmp_path / "TrainValVideo", edges()[:4])
  touch(tmp_path / "TestVideo", edges()[4:5])
  touch(tmp_path / "TestVideo", edges()[5:], ".webm")
  return tmp_path


@pytest.mark.parametrize("stated", [False, True])
def test_splits_by_number_or_as_stated(root, stated):
  names = {"train": ["video0", "video6512"], "val": ["video6513", "video7009"]}
  names["test"] = ["video7010", "video9999"]
  if stated:
    content = annotations(edges(), split=lambda n: ("validate", "test", "train")[n % 3])
    (root / "videodatainfo_2016.json").write_text(json.dumps(content))
    names = {"val": ["video0", "video6513", "video9999"], "test": ["video7009"]}
    names["train"] = ["video6512", "video7010"]
  for split, expected in names.items():
    found = opened(root, split)
    assert [item.id for item in found.items] == expected
    assert (found.name, found.expected, found.missing) == (f"msrvtt/{split}", len(expected), ())
    assert found.histogram == {}
  assert [item.id for item in opened(root, "all").items] == [f"video{n}" for n in edges()]
  assert opened(root, "all").items[-1].source.place.endswith("TestVideo/video9999.webm")


def test_captions_are_word_for_word_and_by_number(root):
  content = annotations(edges())
  content["sentences"] += [
    {"caption": "  a MAN  is siging ,", "video_id": "video7010", "sen_id": 7},
    {"caption": "text 0 of 7010", "video_id": "video7010", "sen_id": 9},
  ]
  (root / "test_videodatainfo.json").write_text(json.dumps(content))
  first = opened(root).items[0]
  assert first.captions == (
    Caption("a MAN  is siging ,", 7),
    Caption("text 0 of 7010", 9),
    Caption("text 0 of 7010", 701000),
    Caption("text 1 of 7010", 701001),
    Caption("text 2 of 7010", 701002),
  )
  drawn = draw_captions(opened(root).items, 5)
  assert drawn["video9999"] in (999900, 999901, 999902)


@pytest.mark.parametrize("place", ["itself", "below", "beside", "given"])
def test_annotations_are_found(root, tmp_path, place):
  videos, options = root / "TestVideo", {}
  file = root / "videodatainfo_2016.json"
  if place == "itself":
    file.rename(videos / "test_videodatainfo.json")
  elif place == "below":
    (root / "lists").mkdir()
    file.rename(root / "lists" / file.name)
    videos = root
  elif place == "given":
    options = {"annotations": str(file.rename(tmp_path / "my.json"))}
  assert len(opened(videos, **options).items) == 2


def test_real_captions_and_a_real_video(shared_data, tmp_path):
  """The twenty captions of each of twenty test videos, brought back into the official form."""
  fragment = json.loads((shared_data / "msrvtt" / "msrvtt_caption_test_fragment.json").read_text())
  numbers = [int(re.search(r"\d+", entry["video"])[0]) for entry in fragment]
  content = annotations(numbers, captions=0)
  for entry in fragment:
    for text in entry["caption"]:
      sentence = {"caption": text, "video_id": entry["video"][:-4]}
      content["sentences"].append({**sentence, "sen_id": len(content["sentences"])})
  (tmp_path / "test_videodatainfo.json").write_text(json.dumps(content))
  touch(tmp_path / "TestVideo", numbers[1:])
  shutil.copy(shared_data / "videos" / "chaplin.mp4", tmp_path / "TestVideo" / "video7010.mp4")
  found = opened(tmp_path)
  assert sum(len(item.captions) for item in found.items) == 400
  for item, entry in zip(found.items, fragment, strict=True):
    assert [caption.text for caption in item.captions] == [t.strip() for t in entry["caption"]]
  assert read_clip(found.items[0], ClipRule(start="centre")).fps == 25


def test_missing_videos_are_named_or_recorded(root):
  (root / "TestVideo" / "video9999.webm").unlink()
  with pytest.raises(errors.DataError, match=r"1 videos \(video9999\) of 2 are missing; a part of"):
    opened(root)
  found = opened(root, allow_missing=True)
  assert (found.expected, found.missing, len(found.items)) == (2, ("video9999",), 1)


def test_videos_two_folders_below_are_not_looked_for(root):
  shutil.move(root / "TestVideo", root / "a" / "TestVideo")
  with pytest.raises(errors.DataError, match="none of the 2 videos is there"):
    opened(root, allow_missing=True)


def test_retrieval_copies_are_refused_by_name(tmp_path):
  table = tmp_path / "MSRVTT_JSFUSION_test.csv"
  table.write_text("key,vid_key,video_id,sentence\nret0,msr9770,video9770,a person\n")
  touch(tmp_path, [9770])
  with pytest.raises(errors.DataError, match=r"_JSFUSION_test.csv and no test_vid.* \('1k-A'\)"):
    opened(tmp_path)
  with pytest.raises(errors.DataError, match=r"csv is not the annotations .* 1,000 videos of retr"):
    opened(tmp_path, annotations=str(table))
  table.unlink()
  (tmp_path / "test_videodatainfo.json").write_text(json.dumps(annotations(range(7010, 8010))))
  touch(tmp_path, range(7010, 8010))
  with pytest.raises(errors.DataError, match=r"json has 1,000 test videos: .* \('1k-A'"):
    opened(tmp_path)
  (tmp_path / "test_videodatainfo.json").write_text(json.dumps(annotations(range(7010, 8011))))
  with pytest.raises(errors.DataError, match=r"\(video8010\) .* are missing \(the 1,000 that are"):
    opened(tmp_path)


def test_a_fragment_for_captioning_is_no_annotation(shared_data):
  file = shared_data / "msrvtt" / "msrvtt_caption_test_fragment.json"
  with pytest.raises(errors.DataError, match=r"is a list of 20 entries and not .* 'sentences': a"):
    opened(file.parent, annotations=str(file))


def broken(change):
  content = annotations([7010, 7011])
  change(content)
  return content


@pytest.mark.parametrize(
  ("content", "message"),
  [
    ({"images": [], "annotations": []}, "has no list 'videos', it has images, annotations: not"),
    (broken(lambda c: c.pop("sentences")), "has no list 'sentences', it has info, videos"),
    (broken(lambda c: c["videos"][1].pop("video_id")), r"videos\[1\] has no 'video_id' \(str\)"),
    (broken(lambda c: c["sentences"][2].pop("sen_id")), r"sentences\[2\] has no 'sen_id' \(int"),
    (broken(lambda c: c["sentences"][2].pop("caption")), r"sentences\[2\] has no 'caption'"),
    (broken(lambda c: c["sentences"].append(c["sentences"][0])), "sen_id 701002 is in .* twice"),
    (broken(lambda c: c["videos"].append(c["videos"][0])), "video7010 is in 'videos' twice"),
    (broken(lambda c: c["videos"].pop()), "sen_id 701102 is of 'video7011', which is not in 'v"),
    (broken(lambda c: c["videos"].append({"video_id": "video7012"})), r"1 videos \(video7012\) w"),
    (broken(lambda c: c["videos"][0].update(video_id="vid1")), "video_id 'vid1' is not 'videoNN"),
    (broken(lambda c: c["videos"][0].update(split="test")), "1 of the videos have no 'split'"),
    (annotations([7010], split=lambda _: "dev"), "video7010 has split='dev', which is none of"),
    (annotations([3]), "has no video of the split 'test'"),
  ],
)
def test_annotations_of_another_form(tmp_path, content, message):
  file = tmp_path / "test_videodatainfo.json"
  file.write_text(json.dumps(content))
  touch(tmp_path, [7010, 7011])
  with pytest.raises(errors.DataError, match=message) as found:
    opened(tmp_path)
  assert str(file) in str(found.value)


def test_what_is_not_there(root):
  with pytest.raises(ValueError, match="split='dev', choose from train, val, test, all"):
    opened(root, "dev")
  with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
    opened(root / "nowhere")
  (root / "videodatainfo_2016.json").write_text("{")
  with pytest.raises(errors.DataError, match=r"videodatainfo_2016.json is not valid JSON"):
    opened(root)
  (root / "videodatainfo_2016.json").unlink()
  with pytest.raises(errors.DataError, match=r"no test_videodatainfo.json or videodatainfo_2016.j"):
    opened(root)
