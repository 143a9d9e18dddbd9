"""The training loop, read top to bottom.

  vidjax train --config=configs/svd/image.py:tiny --workdir=DIR [--config.key=value ...]

Chapters: config, devices, data, task, state (restore or start), loop, end. Run it again with the
same workdir and it goes on where the newest checkpoint is; a finished run says so and exits 0.
Exit codes: 0 done; 2 config; 3 data; 4 checkpoint; 5 non-finite loss; 7 disk full;
75 preempted (SIGTERM), state saved, run me again; 130 interrupted (Ctrl-C), state saved.
"""

import time
from typing import Any

from absl import flags
import jax
import numpy as np

from vidjax import (
  autoencoding,
  command,
  denoising,
  divisibility,
  errors,
  latent_sets,
  pretrained,
  storage,
)
from vidjax import config as configs
from vidjax import feed as feeds
from vidjax import state as states
from vidjax import step as steps
from vidjax.checkpoint import Checkpointer, warm_start
from vidjax.data import loader as loaders
from vidjax.encoders import tokenizers
from vidjax.observe import console, run_info, stop_signal
from vidjax.observe.goodput import Ledger
from vidjax.observe.writers import MetricsWriter
from vidjax.optim import optimizer as optimizers
from vidjax.parallel import mesh as meshes
from vidjax.parallel import plan
from vidjax.preview import Preview

# Consecutive steps whose loss or gradient is not finite before the run gives up.
MAX_CONSECUTIVE_SKIPS = 10


def train(config: configs.TrainConfig, workdir: str) -> None:
  """Runs one stage to its end, or raises what `vidjax.errors` maps to an exit code."""
  root = storage.Path(workdir)

  # --- Done already? Answered before anything is compiled. --------------------------------------
  checkpointer = Checkpointer(root / "checkpoints", keep=config.checkpoint.keep)
  newest = checkpointer.latest_step()
  if newest is not None and newest >= config.total_steps:
    console.line(f"{workdir}: already trained for {newest} steps, nothing to do")
    checkpointer.close()
    return

  # --- Devices ----------------------------------------------------------------------------------
  mesh = meshes.make_mesh(config.mesh)
  divisibility.check(config, mesh.shape)
  for line in divisibility.computed_whole(config, mesh.shape):
    console.line(f"not divided: {line}")
  attempt = run_info.begin(root, config, mesh)
  ledger = Ledger(root, attempt)
  with jax.set_mesh(mesh), stop_signal.listen() as stop, ledger:
    _train_on_mesh(config, root, mesh, checkpointer, newest, attempt, ledger, stop)


def _train_on_mesh(
  config: configs.TrainConfig,
  root: storage.Path,
  mesh: jax.sharding.Mesh,
  checkpointer: Checkpointer,
  newest: int | None,
  attempt: int,
  ledger: Ledger,
  stop: stop_signal.StopSignal,
) -> None:
  # --- Task: what is trained, and the frozen encoders its loss reads -----------------------------
  with ledger.phase("init"):
    latent_sets.check(config)
    make_task = autoencoding.make_task if config.task == "autoencoder" else denoising.make_task
    task = make_task(config)
    trained = optimizers.trained_names(config.optimizer, task.network.abstract)
    optimizer = optimizers.make_optimizer(config.optimizer)
    shardings = plan.param_shardings(task.network.roles, task.network.abstract, mesh)
    replicated = jax.NamedSharding(mesh, jax.P())
    frozen = jax.device_put(task.frozen, replicated)

  # --- State: the newest checkpoint, else another model's weights, else fresh -------------------
  def create() -> states.TrainState:
    params = task.network.init(jax.random.key(config.seed))
    return states.create(params, optimizer, trained)

  def draw(names: frozenset[str]) -> dict[str, jax.Array]:
    """Fresh values of some parameters: the program holds no others."""

    def some(key: jax.Array) -> dict[str, jax.Array]:
      return {name: p for name, p in task.network.init(key).items() if name in names}

    placed = {name: shardings[name] for name in names}
    return jax.jit(some, out_shardings=placed)(jax.random.key(config.seed))

  wanted = {
    name: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=shardings[name])
    for name, a in task.network.abstract.items()
  }
  abstract = steps.abstract_state(create, shardings, mesh)
  fingerprint = loaders.data_fingerprint(config.data)
  if newest is not None:
    with ledger.phase("restore"):
      before = checkpointer.position(newest)["data"]
      loaders.check_fingerprint(before, fingerprint, config.data.accept_changes)
      restored = checkpointer.restore_latest(states.as_dict(abstract))
      assert restored is not None
      state = states.TrainState(**restored[1])
      console.line(f"{root}: resuming at step {restored[0]} of {config.total_steps}")
  else:
    with ledger.phase("init"):
      in_place = jax.tree.map(lambda a: a.sharding, abstract)
      if config.init_from:
        source = pretrained.load(config.init_from, wanted=wanted)
        params, report = warm_start(wanted, source.params, draw)
        started = jax.jit(lambda params: states.create(params, optimizer, trained))
        state = jax.device_put(started(params), in_place)
        console.line(f"starting from {source.origin}: {report}")
      else:
        state = jax.jit(create, out_shardings=in_place)()
  start_step, start_sample = int(state.step), int(state.samples)

  # --- Data: batch k is a function of (seed, sample index); the position is the sample count ----
  tokenizer = tokenizers.load(config.encoders.text) if config.encoders.text else None
  share, shares = meshes.reader(mesh, jax.process_index())
  batches = loaders.make_loader(
    config.data,
    global_batch=config.batch_size,
    start_sample=start_sample,
    seed=config.seed,
    tokenizer=tokenizer,
    process_index=share,
    process_count=shares,
  )
  feed = feeds.Feed(batches, jax.NamedSharding(mesh, plan.batch_spec(mesh)))

  # --- Step: one program, state donated ---------------------------------------------------------
  train_step = jax.jit(
    steps.make_train_step(task, config, optimizer, trained),
    donate_argnums=0,
    out_shardings=(jax.tree.map(lambda a: a.sharding, abstract), None),
  )

  def save(step: int, state: states.TrainState) -> None:
    """Saves state and position in the background."""
    with ledger.phase("save"):
      position = {
        "samples": int(jax.device_get(state.samples)),
        "data": fingerprint,
        "config": configs.to_dict(config),
      }
      if batches.rejected:
        process = jax.process_index()
        name = f"rejected_clips{f'_{process}' if process else ''}.json"
        storage.write_json(root / name, dict(batches.rejected))
      due = step % config.checkpoint.every_steps == 0 or step == config.total_steps
      checkpointer.save(step, states.as_dict(state), position, interim=not due)

  # --- Loop -------------------------------------------------------------------------------------
  preview = Preview(config, root)
  writer = MetricsWriter(root, attempt)
  meter = Meter(config, writer)
  progress = console.Progress(f"{root.name}", total=config.total_steps, initial=start_step)
  with feed, writer, progress, ledger.phase("steps"), jax.transfer_guard("disallow"):
    for step in range(start_step, config.total_steps):
      # NOTE: the order below must not change: metrics of step k are read while step k + 1 runs, and
      # nothing that decides about saving looks at the device before the step is dispatched.
      fetched = time.perf_counter()
      batch = next(feed)
      waited = time.perf_counter() - fetched
      state, metrics = train_step(state, frozen, batch.arrays)
      meter.push(step + 1, metrics, batch.notes, waited)
      progress.update(step + 1, meter.last)

      done = step + 1 == config.total_steps
      if stop.requested and not done:
        with jax.transfer_guard("allow"):
          save(step + 1, state)
          checkpointer.wait()
        meter.flush()
        raise stop.error(f"stopped at step {step + 1}, state saved: run the same command again")
      if done or (step + 1) % config.checkpoint.every_steps == 0:
        with jax.transfer_guard("allow"):
          save(step + 1, state)
      if preview.due(step + 1):
        with ledger.phase("samples"), jax.transfer_guard("allow"):
          weights = jax.device_get(state.params | state.ema)
          preview.write(step + 1, states.by_name(weights, task.network.abstract, trained))

    # --- End ------------------------------------------------------------------------------------
    meter.flush()
  checkpointer.wait()
  checkpointer.close()
  console.line(f"{root}: trained {config.total_steps} steps, {config.total_samples} samples")


