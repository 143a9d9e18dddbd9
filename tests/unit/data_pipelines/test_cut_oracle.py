"""Cuts beside those of PySceneDetect, which knows nothing of ours: none that it sees escapes."""

import json

import edited_videos
import pytest

from benchmarks import cut_accuracy

pytest.importorskip("scenedetect", reason="PySceneDetect is not installed (requirements/dev.lock)")

PEERS = ("ContentDetector", "AdaptiveDetector")


def compared(path, truth):
  """What each method reports, and how that is scored."""
  found = {name: method(str(path)) for name, method in cut_accuracy.methods(peers=True).items()}
  return found, {name: cut_accuracy.score(one, truth) for name, one in found.items()}


def seen(found, truth, kinds=("hard",)):
  """The true hard cuts that are among the boundaries found."""
  frames = [frame for frame, kind in found if kind in kinds]
  return {
    boundary.first
    for boundary in truth
    if boundary.kind == "hard"
    and any(abs(frame - boundary.first) <= cut_accuracy.TOLERANCE for frame in frames)
  }


def totals(scores):
  """The scores of several videos, added up by method."""
  added = {name: cut_accuracy.Score() for name in scores[0]}
  for one in scores:
    for name, score in one.items():
      added[name] += score
  return added


@pytest.mark.slow
def test_no_plain_cut_escapes_that_another_detector_sees(tmp_path):
  """Hard cuts alone, between shots that move, are dark, flat or grainy, but set no traps."""
  scores = []
  for seed in range(4):
    path = tmp_path / f"{seed}.mp4"
    truth = edited_videos.write(path, seed, 25, kinds=("hard",), traps=("",)).boundaries
    found, scored = compared(path, truth)
    for peer in PEERS:
      assert seen(found[peer], truth) <= seen(found["vidjax"], truth), (seed, peer)
      assert scored["vidjax"].f1 >= scored[peer].f1, (seed, peer)
    scores.append(scored)
  ours = totals(scores)["vidjax"]
  assert (ours.cuts, ours.cuts_found, ours.cuts_false) == (96, 96, 0)
  assert ours.gradual_false <= 2  # a thing that comes close looks like a dissolve


@pytest.mark.slow
def test_traps_mislead_others_more(tmp_path):
  """Flashes, lamps, strobes, whip pans, titles, things that pass: whatever is reported counts."""
  scores = []
  for seed in range(4):
    path = tmp_path / f"{seed}.mp4"
    truth = edited_videos.write(path, seed, 25, kinds=("hard",)).boundaries
    found, _ = compared(path, truth)
    scores.append(
      {
        name: cut_accuracy.score([(frame, "hard") for frame, _ in one], truth)
        for name, one in found.items()
      }
    )
  added = totals(scores)
  for peer in PEERS:
    assert added["vidjax"].f1 > added[peer].f1 + 0.05, added
    assert added["vidjax"].cuts_found >= added[peer].cuts_found - 1, added


@pytest.mark.slow
def test_on_real_videos_no_labelled_cut_escapes(shared_data):
  files = json.loads((shared_data / "MANIFEST.json").read_text())["files"]
  scores = []
  for label in files:
    if label.get("cut_frames") is None:
      continue
    truth = cut_accuracy.labelled(label)
    found, scored = compared(shared_data / label["file"], truth)
    for peer in PEERS:
      assert seen(found[peer], truth) <= seen(found["vidjax"], truth), (label["file"], peer)
      assert scored["vidjax"].f1 >= scored[peer].f1, (label["file"], peer)
    scores.append(scored)
  assert len(scores) == 24
  added = totals(scores)
  assert added["vidjax"].cuts_found == added["vidjax"].cuts == 16
  assert all(added["vidjax"].f1 > added[peer].f1 for peer in PEERS), added
