"""The training loop, read top to bottom.

  vidjax train --config=configs/svd/image.py:tiny --workdir=DIR [--config.key=value ...]

Chapters: devices, program, state (restore or start), data, loop, end. Run it again with the
same workdir and it goes on where the newest checkpoint is; a finished run says so and exits 0.
Exit codes: 0 done; 2 config; 3 data; 4 checkpoint; 5 non-finite loss; 7 disk full;
75 preempted (SIGTERM), state saved, run me again; 130 interrupted (Ctrl-C), state saved.
SIGUSR1 records a trace of the next steps (`vidjax.observe.profiler`).

On several hosts, each process runs this same program (`vidjax.parallel.distributed`). The first one
speaks and writes the files of the run; each writes its part of a checkpoint. A signal to one of
them stops all, after the same step.
"""

import json
import signal
import time

from absl import flags
import jax

from vidjax import command, compiling, divisibility, latent_sets, pretrained, storage
from vidjax import config as configs
from vidjax import feed as feeds
from vidjax import program as programs
from vidjax import state as states
from vidjax.checkpoint import FAILED, Checkpointer, LocalCopies, warm_start
from vidjax.data import loader as loaders
from vidjax.encoders import tokenizers
from vidjax.observe import console, run_info, stop_signal, wandb_run
from vidjax.observe.goodput import Ledger
from vidjax.observe.meter import Meter
from vidjax.observe.profiler import Profiler
from vidjax.observe.writers import Discarded, MetricsWriter
from vidjax.parallel import distributed, plan
from vidjax.parallel import mesh as meshes
from vidjax.planning import chips
from vidjax.preview import Preview


def train(config: configs.TrainConfig, workdir: str) -> None:
  """Runs one stage to its end, or raises what `vidjax.errors` maps to an exit code."""
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
  ledger = Ledger(root, attempt)
  with jax.set_mesh(mesh), stop_signal.listen() as stop, ledger:
    _train_on_mesh(config, root, mesh, checkpointer, attempt, ledger, stop)


def _train_on_mesh(
  config: configs.TrainConfig,
  root: storage.Path,
  mesh: jax.sharding.Mesh,
  checkpointer: Checkpointer,
  attempt: int,
  ledger: Ledger,
  stop: stop_signal.StopSignal,
) -> None:
  # --- Program: the step, and the frozen encoders that its loss reads ---------------------------
  with ledger.phase("init"):
    share, shares = distributed.batch_share(mesh)
    latent_sets.check(config)
    program = programs.make(config, mesh)
    frozen = program.load_frozen()

  # --- State: the newest checkpoint, else another model's weights, else fresh -------------------
  fingerprint = loaders.data_fingerprint(config.data)
  distributed.check_same(
    "the data", json.dumps(fingerprint, sort_keys=True), "each host has to read the same data sets"
  )

  def accept(position: dict) -> None:
    loaders.check_fingerprint(position["data"], fingerprint, config.data.accept_changes)

  with ledger.phase("restore"):
    restored = checkpointer.restore_latest(states.as_dict(program.state), accept)
  if checkpointer.local is not None:
    console.line(f"{root}: {checkpointer.local.why}")
  if restored is not None:
    state = states.TrainState(**restored[1])
    console.line(f"{root}: resuming at step {restored[0]} of {config.total_steps}")
  else:
    with ledger.phase("init"):
      if config.init_from:
        source = pretrained.load(config.init_from, wanted=program.params)
        params, report = warm_start(program.params, source.params, program.draw)
        state = program.started(params)
        console.line(f"starting from {source.origin}: {report}")
      else:
        state = program.fresh()
  start_step, start_sample = int(state.step), int(state.samples)

  # --- Data: batch k is a function of (seed, sample index); the position is the sample count ----
  tokenizer = tokenizers.load(config.encoders.text) if config.encoders.text else None
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

  # --- Metrics, saving --------------------------------------------------------------------------
  if distributed.is_first():
    writer = MetricsWriter(root, attempt, wandb_run.copies(config, root))
  else:
    writer = Discarded()
  chip = chips.by_device_kind(mesh.devices.flat[0].device_kind)
  meter = Meter(
    config,
    writer,
    ledger,
    devices=mesh.size,
    peak_flops=chip and chip.peak_flops,
    skipped=int(state.skipped),
  )

  def save(step: int, state: states.TrainState, *, is_local: bool = False) -> None:
    """Saves state and position in the background, or only copies them to this machine's memory."""
    with meter.aside("save"), jax.transfer_guard("allow"):
      position = {
        "samples": int(jax.device_get(state.samples)),
        "data": fingerprint,
        "config": configs.to_dict(config),
      }
      if is_local:
        assert checkpointer.local is not None
        checkpointer.local.save(step, states.as_dict(state), position)
        return
      if batches.rejected:
        process = jax.process_index()
        name = f"rejected_clips{f'_{process}' if process else ''}.json"
        storage.write_json(root / name, dict(batches.rejected))
      due = step % config.checkpoint.every_steps == 0 or step == config.total_steps
      checkpointer.save(step, states.as_dict(state), position, interim=not due)

  # --- Loop: the step is compiled while the first batches are being made ------------------------
  preview = Preview(config, root)
  profiler = Profiler(config.profile, root, lambda: meter.aside("profile"))
  stop_all = distributed.Largest(mesh)
  compiled = compiling.CompiledSteps(program, root, lambda: meter.aside("compile"))
  progress = console.Progress(f"{root.name}", total=config.total_steps, initial=start_step)
  with feed, writer, progress, profiler, ledger.phase("steps"), jax.transfer_guard("disallow"):
    compiled.of(program.batch)
    for step in range(start_step, config.total_steps):
      # NOTE: the order below must not change: metrics of a step are read while later steps run, and
      # nothing that decides about saving looks at the device before the step is dispatched.
      profiler.before(step + 1)
      fetched = time.perf_counter()
      batch = next(feed)
      waited = time.perf_counter() - fetched
      compiled_step = compiled.of(batch.arrays)
      with jax.profiler.StepTraceAnnotation("step", step_num=step + 1):
        state, metrics = compiled_step.call(state, frozen, batch.arrays)
      notes = batch.notes | {"damaged_checkpoints": checkpointer.damaged_saves}
      meter.push(step + 1, metrics, notes, waited=waited, flops=compiled_step.model_flops)
      profiler.after(step + 1)
      progress.update(step + 1, meter.last)

      done = step + 1 == config.total_steps
      stopped_by = stop_all(checkpointer.failing() or stop.number)
      if stopped_by >= FAILED:
        checkpointer.give_up(stopped_by)
      if stopped_by and not done:
        save(step + 1, state)
        with jax.transfer_guard("allow"):
          checkpointer.wait()
        meter.flush()
        raise stop_signal.error(
          stopped_by, f"stopped at step {step + 1}, state saved: run the same command again"
        )
      if done or (step + 1) % config.checkpoint.every_steps == 0:
        save(step + 1, state)
      elif checkpointer.local is not None and (step + 1) % config.checkpoint.local_every_steps == 0:
        save(step + 1, state, is_local=True)
      if preview.due(step + 1):
        with meter.aside("samples"), jax.transfer_guard("allow"):
          weights = jax.device_get(states.averaged(state, config.optimizer.ema_decays))
          preview.write(step + 1, program.by_name(weights))

    # --- End ------------------------------------------------------------------------------------
    meter.flush()
  checkpointer.wait()
  checkpointer.close()
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
    train(config, given.workdir)


if __name__ == "__main__":
  define_flags()
  command.run(main, depart=distributed.depart)
