"""What follows when steps are skipped: count them, go back, give up. The step guard's host side.

  skip      The guard, in the compiled step, leaves out a step whose loss or gradient is broken or
            far from usual (`vidjax.optim.guard`).
  go back   More than `guard.max_skips` of them within `guard.window` steps: the run restores the
            newest checkpoint from before the first of them. It trains again up to there, bit for
            bit, and leaves out the samples of all steps from the first to the last.
  give up   After `guard.max_rollbacks` times to the same checkpoint: `NonFiniteError`, exit code 5.

What is left out stands in `WORKDIR/skipped_samples.json`, and each trouble in
`WORKDIR/replay/STEP.json`: what `vidjax replay` needs to run that step again and say whose fault it
was. All processes read the same numbers at the same steps, so they decide alike.
"""

import collections
import dataclasses
import hashlib
import json
from typing import Any

import jax

from vidjax import config as configs
from vidjax import storage
from vidjax.checkpoint import Checkpointer
from vidjax.data.gaps import Gap, stream_index
from vidjax.errors import NonFiniteError
from vidjax.observe import console, run_info
from vidjax.observe.meter import Reading
from vidjax.optim.guard import CAUSES

GAPS = "skipped_samples.json"
FOLDER = "replay"


class Unstable(Exception):  # noqa: N818  (the loop goes back; only `Recovery` makes an error of it)
  """More steps were skipped than are borne."""

  def __init__(self, skips: list[Reading]):
    super().__init__(f"{len(skips)} steps skipped from step {skips[0].step} on")
    self.skips = skips


class Recovery:
  """Decides what becomes of a run whose steps are skipped.

  Args:
    config: of the run.
    root: workdir.
    checkpointer: of the run.
  """

  def __init__(self, config: configs.TrainConfig, root: storage.Path, checkpointer: Checkpointer):
    self._config, self._root, self._checkpointer = config, root, checkpointer
    self._skips: collections.deque[Reading] = collections.deque()
    # Steps that have to stay, whatever comes after them: the newest from before the first of the
    # skips, to go back to, and the one that the newest bundle points to.
    self._good: int | None = None
    self._bundled: int | None = None
    self._pinned: set[int] = set()
    path = root / GAPS
    self._rollbacks: list[dict[str, Any]] = storage.read_json(path) if path.exists() else []
    if found := bundles(root):
      self._bundled = storage.read_json(found[-1])["checkpoint_step"] or None
      self._pin()

  @property
  def gaps(self) -> tuple[Gap, ...]:
    """What the data leave out."""
    return tuple(Gap(entry["at_sample"], entry["samples"]) for entry in self._rollbacks)

  def note(self, reading: Reading) -> None:
    """Takes what is known of the next step.

    Raises:
      Unstable: too many were skipped; the loop has to end and `roll_back`.
    """
    if reading.cause:
      words = f"loss {reading.loss:.4g}, gradient norm {reading.grad_norm:.4g}"
      console.line(f"step {reading.step} skipped: {_name(reading.cause)} ({words})")
      if not self._skips:
        with jax.transfer_guard("allow"):  # the processes agree on it; a skip is no usual step
          self._good = self._checkpointer.latest_step(before=reading.step)
        self._pin()
      self._skips.append(reading)
    while self._skips and self._skips[0].step <= reading.step - self._config.guard.window:
      self._skips.popleft()
      if not self._skips:
        self._good = None
        self._pin()
    if len(self._skips) > self._config.guard.max_skips:
      raise Unstable(list(self._skips))

  def roll_back(self, skips: list[Reading]) -> None:
    """Makes the newest checkpoint from before these steps the newest of all, and notes the gap.

    Without such a checkpoint the run begins anew, without the samples that it failed on.

    Raises:
      NonFiniteError: it went back there often enough.
    """
    self._skips.clear()
    first, last = skips[0], skips[-1]
    target = self._checkpointer.latest_step(before=first.step) or 0
    bundle = self._write_bundle(first, target)
    self._good, self._bundled = None, target or None
    self._pin()
    causes = collections.Counter(_name(skip.cause) for skip in skips)
    listed = ", ".join(f"{n} by {cause}" for cause, n in causes.items())
    what = f"{len(skips)} of the steps {first.step} to {last.step} were skipped ({listed})"
    before = sum(entry["to_step"] == target for entry in self._rollbacks)
    if before >= self._config.guard.max_rollbacks:
      raise NonFiniteError(
        f"{what}, and the run went back to step {target} {before} times before: see"
        f" `vidjax replay --bundle={bundle}`; then lower optimizer.learning_rate, or begin from an"
        " earlier checkpoint"
      )
    batch = self._config.batch_size
    entry = {
      "at_sample": (first.step - 1) * batch,
      "samples": (last.step - first.step + 1) * batch,
      "first_sample": stream_index((first.step - 1) * batch, self.gaps),
      "at_step": first.step,
      "to_step": target,
      "causes": dict(causes),
    }
    # In this order: killed in between, the run meets the same trouble again.
    self._checkpointer.roll_back(target, f"the run went back to step {target}: {what}")
    self._rollbacks.append(entry)
    if jax.process_index() == 0:
      storage.write_json(self._root / GAPS, self._rollbacks)
    console.line(f"{what}: back to step {target}, their {entry['samples']} samples are left out")

  def _write_bundle(self, reading: Reading, target: int) -> storage.Path:
    path = self._root / FOLDER / f"{reading.step:08d}.json"
    if jax.process_index() == 0:
      storage.write_json(path, bundle(self._config, self._root, reading, target, self.gaps))
    return path

  def _pin(self) -> None:
    wanted = {step for step in (self._good, self._bundled) if step is not None}
    for step in self._pinned - wanted:
      self._checkpointer.unpin(step)
    for step in wanted - self._pinned:
      self._checkpointer.pin(step)
    self._pinned = wanted


def bundle(
  config: configs.TrainConfig,
  root: storage.Path,
  reading: Reading,
  checkpoint_step: int,
  gaps: tuple[Gap, ...],
) -> dict[str, Any]:
  """Everything that running a step again depends on, as JSON values.

  `checkpoint_step` is that of the state to begin from, 0 for a fresh one. The loss
  is written as text, since it may be NaN.
  """
  values = configs.to_dict(config)
  text = json.dumps(values, sort_keys=True)
  return {
    "step": reading.step,
    "cause": _name(reading.cause),
    "loss": repr(reading.loss),
    "sample_ids_hash": reading.sample_ids_hash,
    "first_sample": stream_index((reading.step - 1) * config.batch_size, gaps),
    "samples": config.batch_size,
    "gaps": [dataclasses.asdict(gap) for gap in gaps],
    "workdir": str(root),
    "checkpoint_step": checkpoint_step,
    "config_hash": hashlib.sha256(text.encode()).hexdigest()[:16],
    "config": values,
    "code_version": run_info.code_version(),
    "devices": jax.device_count(),
    "device_kind": jax.devices()[0].device_kind,
  }


def _name(cause: int) -> str:
  """Of the guard's number of a cause."""
  return CAUSES[cause - 1].replace("_", " ") if cause else ""


def bundles(root: storage.Path) -> list[storage.Path]:
  """Bundles of a run, in order of their steps."""
  folder = root / FOLDER
  files = storage.list_files(folder) if folder.is_dir() else []
  return [file for file in files if not file.name.endswith(".verdict.json")]
