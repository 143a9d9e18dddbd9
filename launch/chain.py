"""Runs that start from each other, in one file: what is done stays, the next one is started.

  python -m launch.chain CHAIN.toml --on=gke|xpk|tpu_vm|slurm|local [--flag ...]

    --dry_run              says of each stage where it is and how it would be started
    --config.KEY=VALUE     overrides the config of all stages
    --out=DIR              where files go, each stage's below it (runs/launch/NAME)
    --preflight=no_plan    as of launch.start

A chain is a description (`launch/job.py`) with `[[stages]]`: each has its own `name` and `config`,
and what else differs. `init_from` may be the name of a stage before; a stage trains in the folder
of its name below the chain's `workdir`. On this machine all stages run one after the other;
elsewhere the first that is not done is started, and the same command starts the next one later.
Exit codes: those of launch.start; 0 where all are done.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import signal
import subprocess
import sys
import tomllib
from types import FrameType
from typing import Any

import jax

from launch import job as jobs
from launch import preflight, start
from vidjax import errors, storage
from vidjax.checkpoint import layout
from vidjax.errors import UserError
from vidjax.observe import console


@dataclasses.dataclass(frozen=True)
class Stage:
  """One run of a chain.

  Attributes:
    name: in the chain.
    job: the run; its workdir is below the chain's, and `init_from` a folder.
  """

  name: str
  job: jobs.Job

  def steps_done(self) -> int:
    """Of the newest complete checkpoint, which is the last where the run is done; 0 for none."""
    folder = storage.Path(self.job.workdir) / "checkpoints"
    return max(layout.complete_steps(folder), default=0) if folder.exists() else 0


def load(path: str, more: Sequence[str] = ()) -> list[Stage]:
  """Reads a chain.

  Args:
    path: of the TOML file.
    more: `a.b=value` each, overrides of the config of all stages, stronger than the file's.

  Raises:
    UserError: the file or a value in it is not right; the message names file, stage and key.
  """
  try:
    values = tomllib.loads(storage.read_text(path))
  except ValueError as error:
    raise UserError(f"{path} is not TOML: {error}") from error
  own = values.pop("stages", None)
  if not isinstance(own, list) or not own or not all(isinstance(one, Mapping) for one in own):
    raise UserError(f"{path}: [[stages]] are missing: one table for each run, in their order")
  stages: list[Stage] = []
  for number, one in enumerate(own, 1):
    name = one.get("name", "")
    if not isinstance(name, str) or not name or "/" in name or name in {s.name for s in stages}:
      raise UserError(f"{path}: stage {number}: key 'name' has to be one of its own, got {name!r}")
    try:
      stages.append(Stage(name, _job(values, one, stages, more)))
    except ValueError as error:
      raise UserError(f"{path}: stage {name!r}: {error}") from error
  return stages


def _job(
  common: Mapping[str, Any], own: Mapping[str, Any], before: Sequence[Stage], more: Sequence[str]
) -> jobs.Job:
  """The run of a stage: what the chain says, and over it what the stage says."""
  merged = _merged(common, own)
  name, workdir = own["name"], str(common.get("workdir", "")).rstrip("/")
  folders = {stage.name: stage.job.workdir for stage in before}
  init_from = merged.get("init_from", "")
  return jobs.from_values(
    {
      **merged,
      "name": f"{common.get('name', '')}-{name}".replace("_", "-"),
      "workdir": f"{workdir}/{name}" if workdir else "",
      "init_from": folders.get(init_from, init_from),
      "compile_cache": merged.get("compile_cache") or (workdir and f"{workdir}/compile_cache"),
    },
    more,
  )


def _merged(common: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
  result = dict(common)
  for key, value in own.items():
    both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
    result[key] = _merged(result[key], value) if both else value
  return result


def run(
  stages: Sequence[Stage], place: str, *, out: str = "", dry_run: bool = False, how: str
) -> int:
  """Starts what is to be started now; returns the exit code.

  Raises:
    UserError: as `launch.start.start`; the message names the stage.
  """
  for number, stage in enumerate(stages, 1):
    try:
      total = preflight.load_config(stage.job).total_steps
      done = _steps_done(stage, needed=not dry_run)
      steps = f"{'?' if done is None else done} of {total} steps"
      console.line(f"[{number}/{len(stages)}] {stage.name}: {steps}")
      if not dry_run and done is not None and done >= total:
        continue
      folder = f"{out}/{stage.name}" if out else ""
      if dry_run:
        start.prepare(stage.job, place, out=folder, dry_run=True, how=how)
        continue
      if place != "local":
        code = start.start(stage.job, place, out=folder, how=how)
        console.line("when it is done, the same command starts the next stage")
        return code
      code = _locally(stage, folder, how)
    except UserError as error:
      raise UserError(f"stage {stage.name!r}: {error}") from error
    if code:
      console.line(f"stage {stage.name!r} ended with exit code {code}: the same command goes on")
      return code
  return 0


def _steps_done(stage: Stage, *, needed: bool) -> int | None:
  try:
    return stage.steps_done()
  except OSError as error:
    if needed:
      raise UserError(f"workdir {stage.job.workdir} cannot be read: {error}") from error
    return None  # shown on a machine that does not reach it


def _locally(stage: Stage, folder: str, how: str) -> int:
  """Runs a stage on this machine to its end, in a process of its own; returns its exit code."""
  launch = start.prepare(stage.job, "local", out=folder, dry_run=False, how=how)
  process = subprocess.Popen(launch.commands[-1])

  def forward(number: int, frame: FrameType | None) -> None:
    process.send_signal(number)

  # A terminal tells the stage, too, that Ctrl-C was pressed: once is enough.
  before = signal.signal(signal.SIGINT, signal.SIG_IGN), signal.signal(signal.SIGTERM, forward)
  try:
    return process.wait()
  finally:
    signal.signal(signal.SIGINT, before[0])
    signal.signal(signal.SIGTERM, before[1])


def main(arguments: Sequence[str]) -> int:
  """Parses the command line and runs the chain; returns the exit code."""
  given = start.parse(arguments, "launch.chain", "CHAIN.toml", __doc__ or "")
  jax.config.update("jax_platforms", "cpu")  # shapes are asked for, and no accelerator is taken
  return errors.run_main(
    lambda: run(
      load(given.file, given.overrides),
      given.place,
      out=given.out,
      dry_run=given.dry_run,
      how=given.how,
    )
  )


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
