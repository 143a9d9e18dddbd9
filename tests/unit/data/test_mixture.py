import collections
import dataclasses

import pytest

from vidjax.data import captions, mixture


@pytest.mark.parametrize("weights", [(1.0,), (0.7, 0.3), (5, 3, 2), (0.1, 0.1, 0.1), (1e-6, 1.0)])
def test_every_number_falls_to_one_part_and_each_part_counts_its_own(weights):
  turns = mixture.turns(weights)
  seen = collections.Counter()
  for number in range(5000):
    assert [turns.count(part, number) for part in range(len(weights))] == [
      seen[part] for part in range(len(weights))
    ]
    part, own = turns(number)
    assert own == seen[part]
    seen[part] += 1


@pytest.mark.parametrize("weights", [(0.7, 0.3), (5, 3, 2), (1, 2, 3, 4), (0.5, 0.25, 0.25)])
def test_the_ratio_is_kept_all_the_way(weights):
  turns = mixture.turns(weights)
  for number in (10, 1_000, 12_345, 10**9 + 7):
    for part, weight in enumerate(weights):
      expected = number * weight / sum(weights)
      assert abs(turns.count(part, number) - expected) <= len(weights) / 2


def test_ratios_are_exact_where_they_can_be():
  turns = mixture.turns((0.7, 0.3))
  assert turns.count(0, 10**15) == 7 * 10**14
  assert turns.count(1, 10**15) == 3 * 10**14
  window = [turns(number)[0] for number in range(10_000, 10_010)]
  assert collections.Counter(window) == {0: 7, 1: 3}


@pytest.mark.parametrize("weights", [(), (1.0, 0.0), (1.0, -1.0), (float("nan"),)])
def test_weights_without_meaning_are_refused(weights):
  with pytest.raises(ValueError, match="only positive ones"):
    mixture.turns(weights)


TEXTS = {"coca": "c", "llm": "l", "vblip": "v"}
LVD = {"coca": 0.5, "vblip": 0.25, "llm": 0.25}


def drawn(texts, weights, count=1000):
  names = [captions.draw(texts, weights, i / count) for i in range(count)]
  chosen = collections.Counter(texts[name] for name in names)
  return {text: number / count for text, number in chosen.items()}


def test_captions_are_drawn_by_weight():
  assert drawn(TEXTS, LVD) == pytest.approx({"c": 0.5, "l": 0.25, "v": 0.25}, abs=2e-3)


def test_without_weights_all_are_alike():
  assert drawn(TEXTS, {}) == pytest.approx({"c": 1 / 3, "l": 1 / 3, "v": 1 / 3}, abs=2e-3)


def test_what_a_clip_lacks_goes_to_what_it_has():
  assert drawn({"coca": "c", "llm": "", "vblip": "v"}, LVD) == pytest.approx(
    {"c": 2 / 3, "v": 1 / 3}, abs=2e-3
  )
  assert captions.draw({"other": "o"}, LVD, 0.5) == ""
  assert captions.draw({}, {}, 0.5) == ""


@pytest.mark.parametrize("chance", [0.0, 1 - 2**-53])
def test_the_ends_of_chance_draw_something(chance):
  assert captions.draw(TEXTS, {"coca": 0.1, "llm": 0.2, "vblip": 0.7}, chance) in ("coca", "vblip")


def test_templates_hold_the_caption_and_leave_no_text_alone():
  assert captions.fill("a video of {caption}, high quality", "a cat") == (
    "a video of a cat, high quality"
  )
  assert captions.fill("a video of {caption}", "") == ""
  with pytest.raises(ValueError, match=r"write \{caption\} once"):
    captions.check({}, "a video")
  with pytest.raises(ValueError, match="not negative"):
    captions.check({"a": -1.0}, "{caption}")


@pytest.mark.parametrize("caption", ["a car turns Left", "the right-hand door", "spins clockwise"])
def test_captions_that_tell_left_from_right(caption):
  assert captions.names_sides(caption)


@pytest.mark.parametrize("caption", ["", "bright lights", "a cleft rock", "copyright", "upwards"])
def test_captions_that_do_not(caption):
  assert not captions.names_sides(caption)


def test_turns_are_small_to_send():
  assert dataclasses.asdict(mixture.turns((1, 1)))["shares"] == (mixture.Fraction(1, 2),)
