"""Runs a skipped step again and says whose fault it was: of the data, the numbers, the hardware.

  vidjax replay --workdir=DIR             the newest trouble of a run
  vidjax replay --bundle=DIR/replay/STEP.json
  vidjax replay --workdir=DIR --step=N    any step that a checkpoint comes before

A step is a function of the state before it, the seed and the samples, so it can be computed again,
by one process on any number of devices: from the checkpoint that the bundle names, over the steps
in between, and twice. `--config.mesh...` and `--config.rows_per_device` fit it to the devices.

  hardware  The step does not come out twice alike, or not as it did in training.
  data      It does, and single samples are at fault: a batch of them alone fails, one of the others
            does not. They are named.
  numerics  It does, and most samples fail alone or none does, or those that fail do so only because
            the network does not compute in float32.
  nothing   It comes out as it did in training, and nothing is wrong with it.

The verdict is printed, and written to `DIR/replay/STEP.verdict.json`. Exit code 0, whatever it is;
2 where there is nothing to replay, 4 where the checkpoint is gone.
"""

from collections.abc import Mapping
import dataclasses
import functools
import math
from typing import Any

from absl import flags
import jax
import numpy as np

from vidjax import command, recovery, storage
from vidjax import config as configs
from vidjax import program as programs
from vidjax import state as states
from vidjax import step as steps
from vidjax.checkpoint import Checkpointer
from vidjax.data import loader as loaders
from vidjax.data.gaps import Gap
from vidjax.encoders import tokenizers
from vidjax.observe import console, writers
from vidjax.observe.meter import Reading
from vidjax.parallel import mesh as meshes
from vidjax.parallel import plan

# Share by which a loss may differ on another mesh, or from another compiler.
_SAME = 1e-3
# Batches that are tried in search of samples at fault; where that does not do, most of them are.
_MOST_TRIES = 64


@dataclasses.dataclass(frozen=True)
class Verdict:
  """What became of the step when it was run again.

  Attributes:
    kind: hardware, data, numerics or nothing.
    why: in words.
    losses: as recorded and as computed now, once or twice; as text, since they may be NaN.
    samples: at fault: `clip_id`, and `sample`, its index in the stream.
  """

  kind: str
  why: str
  losses: list[str]
  samples: list[dict[str, Any]] = dataclasses.field(default_factory=list)


class _Again:
  """The run of a bundle on the devices that are here."""

  def __init__(self, config: configs.TrainConfig):
    self.config, self.mesh = config, meshes.make_mesh(config.mesh)
    self.program = programs.make(config, self.mesh)
    self._frozen = self.program.load_frozen()

  def begin(self, bundle: Mapping[str, Any]) -> states.TrainState:
    """The state that the bundle points to, or the newest before the step if that one is gone."""
    folder = storage.Path(bundle["workdir"]) / "checkpoints"
    with Checkpointer(folder, keep=self.config.checkpoint.keep) as checkpointer:
      step = bundle["checkpoint_step"]
      if not checkpointer.has(step):
        step = checkpointer.latest_step(before=bundle["step"]) or step
      if step:
        return states.from_dict(checkpointer.restore(step, states.as_dict(self.program.state)))
    if self.config.init_from:
      raise ValueError(
        f"step {bundle['step']} is from before the first checkpoint, and the run began from other"
        " weights (init_from): begin it anew, and it comes there"
      )
    return self.program.fresh()

  def advance(self, state: states.TrainState, batch: dict[str, Any]) -> states.TrainState:
    """The state after one more step; the one before is donated."""
    return self.program.step(state, self._frozen, self._placed(batch))[0]

  def look(self, state: states.TrainState, batch: dict[str, Any]) -> dict[str, Any]:
    """Metrics of the step that would come next, on the host; the state stays."""
    return jax.device_get(self._metrics(state, self._frozen, self._placed(batch)))

  @functools.cached_property
  def _metrics(self) -> Any:
    program = self.program
    step = steps.make_train_step(program.task, self.config, program.optimizer, program.trained)
    return jax.jit(lambda *of: step(*of)[1])  # the update is nobody's, and left out

  def _placed(self, batch: dict[str, Any]) -> dict[str, Any]:
    sharding = jax.NamedSharding(self.mesh, plan.batch_spec(self.mesh))
    arrays = {}
    for name, value in batch.items():
      if isinstance(value, dict):
        arrays[name] = self._placed(value)
      elif isinstance(value, np.ndarray):
        arrays[name] = jax.device_put(value, sharding)
    return arrays


