"""What each protocol compares on the official lists: numbers, prompts, draws."""

from collections import Counter
import dataclasses
import json
import shutil

import pytest

from vidjax.errors import DataError
from vidjax.evaluation import named, plan
from vidjax.evaluation.named import PROTOCOLS

HERE = ("v_SoccerJuggling_g23_c01", "v_BaseballPitch_g01_c01")
UCF = [name for name, of in PROTOCOLS.items() if of.real.dataset == "ucf101"]
MSRVTT = [name for name, of in PROTOCOLS.items() if of.real.dataset == "msrvtt"]


@pytest.fixture
def ucf(tmp_path, shared_data):
  """The official lists, and two of the 13,320 files, empty: nothing is decoded to plan."""
  for video in HERE:
    folder = tmp_path / "UCF-101" / video.split("_")[1]
    folder.mkdir(parents=True)
    (folder / f"{video}.avi").touch()
  shutil.copytree(shared_data / "ucf101", tmp_path / "ucfTrainTestlist")
  return tmp_path


@pytest.fixture
def msrvtt(tmp_path):
  """Test videos 7010 to 7029 with three captions each, in the form of the official file."""
  numbers = range(7010, 7030)
  content = {
    "info": {"year": "2016"},
    "videos": [
      {"video_id": f"video{n}", "category": 1, "url": "", "id": n, "split": "test"} for n in numbers
    ],
    "sentences": [
      {"caption": f"text {i} of {n}", "video_id": f"video{n}", "sen_id": 10 * n + i}
      for n in numbers
      for i in range(3)
    ],
  }
  (tmp_path / "test_videodatainfo.json").write_text(json.dumps(content))
  (tmp_path / "TestVideo").mkdir()
  for n in numbers:
    (tmp_path / "TestVideo" / f"video{n}.mp4").touch()
  return tmp_path


def made(protocol, root, **options):
  return plan.make(protocol, str(root / "UCF-101"), allow_missing=True, **options)


def test_svd_follows_the_official_numbers_of_each_class(ucf):
  """140 "TableTennisShot", 105 "PlayingPiano", 13,320 in all: 2311.15127, appendix E.4."""
  found = made(PROTOCOLS["svd-ucf101"], ucf)
  assert (len(found.real), found.missing, found.dataset.expected) == (2, 13_318, 13_320)
  assert len(found.prompts) == 13_320
  counts = Counter(prompt.prompt for prompt in found.prompts)
  assert (counts["TableTennisShot"], counts["PlayingPiano"], len(counts)) == (140, 105, 101)
  assert len({prompt.seed for prompt in found.prompts}) > 13_300
  assert len({prompt.sample_id for prompt in found.prompts}) == 13_320


@pytest.mark.parametrize("name", UCF)
def test_every_protocol_of_ucf(ucf, name, tmp_path):
  protocol = PROTOCOLS[name]
  options = {}
  if protocol.fake.prompts == "sentence":
    classes = (ucf / "ucfTrainTestlist" / "classInd.txt").read_text().split()[1::2]
    (tmp_path / "mine.tsv").write_text("".join(f"{c}\tA film of {c}.\n" for c in classes))
    options["sentences"] = str(tmp_path / "mine.tsv")
  found = made(protocol, ucf, **options)
  if protocol.fake.prompts == "given":
    assert found.prompts == ()
    return
  wanted = len(found.real) if protocol.fake.count is None else protocol.fake.count
  assert len(found.prompts) == wanted
  if protocol.fake.prompts == "sentence":
    assert found.prompts[0].prompt == f"A film of {found.prompts[0].label}."
  if protocol.fake.histogram == "uniform":
    assert set(Counter(prompt.label for prompt in found.prompts).values()) == {100}
  if protocol.fake.condition == "first_frame":
    assert {prompt.video_id for prompt in found.prompts} == {item.id for item in found.real}


@pytest.mark.parametrize("name", MSRVTT)
def test_every_protocol_of_msrvtt(msrvtt, name):
  protocol = PROTOCOLS[name]
  found = plan.make(protocol, str(msrvtt))
  texts = {prompt.prompt for prompt in found.prompts}
  if protocol.fake.prompts == "all_captions":
    assert len(texts) == len(found.prompts) == 60
  else:
    assert sorted(prompt.video_id or "" for prompt in found.prompts) == sorted(
      item.id for item in found.real
    )
    assert len(texts) == 20
    other = dataclasses.replace(protocol, fake=dataclasses.replace(protocol.fake, seed=1))
    assert texts != {prompt.prompt for prompt in plan.make(other, str(msrvtt)).prompts}


def test_a_limit_draws_from_all_classes_and_smaller_ones_are_parts(ucf):
  small, large = (made(named.load("svd-ucf101", limit), ucf).prompts for limit in (50, 200))
  assert (len(small), len(large)) == (50, 200)
  assert set(small) < set(large)
  assert len({prompt.label for prompt in small}) > 30


def test_a_draw_of_real_videos_does_not_depend_on_their_number(msrvtt):
  protocol = PROTOCOLS["pixeldance-msrvtt"]

  def ids(count):
    real = dataclasses.replace(protocol.real, count=count)
    return [i.id for i in plan.make(dataclasses.replace(protocol, real=real), str(msrvtt)).real]

  assert set(ids(5)) < set(ids(11)) < set(ids(None))
  assert ids(11) == sorted(ids(11))


def test_what_a_protocol_cannot_be_given(ucf, msrvtt):
  svd, videopoet = PROTOCOLS["svd-ucf101"], PROTOCOLS["videopoet-ucf101"]
  with pytest.raises(DataError, match=r"13318 videos .* of 13320 are missing"):
    plan.make(svd, str(ucf / "UCF-101"))
  with pytest.raises(ValueError, match=r"'svd-ucf101' has its own prompts: leave --sentences"):
    made(svd, ucf, sentences="mine.tsv")
  with pytest.raises(ValueError, match=r"'videopoet-ucf101' needs --sentences=FILE"):
    made(videopoet, ucf)
  with pytest.raises(ValueError, match=r"--lists=x: only UCF-101 has lists"):
    plan.make(PROTOCOLS["pixeldance-msrvtt"], str(msrvtt), lists="x")
