"""The training loop, read top to bottom.

  vidjax train --config=configs/svd/image.py:tiny --workdir=DIR [--config.key=value ...]

Chapters: devices, program, metrics, state (restore or start), data, loop, end. Run it again with
the same workdir and it goes on where the newest checkpoint is; a finished run says so and exits 0.
Exit codes: 0 done; 2 config; 3 data; 4 checkpoint; 5 non-finite loss; 6 hang; 7 disk full;
75 preempted (SIGTERM), state saved, run me again; 130 interrupted (Ctrl-C), state saved; 143 told
twice to stop, or not saved within the grace time.
SIGUSR1 records a trace of the next steps (`vidjax.observe.profiler`).

On several hosts, each process runs this same program (`vidjax.parallel.distributed`). The first one
speaks and writes the files of the run; each writes its part of a checkpoint. A signal to one of
them stops all, after the same step.
"""

from collections.abc import Mapping
import json
import math
import signal
import time
from typing import Any

from absl import flags
import jax

from vidjax import command, compiling, divisibility, latent_sets, pretrained, redaction, storage
from vidjax import config as configs
from vidjax import feed as feeds
from vidjax import program as programs
from vidjax import state as states
from vidjax.checkpoint import FAILED, Checkpointer, LocalCopies, warm_start
from vidjax.checkpoint.warm_start import COLUMNS
from vidjax.dashboard import Dashboard
from vidjax.data import loader as loaders
from vidjax.encoders import tokenizers
from vidjax.observe import console, run_info, stop_signal, wandb_run
from vidjax.observe.goodput import DATA_WAIT, Ledger, process_age
from vidjax.observe.meter import Meter
from vidjax.observe.profiler import Profiler
from vidjax.observe.watchdog import Watchdog
from vidjax.observe.writers import Discarded, MetricsWriter
from vidjax.parallel import distributed, plan
from vidjax.parallel import mesh as meshes
from vidjax.planning import chips
from vidjax.preview import Preview
from vidjax.recovery import GAPS, Recovery, Unstable


def train(config: configs.TrainConfig, workdir: str, *, age: float = 0.0) -> None:
  """Runs one stage to its end, or raises what `vidjax.errors` maps to an exit code.

  Args:
    config: of the run.
    workdir: local, gs:// or s3://.
    age: seconds that went into starting this process.
  """
  began = time.monotonic() - age
  root = storage.Path(workdir)
  if not distributed.is_first():
    console.mute()
  arguments = json.dumps([workdir, configs.to_dict(config)], sort_keys=True)
  distributed.check_same("--workdir or --config", arguments, "start all with the same flags")

  # --- Done already? Answered before anything is compiled. --------------------------------------
  saving = config.checkpoint
  checkpointer = Checkpointer(root / "checkpoints", saving.keep, saving.milestone_every_steps)
  newest = checkpointer.latest_step()
  if newest is not None and newest >= config.total_steps:
    console.line(f"{workdir}: already trained for {newest} steps, nothing to do")
    checkpointer.close()
    return

  distributed.set_barrier_deadline(config.deadlines.barrier)
  wandb_run.require(config.wandb)
  compiling.use_cache(config.compile_cache)

  # --- Devices ----------------------------------------------------------------------------------
  mesh = meshes.make_mesh(config.mesh)
  divisibility.check(config, mesh.shape)
  for line in divisibility.computed_whole(config, mesh.shape):
    console.line(f"not divided: {line}")
  lease = distributed.by_first(lambda: run_info.begin(root, config, mesh))
  attempt = distributed.from_first(lease.attempt if lease else 0)
  run = distributed.from_first(lease.run if lease else 0)
  distributed.check_same(
    "the files in --workdir", str(run_info.seen(root)), "use storage that all hosts share"
  )
  checkpointer.fence = lease.lost if lease else checkpointer.fence
  if saving.local_every_steps:
    checkpointer.local = LocalCopies(saving.local_folder, root, run)
  watchdog = Watchdog(config.deadlines, root, attempt)
  ledger = Ledger(
    root,
    attempt,
    writes=distributed.is_first(),
    age=time.monotonic() - began,
    watched=watchdog.phase,
  )
  watchdog.last_words = ledger.end
  with (
    jax.set_mesh(mesh),
    stop_signal.listen(config.deadlines.grace) as stop,
    ledger,
    watchdog,
    checkpointer,
  ):
    _train_on_mesh(config, root, mesh, checkpointer, attempt, ledger, watchdog, stop)