class Meter:
  """Reads metrics one step late, so that the device never waits for the host."""

  def __init__(self, config: configs.TrainConfig, writer: MetricsWriter):
    self._config, self._writer = config, writer
    self._pending: tuple[int, dict[str, jax.Array], dict[str, Any]] | None = None
    self._logged_step, self._logged_at = None, time.perf_counter()
    self._waited, self._skips, self._skipped_before = 0.0, 0, 0
    self.last = ""  # the newest loss that is known, for people

  def push(
    self, step: int, metrics: dict[str, jax.Array], notes: dict[str, Any], waited: float
  ) -> None:
    """Takes the metrics of `step`, which may still be computed; logs the step before."""
    self._waited += waited
    self.flush()
    self._pending = (
      step,
      metrics,
      {"sample_ids_hash": loaders.ids_hash(notes), "rejected_clips": notes["rejected_clips"]},
    )

  def flush(self) -> None:
    """Waits for the pending step and logs it where it is due."""
    if self._pending is None:
      return
    (step, device_metrics, extra), self._pending = self._pending, None
    metrics = jax.device_get(device_metrics)
    self.last = f"loss {float(metrics['loss']):.4f}"
    skipped = int(metrics["skipped_steps"])
    self._skips = self._skips + 1 if skipped > self._skipped_before else 0
    self._skipped_before = skipped
    if step % self._config.log_every_steps == 0 or step == self._config.total_steps or step == 1:
      self._log(step, metrics, extra)
    if self._skips >= MAX_CONSECUTIVE_SKIPS:
      raise errors.NonFiniteError(
        f"loss or gradient was not finite in {self._skips} steps in a row, until step {step}:"
        " lower optimizer.learning_rate, or resume from an earlier checkpoint"
      )

  def _log(self, step: int, metrics: dict[str, Any], extra: dict[str, Any]) -> None:
    now = time.perf_counter()
    count = step - self._logged_step if self._logged_step is not None else 1
    seconds = (now - self._logged_at) / count
    row = {name: np.asarray(value).tolist() for name, value in metrics.items()}
    row |= {
      "samples": step * self._config.batch_size,
      "step_seconds": seconds,
      "data_wait_seconds": self._waited / count,
      "clips_per_second": self._config.batch_size / seconds,
      "tflops_per_device": None,
      "mfu": None,  # null until the model's FLOPs are counted and the chip's peak is known
    }
    self._writer.write(step, row | extra)
    self._logged_step, self._logged_at, self._waited = step, now, 0.0


def define_flags() -> None:
  """Defines the flags of the verb; only the process that runs it has them."""
  flags.DEFINE_string(
    "config", None, "FILE.py[:variant,...]; --config.a.b=VALUE overrides.", required=True
  )
  flags.DEFINE_string("workdir", None, "Folder of the run: local, gs:// or s3://.", required=True)


def main() -> None:
  """The verb: see the module's text."""
  given = flags.FLAGS
  train(configs.load(given.config, command.config_overrides()), given.workdir)


if __name__ == "__main__":
  define_flags()
  command.run(main)
