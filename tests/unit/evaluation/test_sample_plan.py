import json

import numpy as np
import pytest

from vidjax import errors
from vidjax.evaluation import prompts, sample_plan
from vidjax.evaluation.datasets import Caption, Item, draw_captions
from vidjax.evaluation.sample_plan import Prompt, plan_caption_samples, plan_class_samples

HISTOGRAM = {"TableTennisShot": 140, "PlayingPiano": 105, "YoYo": 128}
TEXTS = prompts.class_prompts("classname", list(HISTOGRAM))


def video(number, captions=4):
  return Item(
    f"video{number}",
    None,
    tuple(Caption(f"text {i} of {number}", 1000 * i + number) for i in range(captions)),
    source=None,
  )


VIDEOS = [video(n) for n in range(7010, 7060)]


def test_as_many_as_the_histogram_has():
  planned = plan_class_samples(HISTOGRAM, TEXTS)
  assert len(planned) == 373
  assert [p.sample_id for p in planned[103:107]] == [
    "PlayingPiano_0103",
    "PlayingPiano_0104",
    "TableTennisShot_0000",
    "TableTennisShot_0001",
  ]
  assert {(p.label, p.prompt, p.video_id, p.sen_id) for p in planned} == {
    (label, label, None, None) for label in HISTOGRAM
  }
  assert len({p.sample_id for p in planned}) == len({p.seed for p in planned}) == 373
  assert all(0 <= p.seed < 2**31 for p in planned)


def test_more_samples_keep_those_that_a_class_had():
  few = {p.sample_id: p for p in plan_class_samples(HISTOGRAM, TEXTS, 50)}
  many = {p.sample_id: p for p in plan_class_samples(HISTOGRAM, TEXTS, 500)}
  assert len(few) == 50
  assert all(many[name] == p for name, p in few.items())


def test_plans_are_functions_of_their_seed():
  one = plan_class_samples(HISTOGRAM, TEXTS, 9)
  assert one == plan_class_samples(HISTOGRAM, TEXTS, 9)
  other = plan_class_samples(HISTOGRAM, TEXTS, 9, seed=1)
  assert all(a.seed != b.seed for a, b in zip(one, other, strict=True))
  assert plan_class_samples({"YoYo": 1}, TEXTS)[0].seed == 1740273840, "a released seed has changed"


def test_classes_without_a_prompt():
  with pytest.raises(ValueError, match=r"1 classes \(Archery\) of the histogram have no prompt"):
    plan_class_samples({**HISTOGRAM, "Archery": 3}, TEXTS)
  with pytest.raises(ValueError, match="no classes to plan samples of; for one of TFDS"):
    plan_class_samples({}, TEXTS)


def test_one_caption_for_each_video_is_the_drawn_one():
  planned = plan_caption_samples(VIDEOS, seed=3)
  drawn = draw_captions(VIDEOS, 3)
  assert [p.sample_id for p in planned] == [f"{item.id}_0" for item in VIDEOS]
  assert {p.video_id: p.sen_id for p in planned} == drawn
  for p in planned:
    number, rest = divmod(p.sen_id - int(p.video_id[5:]), 1000)
    assert (p.prompt, rest) == (f"text {number} of {p.video_id[5:]}", 0)


def test_fewer_and_more_samples_than_videos():
  every = {n: plan_caption_samples(VIDEOS, n, seed=1) for n in (10, 49, 50, 60, 200)}
  for few, many in ((10, 49), (49, 50), (50, 60), (60, 200)):
    assert set(every[few]) < set(every[many])
  chosen = [int(p.video_id[5:]) - 7010 for p in every[10]]
  assert chosen == sorted(chosen)
  assert np.ptp(chosen) > 20, "not the first ten"
  assert [p.sample_id for p in every[10]] != [
    p.sample_id for p in plan_caption_samples(VIDEOS, 10, seed=2)
  ]
  assert len({p.sen_id for p in every[200]}) == 200, "no caption twice"
  assert [p.sample_id for p in every[200][:5]] == [
    *(f"video7010_{i}" for i in range(4)),
    "video7011_0",
  ]
  with pytest.raises(ValueError, match="201 samples of 200 captions: each is used at most once"):
    plan_caption_samples(VIDEOS, 201)


