"""What an evaluation leaves: `report.md`, then `result.json`, the sign that all is there."""

from typing import Any

from vidjax import redaction, storage
from vidjax.metrics import results
from vidjax.observe import run_info


def content(result: results.Result) -> dict[str, Any]:
  """What `result.json` holds."""
  return redaction.redact_values(result.to_json(run_info.code_version()))


def write(out: storage.PathLike, result: results.Result) -> str:
  """Writes both files and returns the report."""
  written = content(result)
  report = results.report(written)
  storage.write_text(storage.Path(out) / "report.md", report)
  storage.write_json(storage.Path(out) / "result.json", written)
  return report
