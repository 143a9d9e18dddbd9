"""The page of made-up rows: verdicts, what contradicts, what is missing, and small files."""

import json

import numpy as np
import pytest

from benchmarks.studies import ledger as ledgers
from benchmarks.studies import plan as plans
from benchmarks.studies import report, run
from benchmarks.studies import units as pieces

SHOWN = ["image_first", "curation", "motion_bucket", "guidance"]


def result(plan, unit: pieces.Unit, rng: np.random.Generator, sign: float) -> dict:
  """Numbers in which the first arm is better for sign 1, and motion rises with what is asked."""
  if unit.kind == "train":
    return {"steps": 7, "flops": 7e9, "step_flops": 10**9, "curve": [[1, 0.9], [7, 0.4]]}
  if unit.kind == "reference":
    names = ("real_rank_correlation", "reconstructed_rank_correlation", "reconstructed_psnr")
    return dict.fromkeys(names, 0.9)
  if unit.kind == "make":
    return {}
  study = plan.studies[unit.study]
  place = list(study.requests).index(unit.arm)
  value = 1.0 + sign * (place + 0.1 * rng.normal())
  if study.kind == "training":
    by_sigma = [value] * len(study.evaluation.sigmas)
    return {"heldout_loss": value, "loss_by_sigma": by_sigma, "frechet_distance": rng.normal()}
  names = [measure.name for measure in study.measures]
  return {
    **dict.fromkeys(names, value),
    "clips": {name: [value, value + 5] for name in names},
    "frames": {name: [value] * 8 for name in names},
  }


@pytest.fixture(scope="module")
def plan():
  return plans.load()


def filled(plan, out, sign: float) -> ledgers.Ledger:
  ledger, rng = ledgers.Ledger(out), np.random.default_rng(0)
  for unit in pieces.units(plan, ["image_first", "motion_bucket", "guidance"]):
    ledger.append(
      {
        "unit": unit.name,
        "hash": unit.digest,
        "state": "done",
        "cpu_seconds": 1.0,
        "ended": "2026-01-02T00:00:00+00:00",
        "result": result(plan, unit, rng, sign),
        **unit.notes,
      }
    )
  return ledger


def test_a_page_says_what_supports_what_contradicts_and_what_is_missing(plan, tmp_path):
  ledger = filled(plan, tmp_path / "out", sign=1.0)
  left_out = {"image_first_real": "path/to/videos"}
  path = report.write(plan, SHOWN, left_out, ledger, str(tmp_path / "results"))
  page = path.read_text()
  assert "| **image_first**: supports |" in page
  assert "| **motion_bucket**: supports |" in page
  assert "| curation | | | | | | not measured yet |" in page
  assert "| image_first_real | | | | | | left out: no folder videos |" in page
  assert "path/to" not in page
  # Of guidance, distance and saturation rise from arm to arm: linear is the first, and best.
  assert "| **guidance**: supports |" in page
  assert "first_frame_psnr: linear against mean, dB: this contradicts the paper" in page
  assert "| all, what is shared once |" in page


def test_the_other_way_round_is_said_as_such(plan, tmp_path):
  ledger = filled(plan, tmp_path / "out", sign=-1.0)
  page = report.write(plan, SHOWN, {}, ledger, str(tmp_path / "results")).read_text()
  assert "| **image_first**: contradicts |" in page
  assert "| **motion_bucket**: contradicts |" in page
  claim = plan.studies["image_first"].claim
  assert f"this contradicts the paper at this scale ({claim})" in page


def test_rows_of_another_plan_are_in_no_table(plan, tmp_path):
  ledger = filled(plan, tmp_path / "out", sign=1.0)
  row = next(row for row in ledger.rows if row["unit"] == "score/guidance/high/2")
  row["hash"] = "0" * 16
  page = report.write(plan, SHOWN, {}, ledger, str(tmp_path / "results")).read_text()
  assert "| guidance | | | | | | not measured yet |" in page
  assert "| **image_first**: supports |" in page


def test_figures_are_small_and_complete(plan, tmp_path):
  ledger = filled(plan, tmp_path / "out", sign=1.0)
  report.write(plan, SHOWN, {}, ledger, str(tmp_path / "results"))
  folder = tmp_path / "results" / "studies"
  names = sorted(path.name for path in folder.iterdir())
  assert names == [
    f"{study}.{kind}"
    for study in ("guidance", "image_first", "motion_bucket")
    for kind in ("json", "svg")
  ]
  for path in folder.iterdir():
    assert path.stat().st_size < 30_000, path.name
  curves = json.loads((folder / "image_first.json").read_text())
  assert curves["plan"] == plans.digest(plan.describe_study("image_first"))
  assert set(curves["arms"]) == {"image_first", "from_scratch"}
  assert curves["arms"]["image_first"]["0"]["training"]["image"] == [[1, 0.9]]
  assert (folder / "guidance.svg").read_text().startswith("<svg ")


def test_report_needs_no_training(tmp_path):
  flags = ["--report", f"--out={tmp_path / 'none'}", f"--results={tmp_path / 'results'}"]
  assert run.main([*flags, "--study=fps"]) == 0
  assert "| fps | | | | | | not measured yet |" in (tmp_path / "results" / "studies.md").read_text()
