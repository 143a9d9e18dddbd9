"""What each place makes of a run, as text: the files, the commands, and what a person is told.

The descriptions are those of `launch/jobs`, with changes. After a change that is meant, write the
files anew:

  python -m tests.golden.launched
"""

import dataclasses
import pathlib
import sys

from launch import job as jobs
from launch import places, preflight
from launch.training import Training, shown

FOLDER = pathlib.Path(__file__).parent / "launch"
_JOBS = pathlib.Path(__file__).parents[2] / "launch" / "jobs"
_APPTAINER = {"container": "apptainer"}
_VENV = {"container": "", "venv": "/shared/vidjax/.venv", "mounts": ()}
# Name of the file -> the description, the place, and keys of its table that differ.
CASES: dict[str, tuple[str, str, dict]] = {
  "gke": ("video_lowres_v5p", "gke", {}),
  "gke_multislice": ("video_lowres_v6e_multislice", "gke", {}),
  "xpk": ("video_lowres_v5p", "xpk", {}),
  "xpk_multislice": ("video_lowres_v6e_multislice", "xpk", {}),
  "tpu_vm": ("video_lowres_v5p", "tpu_vm", {"delete_when_done": True}),
  "tpu_vm_multislice": ("video_lowres_v6e_multislice", "tpu_vm", {}),
  "slurm_pyxis": ("image_h100", "slurm", {}),
  "slurm_apptainer": ("image_h100", "slurm", _APPTAINER),
  "slurm_venv": ("image_h100", "slurm", _VENV),
  "local": ("tiny_local", "local", {}),
}


def text(name: str) -> str:
  """What the file of a case holds."""
  description, place, changes = CASES[name]
  job = jobs.load(str(_JOBS / f"{description}.toml"))
  if changes:
    table = dataclasses.replace(getattr(job, place), **changes)
    job = dataclasses.replace(job, **{place: table})
  config = preflight.load_config(job)
  launch = places.RENDER[place](Training(job, config), "OUT")
  parts = [f"=== {file}\n{content}" for file, content in launch.files.items()]
  parts += [f"$ {shown(command)}\n" for command in launch.commands]
  parts += [f"watch: {line}\n" for line in launch.watch]
  parts += [f"stop: {line}\n" for line in launch.stop]
  parts += [f"resume: {launch.resume}\n"]
  parts += [f"note: {line}\n" for line in launch.notes]
  return "".join(parts).replace(sys.executable, "PYTHON")


if __name__ == "__main__":
  FOLDER.mkdir(exist_ok=True)
  for case in CASES:
    (FOLDER / f"{case}.txt").write_text(text(case))
