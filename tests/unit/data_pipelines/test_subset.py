"""Parts of a curated set: thresholds as of a sort, conditions, lists within lists."""

import dataclasses
import json

import numpy as np
from pyarrow import parquet
import pytest

from data_pipelines import config as config_lib
from data_pipelines import select as usable
from data_pipelines import subset, tables
from tests.unit.data_pipelines.test_select import BASE, SELECT
from vidjax import config, errors
from vidjax.data import subset as lists


@pytest.fixture(scope="module")
def table(tmp_path_factory):
  """A thousand clips; a tenth was not kept, a fifth has no aesthetic score."""
  path = tmp_path_factory.mktemp("clips") / "clips.parquet"
  rng = np.random.default_rng(0)
  clips = [
    dataclasses.replace(
      BASE,
      clip_id=f"{number:04x}",
      motion_score=float(rng.gamma(2.0)),
      text_area=float(rng.uniform(0, 0.2)),
      aesthetic=float(rng.normal(5)) if number % 5 else None,
      scores={
        "motion_zoom": float(rng.normal()),
        "motion_shake": number / 3e3,
        **({"odd": 1.0} if number % 2 else {}),
      },
      kept=number % 10 != 0,
    )
    for number in rng.permutation(1000)
  ]
  tables.write_clips(clips, path)
  return path, [clip for clip in clips if clip.kept]


def chosen(path, tmp_path, **settings):
  out = tmp_path / "subset.parquet"
  rules = subset.select([str(path)], out, subset.SubsetConfig(**settings))
  ids = lists.read.__wrapped__(out).astype(str).tolist()
  assert ids == sorted(ids)
  assert rules[-1].remain == len(ids)
  return set(ids), rules


def test_all_kept_clips_are_chosen_by_default(table, tmp_path):
  path, clips = table
  ids, rules = chosen(path, tmp_path)
  assert ids == {clip.clip_id for clip in clips}
  assert rules[0].passes == 900


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_shares_are_those_of_a_sort(table, tmp_path, share):
  path, clips = table
  scores = sorted(clip.motion_score for clip in clips)
  ids, _ = chosen(path, tmp_path, drop_lowest={"motion_score": share})
  assert ids == {c.clip_id for c in clips if c.motion_score >= scores[int(share * len(scores))]}
  ids, _ = chosen(path, tmp_path, drop_highest={"motion_score": share})
  limit = scores[::-1][int(share * len(scores))]
  assert ids == {c.clip_id for c in clips if c.motion_score <= limit}


def test_clips_without_a_score_pass_shares_and_fail_conditions(table, tmp_path):
  path, clips = table
  scores = sorted(c.aesthetic for c in clips if c.aesthetic is not None)
  limit = scores[int(0.25 * len(scores))]
  ids, _ = chosen(path, tmp_path, drop_lowest={"aesthetic": 0.25})
  assert ids == {c.clip_id for c in clips if c.aesthetic is None or c.aesthetic >= limit}
  ids, _ = chosen(path, tmp_path, where="aesthetic > 5")
  assert ids == {c.clip_id for c in clips if c.aesthetic is not None and c.aesthetic > 5}


def test_conditions_know_all_scores_by_name(table, tmp_path):
  path, clips = table
  ids, rules = chosen(
    path,
    tmp_path,
    where="motion_zoom > 0.5 AND width >= 640 AND odd = 1",
    drop_highest={"text_area": 0.25},
  )
  limit = sorted((c.text_area for c in clips), reverse=True)[int(0.25 * len(clips))]
  expected = {c.clip_id for c in clips if c.scores["motion_zoom"] > 0.5 and "odd" in c.scores}
  assert ids == expected - {c.clip_id for c in clips if c.text_area > limit}
  assert rules[1].passes == len(expected)
  assert [rule.remain for rule in rules] == [900, len(expected), len(ids)]
  assert "highest 0.25" in subset.table(rules)


