"""This machine, with the accelerators that it has."""

import dataclasses
import os
import sys

from launch.places.form import Launch
from launch.training import Training, shown
from vidjax.errors import UserError


def render(training: Training, folder: str) -> Launch:
  """The supervisor, in place of this process.

  Raises:
    UserError: the description is of several machines.
  """
  job = training.job
  if job.hosts > 1:
    on = job.topology or job.gpus
    raise UserError(
      f"{on} with slices = {job.slices} are {job.hosts} machines, and --on=local is one: leave the"
      " key out to take what is here"
    )
  training = dataclasses.replace(training, python=sys.executable)
  variables = [f"{name}={_added(name, value)}" for name, value in training.environment.items()]
  words = (
    *(("env", *variables) if variables else ()),
    *(sys.executable, "-m", "launch.supervise"),
    *training.words,
  )
  return Launch(
    files={},
    commands=(words,),
    watch=(
      shown(["tail", "-F", f"{job.workdir}/metrics.jsonl"]),
      shown(["vidjax", "goodput", f"--workdir={job.workdir}"]),
    ),
    stop=("Ctrl-C here, once: the state is saved",),
    resume="start it again: it goes on from the workdir",
    replaces=True,
  )


def _added(name: str, value: str) -> str:
  """Flags of XLA beside those that this process has; other variables are replaced."""
  before = os.environ.get(name, "") if name in ("XLA_FLAGS", "LIBTPU_INIT_ARGS") else ""
  return f"{before} {value}".strip()
