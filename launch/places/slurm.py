"""Slurm: a task for each GPU, in a container of pyxis or apptainer or a virtual environment."""

import dataclasses
import os

from launch import policy, templating
from launch.places.form import Launch, needs
from launch.training import Training, shown
from vidjax.errors import UserError

_IN_IMAGE = "/vidjax"  # where the images of launch/docker have configs and launch


def render(training: Training, folder: str) -> Launch:
  """The batch script and how it is submitted.

  Args:
    training: what runs.
    folder: where the file will lie.

  Raises:
    UserError: the description lacks something.
  """
  job, slurm = training.job, training.job.slurm
  needs("slurm", gpus=job.gpus)
  if bool(slurm.container) == bool(slurm.venv):
    raise UserError(
      "--on=slurm needs the key 'slurm.container' (pyxis or apptainer, which run the job's image)"
      " or 'slurm.venv' (a folder that all nodes see), and not both"
    )
  if slurm.container:
    needs("slurm", image=job.image)
  python = f"{slurm.venv}/bin/python" if slurm.venv else "python3"
  training = dataclasses.replace(training, python=python)
  here = slurm.folder or os.getcwd()
  for key, value in (("folder", here), ("logs", slurm.logs)):
    if not _is_plain(value):
      raise UserError(f"key 'slurm.{key}': {value!r} has a blank, which sbatch's lines cannot have")
  name = f"{job.name}.sbatch"
  content = templating.fill(
    "train.sbatch.j2",
    job=job,
    slurm=dataclasses.asdict(slurm),
    gpus=job.gpu_nodes,
    folder=here,
    logs=slurm.logs or here,
    patience=training.patience,
    preempted=policy.PREEMPTED,
    container=_container(training),
    environment=training.environment,
    python=python,
    words=training.words,
  )
  return Launch(
    files={name: content},
    commands=(("sbatch", "--parsable", f"{folder}/{name}"),),
    watch=(
      shown(["squeue", "--me", f"--name={job.name}"]),
      f"tail -F {shown([slurm.logs or here])}/{job.name}-*.log",
      shown(["vidjax", "goodput", f"--workdir={job.workdir}"]),
    ),
    stop=(shown(["scancel", "--me", f"--name={job.name}"]),),
    resume="start it again: it goes on from the workdir. A job that was requeued does so by itself",
    notes=(
      "a job that is cancelled has as long to save its state as the cluster's KillWait says, 30 s"
      " where nobody has changed it",
    ),
  )


def _is_plain(text: str) -> bool:
  return not any(letter.isspace() for letter in text)


def _container(training: Training) -> list[str]:
  """Words that run a command in the image: flags of srun (pyxis), or a program before it."""
  image, slurm = training.job.image, training.job.slurm
  mounts = [mount if ":" in mount else f"{mount}:{mount}" for mount in slurm.mounts]
  if slurm.container == "pyxis":
    return [
      f"--container-image={_enroot(image)}",
      *([f"--container-mounts={','.join(mounts)}"] if mounts else []),
      f"--container-workdir={_IN_IMAGE}",
      "--no-container-entrypoint",
    ]
  if slurm.container == "apptainer":
    source = image if image.startswith("/") or "://" in image else f"docker://{image}"
    binds = [f"--bind={mount}" for mount in mounts]
    return ["apptainer", "exec", "--nv", f"--pwd={_IN_IMAGE}", *binds, source]
  return []


def _enroot(image: str) -> str:
  """An image as enroot names it: `#` after the registry (NVIDIA/pyxis, wiki, Usage)."""
  first, slash, rest = image.partition("/")
  is_registry = slash and ("." in first or ":" in first or first == "localhost")
  return f"{first}#{rest}" if first and is_registry and "#" not in image else image
