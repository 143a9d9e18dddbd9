"""How well shot boundaries are found in edited videos whose boundaries are known.

  python -m benchmarks.cut_accuracy [--videos=120] [--shots=25] [--peers]
  python -m benchmarks.cut_accuracy --samples=DIR [--peers]

The videos are made up from seeds (`tests/edited_videos.py`): every second boundary is a cut, the
others are dissolves and fades, and shots are full of flashes, lamps, strobes, whip pans, titles and
things that pass the lens. A hard cut counts as found within two frames; a gradual change where a
boundary lies within its span. What is reported anywhere else is false. With --peers, the detectors
of PySceneDetect, which is among the packages of the tests, see the same files.

--samples is a folder of real videos with a `MANIFEST.json`: `files`, each with `file`, `cut_frames`
and `transitions` (`type`: dissolve, fade_to_black or fade_from_black; `start`, `end`).
"""

import collections
from collections.abc import Callable, Sequence
import concurrent.futures
import dataclasses
import json
import os
import pathlib
import sys
import tempfile
from typing import Any

from absl import app, flags

from data_pipelines import config, cut, signals

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests"))

_VIDEOS = flags.DEFINE_integer("videos", 120, "How many are made.")
_SHOTS = flags.DEFINE_integer("shots", 25, "In each of them.")
_FIRST = flags.DEFINE_integer("first_seed", 0, "Of the first video.")
_SAMPLES = flags.DEFINE_string("samples", None, "Folder of labelled videos, instead of made ones.")
_PEERS = flags.DEFINE_bool("peers", False, "Also PySceneDetect's detectors.")

TOLERANCE = 2  # frames


@dataclasses.dataclass
class Score:
  """Counts over any number of videos.

  Attributes:
    cuts: hard cuts that there are.
    cuts_found: of them, within the tolerance.
    cuts_false: reported where there is nothing.
    gradual: dissolves and fades that there are, by kind.
    gradual_found: of them, those with a boundary within their span.
    gradual_false: gradual changes reported where there is nothing.
  """

  cuts: int = 0
  cuts_found: int = 0
  cuts_false: int = 0
  gradual: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
  gradual_found: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
  gradual_false: int = 0

  def __iadd__(self, other: "Score") -> "Score":
    for field in dataclasses.fields(self):
      setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))
    return self

  @property
  def f1(self) -> float:
    """Of hard cuts."""
    return 2 * self.cuts_found / max(self.cuts + self.cuts_found + self.cuts_false, 1)

  @property
  def recall(self) -> float:
    """Share of the gradual changes that are bounded."""
    return self.gradual_found.total() / max(self.gradual.total(), 1)


def score(found: Sequence[tuple[int, str]], truth: Sequence) -> Score:
  """Compares boundaries (frame, kind) with `edited_videos.Boundary`s."""
  result, left = Score(), dict(enumerate(found))
  for boundary in truth:
    within = [
      number
      for number, (frame, _) in left.items()
      if boundary.first - TOLERANCE <= frame <= boundary.last + TOLERANCE
    ]
    if boundary.kind == "hard":
      result.cuts += 1
      result.cuts_found += bool(within)
      within = within[:1]  # a second one is false
    else:
      result.gradual[boundary.kind] += 1
      result.gradual_found[boundary.kind] += bool(within)
    for number in within:
      del left[number]
  for _, kind in left.values():
    if kind == "hard":
      result.cuts_false += 1
    else:
      result.gradual_false += 1
  return result


def ours(path: str) -> list[tuple[int, str]]:
  """Boundaries by `data_pipelines.cut` with its defaults."""
  shots = cut.find_shots(signals.read_signals(path), config.CutConfig(max_seconds=1e6))
  return [(shot.start, shot.start_boundary) for shot in shots[1:]]


def _peer(name: str) -> Callable[[str], list[tuple[int, str]]]:
  def detect(path: str) -> list[tuple[int, str]]:
    import scenedetect

    found = scenedetect.detect(path, getattr(scenedetect, name)())
    return [(start.frame_num, "hard") for start, _ in found[1:]]

  return detect


def methods(peers: bool) -> dict[str, Callable[[str], list[tuple[int, str]]]]:
  """Functions from a file to its boundaries, by name."""
  found = {"vidjax": ours}
  if peers:
    found |= {name: _peer(name) for name in ("ContentDetector", "AdaptiveDetector")}
  return found


def labelled(label: dict[str, Any]) -> list[Any]:
  """The boundaries of an entry of `MANIFEST.json`."""
  import edited_videos

  truth = [edited_videos.Boundary("hard", frame, frame) for frame in label["cut_frames"]]
  truth += [
    edited_videos.Boundary(t["type"].split("_")[0], t["start"], t["end"])
    for t in label["transitions"]
    if t["start"] > 0  # a fade at the file's start bounds nothing
  ]
  return truth


def _sample(path: str, label: dict[str, Any], peers: bool) -> dict[str, Score]:
  truth = labelled(label)
  return {name: score(method(path), truth) for name, method in methods(peers).items()}


def _one(seed: int, shots: int, peers: bool) -> dict[str, Score]:
  import edited_videos

  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / "edited.mp4"
    edited = edited_videos.write(path, seed, shots)
    return {
      name: score(method(str(path)), edited.boundaries) for name, method in methods(peers).items()
    }


def main(_: list[str]) -> None:
  totals: dict[str, Score] = {}
  with concurrent.futures.ProcessPoolExecutor(os.cpu_count()) as pool:
    if _SAMPLES.value:
      root = pathlib.Path(_SAMPLES.value)
      files = json.loads((root / "MANIFEST.json").read_text())["files"]
      tasks = [
        pool.submit(_sample, str(root / label["file"]), label, _PEERS.value)
        for label in files
        if label.get("cut_frames") is not None
      ]
    else:
      tasks = [
        pool.submit(_one, _FIRST.value + number, _SHOTS.value, _PEERS.value)
        for number in range(_VIDEOS.value)
      ]
    for task in tasks:
      for name, part in task.result().items():
        totals.setdefault(name, Score()).__iadd__(part)
  print("| | cuts | found | false | F1 | gradual | bounded | dissolves | fades | false |")
  print("|---|---|---|---|---|---|---|---|---|---|")
  for name, s in totals.items():
    kinds = [f"{s.gradual_found[k]}/{s.gradual[k]}" for k in ("dissolve", "fade")]
    cells = (
      s.cuts,
      s.cuts_found,
      s.cuts_false,
      f"{s.f1:.3f}",
      s.gradual.total(),
      f"{s.recall:.3f}",
    )
    print(f"| {name} | {' | '.join(map(str, (*cells, *kinds, s.gradual_false)))} |")


if __name__ == "__main__":
  app.run(main)
