"""Starts a training run where its description says, after it was looked at.

  python -m launch.start JOB.toml --on=gke|xpk|tpu_vm|slurm|local [--flag ...]

    --dry_run              shows files, commands and the verdict of the preflight; starts nothing
    --config.KEY=VALUE     overrides the config, as in training, and the description
    --out=DIR              where the files go (runs/launch/NAME); of a dry run they go nowhere else
    --preflight=no_plan    without the planner, which needs libtpu and minutes; said where it counts

The preflight comes first, and what it refuses is not started. The same command again, after the run
was stopped, goes on from its workdir. Descriptions: `launch/jobs/`; guide: `launch/README.md`.
Exit codes: 0 started (local: done, and training's own codes); 1 a program failed; 2 bad flag,
description or config, refused by the preflight, or a program is not installed; 130 interrupted.
"""

import argparse
from collections.abc import Sequence
import dataclasses
import os
import shutil
import subprocess
import sys

import jax

from launch import job as jobs
from launch import places, preflight
from launch.training import Training, shown
from vidjax import errors, storage
from vidjax.errors import UserError
from vidjax.observe import console

_OVERRIDE = "--config."


def start(
  job: jobs.Job, place: str, *, out: str = "", dry_run: bool = False, how: str = preflight.FULL
) -> int:
  """Checks, renders and starts a run; says how it is watched, stopped and gone on with.

  Args:
    job: the run.
    place: key of `places.RENDER`.
    out: folder for the files that commands read.
    dry_run: shows all, starts nothing.
    how: of the preflight, see there.

  Returns:
    The exit code. A local run does not return: it takes the place of this process.

  Raises:
    UserError: the config is not right, the preflight refuses, or a program is missing.
  """
  launch = prepare(job, place, out=out, dry_run=dry_run, how=how)
  return 0 if dry_run else _run(launch)


def prepare(job: jobs.Job, place: str, *, out: str, dry_run: bool, how: str) -> places.Launch:
  """What `start` does before it starts anything."""
  config = preflight.load_config(job)
  folder = storage.Path(out or f"runs/launch/{job.name}")
  launch = places.RENDER[place](Training(job, config), os.fspath(folder))
  report = preflight.check(job, place, config, how, _say)
  for note in launch.notes:
    console.line(f"note       {note}")
  if dry_run:
    for name, content in launch.files.items():
      console.line(f"--- {folder / name}\n{content.rstrip()}\n---")
  if out or not (dry_run or report.refused):
    for name, content in launch.files.items():
      storage.write_text(folder / name, content)
      console.line(f"written    {folder / name}")
  if dry_run:
    for command in launch.commands:
      console.line(f"would run  {shown(command)}")
    _say_how(launch)
  if report.refused:
    raise UserError(f"the preflight refuses: {'; '.join(report.refused)}")
  return launch


def _run(launch: places.Launch) -> int:
  for command in launch.commands:
    if shutil.which(command[0]) is None:
      raise UserError(
        f"{command[0]} is not installed here, or not on PATH: install it, or run elsewhere what"
        " --dry_run shows"
      )
  *others, last = launch.commands
  if launch.replaces:
    _say_how(launch)
  for command in others if launch.replaces else launch.commands:
    console.line(f"running    {shown(command)}")
    if code := subprocess.run(command, check=False).returncode:
      print(f"vidjax: error: {command[0]} ended with exit code {code}", file=sys.stderr)
      return errors.INTERNAL
  if launch.replaces:
    sys.stdout.flush()
    sys.stderr.flush()
    os.execvp(last[0], last)
  _say_how(launch)
  return 0


def _say(line: preflight.Line) -> None:
  console.line(f"preflight  {line.verdict:<8} {line.text}")


def _say_how(launch: places.Launch) -> None:
  for what, lines in (
    ("watch", launch.watch),
    ("stop", launch.stop),
    ("resume", (launch.resume,)),
  ):
    for text in lines:
      console.line(f"{what:<10} {text}")


@dataclasses.dataclass(frozen=True)
class Arguments:
  """The command line, that of a chain included.

  Attributes:
    file: of the description.
    place: where it runs.
    overrides: of the config.
    out: folder for the files.
    dry_run: nothing is started.
    how: of the preflight.
  """

  file: str
  place: str
  overrides: tuple[str, ...]
  out: str
  dry_run: bool
  how: str


def parse(arguments: Sequence[str], prog: str, file: str, text: str) -> Arguments:
  """Parses a command line; ends the process with exit code 2 where it is not right."""
  parser = argparse.ArgumentParser(
    prog=f"python -m {prog}",
    usage=f"%(prog)s {file} --on=PLACE [--dry_run] [--config.KEY=VALUE ...] [--out=DIR]",
    description=text,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
  )
  parser.add_argument("file", metavar=file, help="description")
  parser.add_argument("--on", required=True, choices=tuple(places.RENDER), help="the place")
  parser.add_argument("--dry_run", action="store_true", help="show all, start nothing")
  parser.add_argument("--out", default="", help="folder for the files (runs/launch/NAME)")
  parser.add_argument(
    "--preflight", default=preflight.FULL, choices=preflight.MODES_OF_CHECKING, help="(full)"
  )
  overrides = [a.removeprefix(_OVERRIDE) for a in arguments if a.startswith(_OVERRIDE)]
  given = parser.parse_args([a for a in arguments if not a.startswith(_OVERRIDE)])
  return Arguments(
    given.file, given.on, tuple(overrides), given.out, given.dry_run, given.preflight
  )


def main(arguments: Sequence[str]) -> int:
  """Parses the command line and starts the run; returns the exit code."""
  given = parse(arguments, "launch.start", "JOB.toml", __doc__ or "")
  jax.config.update("jax_platforms", "cpu")  # shapes are asked for, and no accelerator is taken
  return errors.run_main(
    lambda: start(
      jobs.load(given.file, given.overrides),
      given.place,
      out=given.out,
      dry_run=given.dry_run,
      how=given.how,
    )
  )


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
