"""The demo page's part about quality: eval.json as bars, a table and plain sentences."""

import dataclasses
from typing import Any

from vidjax import charts, storage

# Key in eval.json, label.
COMPARED = (
  ("real_split", "Real video against real video"),
  ("model", "This model"),
  ("first_frame", "First frame, frozen"),
  ("mean_frame", "Mean training frame"),
  ("untrained", "This model before training"),
)
_NAMES = {
  "mean_frame": "the mean training frame",
  "untrained": "the untrained model",
  "first_frame": "a frozen first frame",
}
_TERMS = ("distance", "appearance", "motion", "frame_difference")


@dataclasses.dataclass(frozen=True)
class Claim:
  """A sentence about the model, and whether it speaks for it."""

  good: bool
  text: str
  own: float
  other: float


def describe(root: storage.Path) -> dict[str, Any] | None:
  """The figures of eval.json; None before the evaluation is done."""
  path = next((p for p in (root / "eval.json", root / "eval" / "result.json") if p.exists()), None)
  if path is None:
    return None
  result = storage.read_json(path)
  metrics = result["metrics"]
  sets = [(key, label) for key, label in COMPARED if f"{key}/distance" in metrics]

  def value(key: str, term: str) -> float:
    return metrics[f"{key}/{term}"]["value"]

  return {
    "result": result,
    "file": str(path.relative_to(root)),
    "chart": charts.bars(
      [
        charts.Bar(
          label,
          (value(key, "appearance"), value(key, "motion")),
          metrics[f"{key}/distance"]["low"],
          metrics[f"{key}/distance"]["high"],
          highlight=key == "model",
        )
        for key, label in sets
      ]
    ),
    "rows": [
      (label, key == "model", [metrics[f"{key}/{term}"] for term in _TERMS]) for key, label in sets
    ],
    "claims": _claims({key: {t: value(key, t) for t in _TERMS} for key, _ in sets}),
  }


def _claims(sets: dict[str, dict[str, float]]) -> list[Claim]:
  if "model" not in sets:
    return []
  claims = []
  for key, term, better, worse in (
    ("mean_frame", "distance", "Closer", "Not closer"),
    ("untrained", "distance", "Closer", "Not closer"),
    ("first_frame", "motion", "Motion closer", "Motion not closer"),
  ):
    if key in sets:
      own, other = sets["model"][term], sets[key][term]
      verdict = better if own < other else worse
      claims.append(Claim(own < other, f"{verdict} to real video than {_NAMES[key]}", own, other))
  return claims
