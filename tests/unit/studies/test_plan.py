"""The plan of the studies: complete, affordable, and hashed as it says."""

import dataclasses

import pytest

from benchmarks.studies import plan as plans
from benchmarks.studies import plan_checks, units

NAMED = (
  *("image_first", "curation", "lowres_first"),
  *("motion_bucket", "fps", "guidance", "noise_aug"),
)


@pytest.fixture(scope="module")
def plan():
  return plans.load()


def changed(text: str, old: str, new: str, tmp_path):
  assert text.count(old) >= 1, old
  path = tmp_path / "plan.toml"
  path.write_text(text.replace(old, new, 1))
  return path


@pytest.fixture(scope="module")
def text():
  return (plans.FILE).read_text()


def test_it_fits_together(plan):
  plan_checks.check(plan, "plan.toml")


def test_all_studies_are_there_with_all_that_is_asked_of_them(plan):
  assert set(NAMED) <= set(plan.studies)
  for name, study in plan.studies.items():
    assert len(study.seeds) >= 3, name
    for field in ("question", "claim", "source", "metric", "why"):
      assert len(getattr(study, field)) > 10, f"{name}.{field}"
    assert any(measure.primary for measure in study.measures), name
    assert study.evaluation.windows >= 16, name
    assert study.evaluation.split == "holdout", name
    if study.kind == "training" and study.evaluation.steps:
      assert study.evaluation.windows >= 64, f"{name}: a Fréchet distance of fewer clips"


def test_pairs_share_seeds_and_the_request_studies_share_models(plan):
  models = {of.model for of in plan.studies.values() if of.kind == "requests"}
  assert len(models) == 1
  seeds = {of.seeds for of in plan.studies.values() if of.kind == "requests"}
  assert len(seeds) == 1


def test_the_plan_fits_its_budget_with_a_margin(plan):
  assert plan.cpu_seconds <= 4 * 3600
  expected = units.expected(plan, list(plan.studies))
  assert 0 < expected <= 3.5 * 3600
  for name in plan.studies:
    assert 0 < units.expected(plan, [name]) < expected, name


def test_every_unit_has_a_cost_and_a_name_of_its_own(plan):
  due = units.units(plan, list(plan.studies))
  assert len({unit.name for unit in due}) == len(due)
  assert all(unit.cpu_seconds > 0 for unit in due)


def test_units_come_after_what_they_need(plan):
  due = [unit.name for unit in units.units(plan, list(plan.studies))]
  place = {name: i for i, name in enumerate(due)}
  for name, stage in plan.stages.items():
    for seed in (0, 1, 2):
      own = place[units.train_name(name, seed)]
      assert all(place[f"make/{m}"] < own for m in plan.needs_of_stage(name))
      if stage.after:
        assert place[units.train_name(stage.after, seed)] < own
  for name, study in plan.studies.items():
    for arm in study.requests:
      stage = study.stage_of(arm) if study.kind == "training" else study.model
      assert place[units.train_name(study.stage_of(arm), 0)] < place[units.score_name(name, arm, 0)]


def test_arms_of_training_studies_are_trained_once_where_studies_share_them(plan):
  names = [unit.name for unit in units.units(plan, ["image_first", "lowres_first"])]
  assert names.count(units.train_name("video", 0)) == 1


@pytest.mark.parametrize(
  ("old", "new", "message"),
  [
    ("share = 0.3", "share = 0.4", "arms differ in flops"),
    ("seeds = [0, 1, 2, 3, 4]", "seeds = [0, 1]", "at least three different ones"),
    ("seeds = [0, 1, 2, 3, 4]", "seeds = [0, 1, 1]", "at least three different ones"),
    ('data = "uncurated"', 'data = "other"', "'other' is not one of"),
    ('compare = ["curated", "uncurated"]', 'compare = ["curated", "raw"]', "'raw' is not one of"),
    ("windows = 64", "windows = 60", "a multiple of 8"),
    ('better = "lower"', 'better = "rises"', "choose from lower, higher"),
    ('question = "', 'query = "', "unknown config key 'studies.image_first.query'"),
    ("[flops]", "[flop]", "unknown tables flop"),
    ("steps = 800", "steps = 700", "arms differ in steps"),
  ],
)
def test_what_does_not_fit_is_named(text, tmp_path, old, new, message):
  with pytest.raises(ValueError, match=message.replace("[", r"\[")):
    plan_checks.check(plans.load(changed(text, old, new, tmp_path)), "plan.toml")


def digests(path):
  plan = plans.load(path)
  return {name: plans.digest(plan.describe_study(name)) for name in plan.studies}


def test_the_hash_is_of_what_a_study_depends_on_and_of_nothing_else(text, tmp_path, plan):
  before = digests(plans.FILE)
  costs = changed(text, "cpu_seconds = 280.0", "cpu_seconds = 281.0", tmp_path)
  assert digests(costs) == before
  curation = changed(text, "static = 0.25", "static = 0.3", tmp_path)
  after = digests(curation)
  assert {name for name in before if before[name] != after[name]} == {"curation"}
  windows = changed(
    text, 'split = "holdout"\nwindows = 64', 'split = "holdout"\nwindows = 72', tmp_path
  )
  after = digests(windows)
  assert {name for name in before if before[name] != after[name]} == {"image_first"}
  learning = changed(text, "learning_rate=1e-3", "learning_rate=2e-3", tmp_path)
  after = digests(learning)
  assert all(before[name] != after[name] for name in before)


def test_a_stage_changes_the_hash_of_all_that_starts_from_it(plan):
  stages = {**plan.stages, "image": dataclasses.replace(plan.stages["image"], share=0.31)}
  other = dataclasses.replace(plan, stages=stages)
  changed_stages = {
    name
    for name in plan.stages
    if plans.digest(plan.describe_stage(name)) != plans.digest(other.describe_stage(name))
  }
  assert changed_stages == {"image", "video_after_image", "image_to_video"}
