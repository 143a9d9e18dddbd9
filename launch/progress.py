"""How far a run has come, as its workdir says, without the libraries that wrote it."""

import json
import os

from vidjax import storage


def newest_step(workdir: storage.PathLike) -> int | None:
  """The newest step with a complete checkpoint or a row of metrics; None if there is neither.

  A run that goes on from an older step logs steps that it has logged before: these are no progress,
  and the newest of all stands.
  """
  root = storage.Path(workdir)
  return max([*_saved(root / "checkpoints"), *_logged(root / "metrics.jsonl")], default=None)


def _saved(folder: storage.Path) -> list[int]:
  """Steps that were written to the end (see `vidjax/checkpoint/layout.py`)."""
  if not folder.is_dir():
    return []
  steps = sorted((int(p.name) for p in folder.iterdir() if p.name.isdecimal()), reverse=True)
  for step in steps:  # the newest says it all
    if (folder / str(step) / "commit_success.txt").exists():
      return [step]
  return []


def _logged(path: storage.Path) -> list[int]:
  if not path.exists():
    return []
  steps = []
  for line in storage.read_text(path).splitlines():
    try:
      steps.append(int(json.loads(line)["step"]))
    except (ValueError, KeyError, TypeError):  # torn, or being written
      continue
  return steps


def task_name(environ: dict[str, str] | None = None) -> str:
  """Which of several tasks of a run this is, as its cluster says; "" where it is the only one."""
  environ = dict(os.environ) if environ is None else environ
  for variable in (
    *("VIDJAX_PROCESS_INDEX", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "JOB_COMPLETION_INDEX"),
  ):
    if environ.get(variable):
      return environ[variable]
  return ""