def test_parts_of_one_set_as_the_paper_has_them(table, tmp_path, repo_root):
  path, clips = table
  folder = repo_root / "configs" / "data"
  parts = {}
  for name in ("lvd_f", "high_quality"):
    values = config.load_file(str(folder / f"{name}.py") + (":tiny" * (name == "high_quality")))
    settings = config.from_dict(subset.SubsetConfig, values)
    if parts:
      settings = dataclasses.replace(settings, within=str(tmp_path / "lvd_f.parquet"))
    subset.select([str(path)], tmp_path / f"{name}.parquet", settings)
    parts[name] = set(lists.read(tmp_path / f"{name}.parquet").astype(str))
  assert {c.clip_id for c in clips} > parts["lvd_f"] > parts["high_quality"] > set()
  text = {c.clip_id: c.text_area for c in clips}
  assert max(text[i] for i in parts["lvd_f"]) <= 0.07
  assert max(text[i] for i in parts["high_quality"]) <= 0.01


def test_how_it_was_made_is_in_the_file(table, tmp_path):
  path, _ = table
  out = tmp_path / "x.parquet"
  subset.select([str(path)], out, subset.SubsetConfig(drop_lowest={"motion_score": 0.5}))
  about = json.loads(parquet.read_schema(out).metadata[lists.METADATA_KEY])
  assert about["config"]["drop_lowest"] == {"motion_score": 0.5}
  assert about["rules"][1]["remain"] == 450


def test_several_tables_are_one(table, tmp_path):
  path, _ = table
  more = [dataclasses.replace(BASE, clip_id=f"more{i}", kept=True) for i in range(3)]
  tables.write_clips(more, tmp_path / "more.parquet")
  rules = subset.select(
    [str(path), str(tmp_path / "more.parquet")], tmp_path / "x.parquet", subset.SubsetConfig()
  )
  assert rules[0].passes == 903


@pytest.mark.parametrize(
  ("settings", "error", "message"),
  [
    ({"where": "motion_score >"}, ValueError, "syntax error"),
    ({"where": "motoin_score > 1"}, ValueError, "scores are .*motion_zoom"),
    ({"where": "(SELECT count(*) FROM read_text('/etc/passwd')) > 0"}, ValueError, "disabled"),
    ({"drop_lowest": {"asthetic": 0.5}}, ValueError, "did you mean 'aesthetic'"),
    ({"where": "motion_score > 1e9"}, errors.DataError, "no clip is chosen"),
    ({"within": "absent.parquet"}, errors.DataError, "does not exist"),
  ],
)
def test_bad_settings_are_said_and_nothing_is_written(table, tmp_path, settings, error, message):
  out = tmp_path / "x.parquet"
  with pytest.raises(error, match=message):
    subset.select([str(table[0])], out, subset.SubsetConfig(**settings))
  assert not out.exists()


def test_bad_tables_are_said(tmp_path):
  (tmp_path / "broken.parquet").write_bytes(b"PAR1 not")
  parquet.write_table(subset.pa.table({"x": [1]}), tmp_path / "other.parquet")
  for name, message in [
    ("absent.parquet", "no such table"),
    ("broken.parquet", "cannot be read"),
    ("other.parquet", "no table of `vidjax curate`"),
  ]:
    with pytest.raises(errors.DataError, match=message):
      subset.select([str(tmp_path / name)], tmp_path / "x.parquet", subset.SubsetConfig())
  with pytest.raises(ValueError, match="0 <= share < 1"):
    subset.SubsetConfig(drop_lowest={"x": 1.0})


def test_curation_of_a_list_drops_the_others(table, tmp_path):
  path, clips = table
  out = tmp_path / "subset.parquet"
  subset.select([str(path)], out, subset.SubsetConfig(where="motion_score > 2"))
  some = dataclasses.replace(SELECT, within=str(out))
  assert isinstance(some, config_lib.SelectConfig)
  for clip in clips[:50]:
    expected = () if clip.motion_score > 2 else ("not_selected",)
    assert usable.drop_reasons(clip, some) == expected
