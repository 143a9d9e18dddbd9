"""What TensorBoard shows of a run beside its numbers: its config, data, start, clips and goodput.

Written by the first process: texts once in each attempt, a picture when clips are made, goodput
when an attempt begins and ends. None of it is done by the step. Texts stand at the number of the
attempt, all else at the step.
"""

from collections.abc import Sequence
from types import TracebackType

from absl import logging
import numpy as np

from vidjax import config as configs
from vidjax import goodput, redaction, storage
from vidjax.observe.goodput import Ledger
from vidjax.observe.writers import Discarded, MetricsWriter
from vidjax.reporting import data_mix, settings


class Dashboard:
  """Adds to the events of one attempt; a context manager inside that of the writer.

  Args:
    writer: of the metrics; one that discards them writes nothing of this, either.
    config: of the run.
    root: workdir.
    ledger: of the run's time.
  """

  def __init__(
    self,
    writer: MetricsWriter | Discarded,
    config: configs.TrainConfig,
    root: storage.Path,
    ledger: Ledger,
  ):
    self._writer = writer if isinstance(writer, MetricsWriter) else None
    self._config, self._root, self._ledger = config, root, ledger

  def __enter__(self) -> "Dashboard":
    if self._writer is not None:
      values = configs.to_dict(self._config)
      changed = settings.differences([settings.defaults(), values])
      rows = [(row.key, *row.values) for row in changed]
      self._writer.text("config/changed", _table(("key", "default", "this run"), rows))
      self._writer.text("config/all", _table(("key", "value"), list(settings.flat(values).items())))
      mix = data_mix.describe(values, 0)
      sets = [(one.name, one.kind, one.split, one.group, f"{one.share:.1%}") for one in mix.sets]
      header = ("set", "kind", "split", "of the", "share")
      form = _table(("samples", ""), list(mix.form.items()))
      self._writer.text("data", f"{_table(header, sets)}\n\n{form}")
      self._goodput()
    return self

  def __exit__(
    self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
  ) -> None:
    if self._writer is not None:
      self._goodput()

  def started_from(self, source: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Shows which weights the run started from.

    Args:
      source: where they were.
      header, rows: `checkpoint.WarmStart.table`.
    """
    if self._writer is not None:
      self._writer.text("start", f"From {_code(source)}\n\n{_table(header, rows)}")

  def sampled(self, step: int, sheet_HWC: np.ndarray) -> None:
    """Shows clips that were made after `step` updates, (H, W, 3) uint8."""
    if self._writer is not None:
      self._writer.image("clips", sheet_HWC, step)  # "samples" is a number

  def _goodput(self) -> None:
    """Writes where the time of all attempts went so far; what fails here is only a figure."""
    assert self._writer is not None
    try:
      self._ledger.publish()
      report = goodput.read(self._root)
    except (OSError, ValueError) as error:
      logging.warning("no goodput in TensorBoard: %s", error)
      return
    step = max((attempt.last_step or 0 for attempt in report.attempts), default=0)
    numbers = {f"goodput/seconds/{name}": s for name, s in report.seconds.items()}
    numbers |= {"goodput/share": report.goodput, "goodput/attempts": len(report.attempts)}
    self._writer.scalars(step, numbers)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """As markdown."""
  lines = [header, ["---"] * len(header), *([_code(cell) for cell in row] for row in rows)]
  return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _code(text: str) -> str:
  """A text that is shown as it is; without secrets."""
  plain = redaction.redact(text).replace("`", "'").replace("|", "\\|").replace("\n", " ")
  return f"`{plain}`" if plain.strip() else ""
