"""Several results as one table, if they may stand in one.

  vidjax evaluate --table=runs/a/eval,runs/b/eval

Results of different protocol hashes are refused: their numbers measure different things.
"""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

from vidjax import storage
from vidjax.evaluation import protocol as protocols

RESULT = "result.json"


@dataclasses.dataclass(frozen=True)
class Stored:
  """A result that was read.

  Attributes:
    folder: where it is.
    content: of its result.json.
  """

  folder: str
  content: Mapping[str, Any]

  @property
  def incomplete(self) -> str:
    """What is missing of the protocol's real set; "" if nothing is."""
    missing = self.content.get("missing", {}).get("real", 0)
    return f"{missing} real videos missing" if missing else ""


def read(folder: storage.PathLike) -> Stored:
  """Reads the result in a folder.

  Raises:
    ValueError: there is none.
  """
  file = storage.Path(folder) / RESULT
  if not file.exists():
    raise ValueError(f"{folder} has no {RESULT}: is that evaluation done?")
  content = storage.read_json(file)
  if not isinstance(content, dict) or "protocol_hash" not in content:
    raise ValueError(f"{file} is not the result of an evaluation")
  return Stored(str(folder), content)


def check_comparable(results: Sequence[Stored]) -> None:
  """Refuses results of different protocols, or of networks with other weights.

  Raises:
    ValueError: names two of them, and in what they differ.
  """
  first = results[0]
  for other in results[1:]:
    if other.content["protocol_hash"] == first.content["protocol_hash"]:
      if other.content["weights"] != first.content["weights"]:
        raise ValueError(
          f"{first.folder} and {other.folder} were scored by networks of other weights:"
          f" {'; '.join(protocols.differences(first.content['weights'], other.content['weights']))}"
        )
      continue
    names = [r.content["protocol"] for r in (first, other)]
    fields = [r.content.get("protocol_fields", {}) for r in (first, other)]
    found = protocols.differences(*fields) if all(fields) else []
    raise ValueError(
      f"{first.folder} ({names[0]}, {first.content['protocol_hash']}) and {other.folder}"
      f" ({names[1]}, {other.content['protocol_hash']}) are of different protocols and cannot stand"
      " in one table" + (f": {'; '.join(found)}" if found else "")
    )


def render(results: Sequence[Stored]) -> str:
  """A table in markdown, a row for each result.

  Raises:
    ValueError: they are of different protocols, or there are none.
  """
  if not results:
    raise ValueError("a table needs at least one result")
  check_comparable(results)
  names = list(dict.fromkeys(name for r in results for name in r.content["metrics"]))
  rows = [["result", "N", *names], ["---"] + ["---:"] * (len(names) + 1)]
  notes = []
  for result in results:
    mark = ""
    if result.incomplete:
      mark = " †"
      notes.append(f"† {result.folder}: {result.incomplete}")
    cells = [_cell(result.content["metrics"].get(name)) for name in names]
    rows.append([result.folder + mark, str(result.content["n_fake"]), *cells])
  head = results[0].content
  title = f"Protocol `{head['protocol']}`, hash `{head['protocol_hash']}`"
  lines = [f"| {' | '.join(row)} |" for row in rows]
  return "\n".join([title, "", *lines, *(["", *notes] if notes else [])]) + "\n"


def _cell(metric: Mapping[str, Any] | None) -> str:
  if metric is None or metric["value"] is None:
    return "–"
  if metric["low"] is None or metric["high"] is None:
    return f"{metric['value']:.5g}"
  return f"{metric['value']:.5g} ± {(metric['high'] - metric['low']) / 2:.2g}"