def _train_on_mesh(
  config: configs.TrainConfig,
  root: storage.Path,
  mesh: jax.sharding.Mesh,
  checkpointer: Checkpointer,
  attempt: int,
  ledger: Ledger,
  watchdog: Watchdog,
  stop: stop_signal.StopSignal,
) -> None:
  # --- Program: the step, and the frozen encoders that its loss reads ---------------------------
  with ledger.phase("init"):
    share, shares = distributed.batch_share(mesh)
    latent_sets.check(config)
    program = programs.make(config, mesh)
    frozen = program.load_frozen()
  fingerprint = loaders.data_fingerprint(config.data)
  distributed.check_same(
    "the data", json.dumps(fingerprint, sort_keys=True), "each host has to read the same data sets"
  )
  tokenizer = tokenizers.load(config.encoders.text) if config.encoders.text else None

  # --- Metrics, and what becomes of a run whose steps are skipped -------------------------------
  recovery = Recovery(config, root, checkpointer)
  distributed.check_same(GAPS, str(recovery.gaps), "use storage that all hosts share")
  if distributed.is_first():
    writer = MetricsWriter(root, attempt, wandb_run.copies(config, root))
  else:
    writer = Discarded()
  chip = chips.by_device_kind(mesh.devices.flat[0].device_kind)
  peak_flops = chip and chip.peak_flops
  meter = Meter(
    config, writer, ledger, devices=mesh.size, peak_flops=peak_flops, note=recovery.note
  )
  board = Dashboard(writer, config, root, ledger)
  preview = Preview(config, root)
  profiler = Profiler(config.profile, root, lambda: meter.aside("profile"))
  stop_all = distributed.Largest(mesh)
  compiled = compiling.CompiledSteps(program, root, lambda: meter.aside("compile"))

  def start() -> states.TrainState:
    """The newest checkpoint, else another model's weights, else fresh ones."""

    def accept(position: dict[str, Any]) -> None:
      loaders.check_fingerprint(position["data"], fingerprint, config.data.accept_changes)

    with ledger.phase("restore"):
      restored = checkpointer.restore_latest(states.as_dict(program.state), accept)
    if checkpointer.local is not None:
      console.line(f"{root}: {checkpointer.local.why}")
    if restored is not None:
      console.line(f"{root}: resuming at step {restored[0]} of {config.total_steps}")
      return states.from_dict(restored[1])
    with ledger.phase("init"):
      if not config.init_from:
        return program.fresh()
      source = pretrained.load(config.init_from, wanted=program.params)
      params, report = warm_start(program.params, source.params, program.draw)
      console.line(f"starting from {source.origin}: {report}")
      sizes = {n: math.prod(w.shape) for n, w in {**source.params, **program.params}.items()}
      console.table("parameters", COLUMNS, report.table(sizes))
      board.started_from(source.origin, COLUMNS, report.table(sizes))
      if distributed.is_first():
        init = {"source": source.origin, "parameters": report.to_json()}
        storage.write_json(root / "init.json", redaction.redact_values(init))
      return program.started(params)

  def position(state: states.TrainState) -> dict[str, Any]:
    samples = int(jax.device_get(state.samples))
    return {"samples": samples, "data": fingerprint, "config": configs.to_dict(config)}

  def save(
    step: int, state: states.TrainState, rejected: Mapping[str, str], *, interim: bool = False
  ) -> None:
    """Saves state and position in the background; `interim` if it is not due."""
    with meter.aside("save"), jax.transfer_guard("allow"):
      if rejected:
        process = jax.process_index()
        name = f"rejected_clips{f'_{process}' if process else ''}.json"
        storage.write_json(root / name, redaction.redact_values(rejected))
      checkpointer.save(step, states.as_dict(state), position(state), interim=interim)

  def copy(step: int, state: states.TrainState, local: LocalCopies) -> None:
    """Copies state and position to this machine's memory, in the background."""
    with meter.aside("save"), jax.transfer_guard("allow"):
      local.save(step, states.as_dict(state), position(state))

  def steps(state: states.TrainState) -> None:
    """From `state` to the end of training."""
    start_step, start_sample = int(state.step), int(state.samples)
    ledger.resumed(start_step)

    # --- Data: batch k is a function of (seed, samples trained on, gaps), begun while compiling --
    batches = loaders.make_loader(
      config.data,
      global_batch=config.batch_size,
      start_sample=start_sample,
      seed=config.seed,
      tokenizer=tokenizer,
      process_index=share,
      process_count=shares,
      gaps=recovery.gaps,
    )
    feed = feeds.Feed(batches, jax.NamedSharding(mesh, plan.batch_spec(mesh)))
    progress = console.Progress(root.name, total=config.total_steps, initial=start_step)

    # --- Loop -----------------------------------------------------------------------------------
    with feed, progress, ledger.phase("steps"), jax.transfer_guard("disallow"):
      compiled.of(program.batch)
      for step in range(start_step, config.total_steps):
        # NOTE: the order below must not change: metrics of a step are read while later steps run,
        # and nothing that decides about saving looks at the device before the step is dispatched.
        watchdog.beat(step + 1)
        profiler.before(step + 1)
        fetched = time.perf_counter()
        with ledger.phase(DATA_WAIT):
          batch = next(feed)
        waited = time.perf_counter() - fetched
        compiled_step = compiled.of(batch.arrays)
        watchdog.dispatch()
        with jax.profiler.StepTraceAnnotation("step", step_num=step + 1):
          state, metrics = compiled_step.call(state, frozen, batch.arrays)
        notes = batch.notes | {"damaged_checkpoints": checkpointer.damaged_saves}
        meter.push(step + 1, metrics, notes, waited=waited, flops=compiled_step.model_flops)
        profiler.after(step + 1)
        progress.update(step + 1, meter.last)

        done = step + 1 == config.total_steps
        due = done or (step + 1) % config.checkpoint.every_steps == 0
        stopped_by = stop_all(checkpointer.failing() or stop.number)
        if stopped_by >= FAILED:
          checkpointer.give_up(stopped_by)
        if stopped_by and not done:
          if stopped_by == signal.SIGTERM:
            stop.hurry()
          save(step + 1, state, batches.rejected, interim=not due)
          with ledger.phase("save"):
            checkpointer.wait()
          meter.flush()
          raise stop_signal.error(
            stopped_by, f"stopped at step {step + 1}, state saved: run the same command again"
          )
        if due:
          save(step + 1, state, batches.rejected)
        elif (
          checkpointer.local is not None and (step + 1) % config.checkpoint.local_every_steps == 0
        ):
          copy(step + 1, state, checkpointer.local)
        if preview.due(step + 1):
          with meter.aside("samples"), jax.transfer_guard("allow"):
            weights = jax.device_get(states.averaged(state, config.optimizer.ema_decays))
            board.sampled(step + 1, preview.write(step + 1, program.by_name(weights)))
      meter.flush()

  # --- Train; where too many steps are skipped, go back and leave out their samples -------------
  with writer, board, profiler:
    while True:
      try:
        steps(start())
        break
      except Unstable as error:
        trouble = error.skips  # and not the error: it would hold the state, of which there is one
      meter.forget()
      with ledger.phase("restore"):
        recovery.roll_back(trouble)

  # --- End --------------------------------------------------------------------------------------
  with ledger.phase("save"):
    checkpointer.wait()
  console.line(f"{root}: trained {config.total_steps} steps, {config.total_samples} samples")


def define_flags() -> None:
  """Defines the flags of the verb; only the process that runs it has them."""
  distributed.define_flags()
  flags.DEFINE_string(
    "config", None, "FILE.py[:variant,...]; --config.a.b=VALUE overrides.", required=True
  )
  flags.DEFINE_string("workdir", None, "Folder of the run: local, gs:// or s3://.", required=True)


def main() -> None:
  """The verb: see the module's text."""
  given = flags.FLAGS
  signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # until the profiler listens: it ends no run
  config = configs.load(given.config, command.config_overrides())
  with distributed.joined():
    train(config, given.workdir, age=process_age())


if __name__ == "__main__":
  define_flags()
  command.run(main, depart=distributed.depart)