def replay(bundle: Mapping[str, Any], config: configs.TrainConfig) -> Verdict:
  """Runs the step of a bundle (`vidjax.recovery.bundle`) again.

  Args:
    bundle: what was written when the step was skipped.
    config: that of the bundle, but for the mesh and the parts of a batch.

  Raises:
    CheckpointError: the checkpoint it points to is gone or damaged.
    ValueError: the samples are not those that training saw.
  """
  again = _Again(config)
  with jax.set_mesh(again.mesh):
    state = again.begin(bundle)
    batches = loaders.make_loader(
      dataclasses.replace(config.data, num_workers=0),
      global_batch=config.batch_size,
      start_sample=int(state.samples),
      seed=config.seed,
      tokenizer=tokenizers.load(config.encoders.text) if config.encoders.text else None,
      gaps=tuple(Gap(**gap) for gap in bundle["gaps"]),
    )
    with batches:
      for _ in console.track(range(int(state.step), bundle["step"] - 1), "the steps before"):
        state = again.advance(state, next(batches))
      batch = next(batches)
    seen, now = bundle["sample_ids_hash"], batch["sample_ids_hash"]
    if seen and now != seen:
      raise ValueError(
        f"the samples of step {bundle['step']} are others now ({now}) than in training ({seen}):"
        " replay it with the data as they were"
      )
    return _judge(again, bundle, state, batch)


def _judge(
  again: _Again, bundle: Mapping[str, Any], state: states.TrainState, batch: dict[str, Any]
) -> Verdict:
  one, two = again.look(state, batch), again.look(state, batch)
  losses = [bundle["loss"], repr(float(one["loss"])), repr(float(two["loss"]))]
  if any(not np.array_equal(one[name], two[name], equal_nan=True) for name in one):
    return Verdict("hardware", "the same step on the same numbers came out in two ways", losses)
  skipped = bool(one["skip_cause"])
  if bundle["loss"] and not _alike(float(bundle["loss"]), float(one["loss"])):
    return Verdict("hardware", "the loss is another one than in training, twice alike", losses)
  if skipped != bool(bundle["cause"]):
    words = "would be skipped here, and was not" if skipped else "is in order here, and was skipped"
    return Verdict("hardware", f"the step {words} in training", losses)
  if not skipped:
    return Verdict("nothing", "the step is in order, and came out as in training", losses)

  tries = _Tries(again, state, batch)
  rows = tries.at_fault(range(len(batch["clip_ids"])))
  if rows is None or len(rows) in (0, len(batch["clip_ids"])):
    few = "no sample fails alone" if rows == [] else "most samples fail alone"
    return Verdict("numerics", f"the step fails again, and {few}: it is the weights", losses)
  samples = [
    {"clip_id": batch["clip_ids"][row], "sample": int(batch["sample_index_B"][row])} for row in rows
  ]
  model = again.config.model
  if model.dtype != "float32":
    exact = _Again(
      dataclasses.replace(again.config, model=dataclasses.replace(model, dtype="float32"))
    )
    if _Tries(exact, state, batch).at_fault(rows) == []:
      why = f"{len(rows)} samples fail in {model.dtype}, and do not in float32"
      return Verdict("numerics", why, losses, samples)
  why = f"{len(rows)} of {len(batch['clip_ids'])} samples fail alone, the others do not"
  return Verdict("data", why, losses, samples)


