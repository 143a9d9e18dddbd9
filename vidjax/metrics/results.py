"""What an evaluation says: `result.json`, and the same for a person."""

from collections.abc import Mapping
import dataclasses
from typing import Any

from vidjax.metrics import protocols
from vidjax.metrics.intervals import Estimate


@dataclasses.dataclass(frozen=True)
class Result:
  """What result.json holds.

  Attributes:
    protocol: what was done; its name and hash are written.
    n_real: number of real samples.
    n_fake: number of generated samples.
    metrics: by name.
    weights: SHA-256 of each file or model that took part, by name.
    decoder: what decoded the videos; None where none was decoded.
    details: what else is written, by key.
  """

  protocol: protocols.Described
  n_real: int
  n_fake: int
  metrics: Mapping[str, Estimate]
  weights: Mapping[str, str]
  decoder: str | None = None
  details: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def to_json(self, code_version: str) -> dict[str, Any]:
    """The content of result.json."""
    return {
      "protocol": self.protocol.name,
      "protocol_hash": protocols.protocol_hash(self.protocol),
      "n_real": self.n_real,
      "n_fake": self.n_fake,
      "metrics": {name: estimate.to_json() for name, estimate in self.metrics.items()},
      "weights": dict(self.weights),
      "decoder": self.decoder,
      "code_version": code_version,
      **self.details,
    }


def report(content: Mapping[str, Any]) -> str:
  """A result as a text that a person reads."""
  rows = [("metric", "value", "95 % interval", "unit"), ("---", "---:", ":---:", "---")]
  for name, metric in content["metrics"].items():
    span = "–" if metric["low"] is None else f"{metric['low']:.5g} to {metric['high']:.5g}"
    rows.append((name, f"{metric['value']:.6g}", span, metric["unit"]))
  table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
  weights = "".join(f"- {name}: `{digest}`\n" for name, digest in content["weights"].items())
  return (
    f"# Protocol `{content['protocol']}`, hash `{content['protocol_hash']}`\n\n"
    f"{content['n_real']} real and {content['n_fake']} generated samples."
    f" Code {content['code_version']}.\n\n{table}\n\n"
    "Intervals are ±1.96 standard errors of the grouped jackknife; they do not correct for the bias"
    " of the Fréchet distance, which falls with the number of samples.\n"
    + "".join(f"\nWarning: {text}\n" for text in content.get("warnings", ()))
    + (f"\nWeights:\n\n{weights}" if weights else "")
  )
