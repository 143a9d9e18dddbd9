"""Which curves there are, and that thinning them loses no peak."""

import random

import pytest
import run_folders

from vidjax.diffusion.loss import NUM_BINS
from vidjax.reporting import curves, run


@pytest.mark.parametrize("count", [1, 599, 600, 601, 5000])
@pytest.mark.parametrize("seed", range(3))
def test_thinned_points_are_points_with_all_extremes(count, seed):
  rng = random.Random(seed)
  points = [
    (step, None if rng.random() < 0.05 else rng.lognormvariate(0, 2)) for step in range(count)
  ]
  kept = curves.thinned(points, 600)
  assert len(kept) <= 600
  assert set(kept) <= set(points)
  assert kept == sorted(kept, key=lambda point: point[0])
  assert (kept[0], kept[-1]) == (points[0], points[-1])
  finite = [value for _, value in points if value is not None]
  if finite:
    shown = [value for _, value in kept if value is not None]
    assert (min(shown), max(shown)) == (min(finite), max(finite))


def test_a_thousand_equal_peaks_stay_where_they_are():
  """Each stretch keeps its own, not only the greatest of all."""
  points = [(step, 10.0 if step % 100 == 50 else 1.0) for step in range(10_000)]
  kept = curves.thinned(points, 600)
  assert {point for point in points if point[1] == 10.0} <= set(kept)


def titles(root) -> dict[str, list[str]]:
  found: dict[str, list[str]] = {}
  for chart in curves.of(run.read(root)):
    found.setdefault(chart.group, []).append(chart.title)
  return found


def test_charts_of_a_run(tmp_path):
  root = run_folders.usual(tmp_path)
  rows = [run_folders.row(step, kl=0.1 * step, reconstruction=0.5) for step in range(1, 41)]
  run_folders.lines(root / "metrics.jsonl", rows)
  assert titles(root) == {
    "Learning": ["Loss", "Loss by noise level", "Learning rate"],
    "Speed": [
      *("Throughput", "Time of a step", "Wait for data", "Model FLOPs utilization"),
      "Speed of a device",
    ],
    "Norms": ["Gradient norm", "Gradient norm by block"],
    "Trouble": ["Skipped steps by cause", "Damaged checkpoints", "Rejected clips"],
    "Other numbers": ["kl", "reconstruction"],
  }


def test_every_bin_of_noise_has_a_name():
  names = curves.sigma_bins()
  assert len(names) == len(set(names)) == NUM_BINS
  assert names[0] == "below 0.05"
  assert names[-1] == "above 7.4"


def test_samples_follow_the_rows_also_where_the_batch_changed(tmp_path):
  root = run_folders.usual(tmp_path)
  rows = [run_folders.row(10, samples=40), run_folders.row(20, samples=240)]
  run_folders.lines(root / "metrics.jsonl", rows)
  at = curves.samples_at(run.read(root))
  assert [at(step) for step in (0, 5, 10, 15, 20)] == [0, 20, 40, 140, 240]


def test_blocks_are_in_the_order_of_their_numbers(tmp_path):
  root = run_folders.usual(tmp_path)
  norms = {f"grad_norm/up_blocks.{number}": 1.0 + number for number in (10, 9, 1, 0)}
  run_folders.lines(root / "metrics.jsonl", [run_folders.row(step, **norms) for step in (1, 2)])
  (chart,) = (c for c in curves.of(run.read(root)) if c.title == "Gradient norm by block")
  assert [one.name for one in chart.series] == [
    *("conv_in", "mid_block", "up_blocks.0", "up_blocks.1", "up_blocks.9", "up_blocks.10")
  ]