def test_all_captions_by_their_number():
  planned = plan_caption_samples(VIDEOS, captions="all")
  assert len(planned) == 200
  assert planned[5] == Prompt(
    "video7011_1", "text 1 of 7011", None, "video7011", 8011, planned[5].seed
  )
  first = plan_caption_samples(VIDEOS, 51, captions="all")
  assert [p.sample_id for p in first[:3]] == ["video7010_0", "video7010_1", "video7011_0"]
  assert set(first) < set(planned)
  assert sorted(p.sen_id for p in first) == [*range(7010, 7060), 8010]


def test_videos_without_captions():
  with pytest.raises(ValueError, match=r"1 videos \(video2\) of 2 without a caption"):
    plan_caption_samples([video(1), video(2, 0)])
  with pytest.raises(ValueError, match=r"of 0 without a caption"):
    plan_caption_samples([])
  with pytest.raises(ValueError, match="captions='both', choose from one, all"):
    plan_caption_samples(VIDEOS, captions="both")


@pytest.fixture
def stored(tmp_path):
  planned = [*plan_class_samples(HISTOGRAM, TEXTS, 5), *plan_caption_samples(VIDEOS, 5)]
  sample_plan.write_prompts(tmp_path / "prompts.json", planned)
  return tmp_path / "prompts.json", planned


def test_a_plan_is_stored_whole(stored):
  path, planned = stored
  assert sample_plan.read_prompts(path) == planned
  sample_plan.check_prompts(path, sample_plan.read_prompts(path), planned)


def test_a_stored_plan_that_does_not_fit_says_how(stored):
  path, planned = stored
  with pytest.raises(
    ValueError, match=r"prompts.json plans 10 samples, this evaluation 9: it is o"
  ):
    sample_plan.check_prompts(path, planned, planned[:9])
  other = [*plan_class_samples(HISTOGRAM, TEXTS, 5), *plan_caption_samples(VIDEOS, 5, seed=1)]
  with pytest.raises(ValueError, match=r"has for video70\d\d_0 sample_id 'video70.*' and not 'vid"):
    sample_plan.check_prompts(path, planned, other)
  texts = prompts.class_prompts("split", list(HISTOGRAM))
  other = [*plan_class_samples(HISTOGRAM, texts, 5), *planned[5:]]
  message = "for PlayingPiano_0000 prompt 'PlayingPiano' and not 'playing piano': it is of another"
  with pytest.raises(ValueError, match=message):
    sample_plan.check_prompts(path, planned, other)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (lambda c: c.update(format="other"), "is no list of prompts: its 'format' is not 'vidjax p"),
    (lambda c: c["prompts"].pop(), "'count' is not the number of its 'prompts'"),
    (lambda c: c["prompts"][3].pop("seed"), r"prompts\[3\] has not the fields sample_id, prompt, "),
    (lambda c: c["prompts"][3].update(seed="1"), r"prompts\[3\]: seed is '1'"),
    (lambda c: c["prompts"][3].update(seed=-1), r"prompts\[3\]: an empty sample_id, or a seed"),
    (lambda c: c["prompts"][3].update(sen_id=True), r"prompts\[3\]: sen_id is True"),
    (lambda c: c["prompts"][3].update(sample_id="../a"), r"prompts\[3\] names the file '../a'"),
    (lambda c: c["prompts"][3].update(c["prompts"][1]), r"prompts\[3\]: Table.* is in it twice"),
  ],
)
def test_a_damaged_plan_is_refused(stored, change, message):
  path, _ = stored
  content = json.loads(path.read_text())
  change(content)
  path.write_text(json.dumps(content))
  with pytest.raises(errors.DataError, match=rf"prompts\.json.*{message}"):
    sample_plan.read_prompts(path)


def test_a_plan_that_is_no_json(tmp_path):
  (tmp_path / "prompts.json").write_text("{")
  with pytest.raises(errors.DataError, match=r"prompts\.json is not valid JSON"):
    sample_plan.read_prompts(tmp_path / "prompts.json")