class _Tries:
  """Batches of some samples of another, each of them several times."""

  def __init__(self, again: _Again, state: states.TrainState, batch: dict[str, Any]):
    self._again, self._state, self._batch = again, state, batch
    self._left = _MOST_TRIES

  def at_fault(self, rows: Any) -> list[int] | None:
    """Rows that fail by themselves, by halving; None if that takes too many tries."""
    if not self._left:
      return None
    self._left -= 1
    if not self._fails(rows):
      return []
    if len(rows) == 1:
      return list(rows)
    halves = [self.at_fault(part) for part in (rows[: len(rows) // 2], rows[len(rows) // 2 :])]
    return None if None in halves else [row for half in halves for row in half or ()]

  def _fails(self, rows: Any) -> bool:
    count = len(self._batch["clip_ids"])
    chosen = np.resize(np.asarray(rows), count)
    arrays = {
      name: value[chosen] if isinstance(value, np.ndarray) else value
      for name, value in self._batch.items()
    }
    return bool(self._again.look(self._state, arrays)["skip_cause"])


def _alike(a: float, b: float) -> bool:
  """Whether both are the same number, or both are none."""
  if not (math.isfinite(a) and math.isfinite(b)):
    return math.isfinite(a) == math.isfinite(b)
  return abs(a - b) <= _SAME * max(abs(a), abs(b))


def find_bundle(workdir: storage.Path, step: int | None) -> dict[str, Any]:
  """The bundle of a step of a run, by default the newest; made anew for a step that has none.

  Raises:
    ValueError: the run has no bundle, or no such step.
  """
  folder = workdir / recovery.FOLDER
  if step is not None and not (folder / f"{step:08d}.json").exists():
    return _bundle_of(workdir, step)
  if step is not None:
    return storage.read_json(folder / f"{step:08d}.json")
  found = recovery.bundles(workdir)
  if not found:
    raise ValueError(f"{workdir} has no trouble to replay: name a step with --step=N")
  return storage.read_json(found[-1])


def _bundle_of(workdir: storage.Path, step: int) -> dict[str, Any]:
  """A bundle of a step that was not skipped, or within what is borne."""
  config = configs.load(str(workdir / "config.json"))
  with Checkpointer(workdir / "checkpoints", keep=config.checkpoint.keep) as checkpointer:
    before = checkpointer.latest_step(before=step) or 0
    gaps = recovery.Recovery(config, workdir, checkpointer).gaps
  row = next((row for row in writers.read_metrics(workdir) if row["step"] == step), None)
  if step < 1 or step > config.total_steps:
    raise ValueError(f"--step={step}: the steps of {workdir} are 1 to {config.total_steps}")
  known = Reading(step, 0, math.nan, math.nan, row["sample_ids_hash"] if row else "")
  loss = "" if row is None else repr(math.nan if row["loss"] is None else row["loss"])
  return recovery.bundle(config, workdir, known, before, gaps) | {"loss": loss}


def define_flags() -> None:
  """Defines the flags of the verb; only the process that runs it has them."""
  flags.DEFINE_string("workdir", None, "Folder of the run.")
  flags.DEFINE_string("bundle", None, "A file DIR/replay/STEP.json, instead.")
  flags.DEFINE_integer("step", None, "Which step of --workdir; by default, the newest trouble.")


def main() -> None:
  """The verb: see the module's text."""
  given = flags.FLAGS
  if bool(given.workdir) == bool(given.bundle):
    raise ValueError("give --workdir (and --step), or --bundle")
  if given.bundle:
    if given.step is not None:
      raise ValueError("--step has no meaning beside --bundle: leave it out")
    if not storage.Path(given.bundle).is_file():
      raise ValueError(f"--bundle={given.bundle}: there is no such file")
    bundle, folder = storage.read_json(given.bundle), storage.Path(given.bundle).parent
  else:
    folder = storage.Path(given.workdir) / recovery.FOLDER
    bundle = find_bundle(storage.Path(given.workdir), given.step)
  bundle["workdir"] = str(folder.parent)  # where the run is now
  values = configs.apply_overrides(
    configs.TrainConfig, bundle["config"], command.config_overrides()
  )
  verdict = replay(bundle, configs.from_dict(configs.TrainConfig, values))
  storage.write_json(folder / f"{bundle['step']:08d}.verdict.json", dataclasses.asdict(verdict))
  console.line(f"step {bundle['step']}: {verdict.kind}: {verdict.why}")
  console.line(f"loss in training, and now: {', '.join(map(str, verdict.losses))}")
  for sample in verdict.samples:
    console.line(f"  clip {sample['clip_id']}, sample {sample['sample']}")


if __name__ == "__main__":
  define_flags()
  command.run(main)
