import re

import pytest

from vidjax import errors
from vidjax.evaluation import prompts
from vidjax.evaluation.datasets import ucf101

CLASSES = ("Archery", "TaiChi", "YoYo")


@pytest.fixture(scope="module")
def official(shared_data):
  """The 101 classes as the data set's own index writes them."""
  lines = (shared_data / "ucf101" / "classInd.txt").read_text().splitlines()
  return tuple(line.split()[1] for line in lines if line.strip())


def test_our_classes_are_the_official_ones_in_their_order(official):
  assert official == ucf101.CLASSES
  assert len(official) == 101


def test_raw_names(official):
  assert prompts.class_prompts("classname", official) == {label: label for label in official}


def test_words_of_all_names(official):
  found = prompts.class_prompts("split", official)
  assert {
    label: found[label]
    for label in ("ApplyEyeMakeup", "TaiChi", "YoYo", "HandstandPushups", "CleanAndJerk", "Typing")
  } == {
    "ApplyEyeMakeup": "apply eye makeup",
    "TaiChi": "tai chi",
    "YoYo": "yo yo",
    "HandstandPushups": "handstand pushups",
    "CleanAndJerk": "clean and jerk",
    "Typing": "typing",
  }
  for label, text in found.items():
    assert text.replace(" ", "") == label.lower(), "no letter is lost"
    assert text.count(" ") == sum(letter.isupper() for letter in label) - 1
  assert len(set(found.values())) == 101
  assert prompts.split_words("UCFClass12") == "ucf class 12"


def test_our_sentences_are_one_for_each_class(official):
  found = prompts.class_prompts("sentence", official)
  assert list(found) == list(official)
  assert len(set(found.values())) == 101
  for text in found.values():
    assert re.fullmatch(r"[A-Z][A-Za-z,' -]+\.", text), text


def test_sentences_of_a_file(tmp_path):
  file = tmp_path / "mine.tsv"
  file.write_text("\ufeffyoyo\tA yo-yo\tgoes up. \r\n\nTaiChi\tSlow.\nArchery\tA bow.\n")
  assert list(prompts.class_prompts("sentence", CLASSES, str(file)).items()) == [
    ("Archery", "A bow."),
    ("TaiChi", "Slow."),
    ("YoYo", "A yo-yo\tgoes up."),
  ]


@pytest.mark.parametrize(
  ("content", "message"),
  [
    (
      b"TaiChi\tSlow.\nBowling\tA ball.",
      "for Archery, YoYo; not a class of the data set: Bowling$",
    ),
    (b"TaiChi\tS\nYoYo\tU\nArchery\tA\nX\tx", "for no class; not a class of the data set: X$"),
    (b"TaiChi\tSlow.\ntaichi\tAgain.", "2: TaiChi has two sentences"),
    (b"TaiChi Slow.", "1: 'TaiChi Slow.' is not 'class<TAB>sentence'"),
    (b"TaiChi\t  ", "1: 'TaiChi\\\\t  ' is not 'class<TAB>sentence'"),
    (b"\xff", "cannot be read: .*utf-8"),
  ],
)
def test_sentences_that_do_not_fit(tmp_path, content, message):
  (tmp_path / "mine.tsv").write_bytes(content)
  with pytest.raises(errors.DataError, match=rf"mine\.tsv.*{message}"):
    prompts.class_prompts("sentence", CLASSES, str(tmp_path / "mine.tsv"))


def test_our_sentences_do_not_know_other_data_sets():
  with pytest.raises(errors.DataError, match=r"our sentences .* no sentence for Cats; not a class"):
    prompts.class_prompts("sentence", ("Archery", "Cats"))


def test_unknown_sets():
  with pytest.raises(ValueError, match="'pyoco' is not known: choose from classname, split, sent"):
    prompts.class_prompts("pyoco", CLASSES)
  with pytest.raises(ValueError, match=r"'split' is made of the names alone: a\.tsv is not used"):
    prompts.class_prompts("split", CLASSES, "a.tsv")


def test_scaling_keeps_the_total_and_the_shape():
  histogram = {"c": 140, "a": 105, "b": 100}
  assert prompts.scaled(histogram, 345) == histogram
  assert prompts.scaled(histogram, 690) == {"a": 210, "b": 200, "c": 280}
  assert prompts.scaled(histogram, 0) == {"a": 0, "b": 0, "c": 0}
  for count in range(0, 400, 7):
    found = prompts.scaled(histogram, count)
    assert sum(found.values()) == count
    assert all(abs(found[k] - count * n / 345) < 1 for k, n in histogram.items())
  # Quotas 2.4, 2.4, 1.2: the first two have the largest remainder, and the first by name wins.
  assert prompts.scaled({"b": 2, "a": 2, "c": 1}, 6) == {"a": 3, "b": 2, "c": 1}
  for bad in ({}, {"a": 0}, {"a": -1, "b": 2}):
    with pytest.raises(ValueError, match="cannot be divided"):
      prompts.scaled(bad, 3)
