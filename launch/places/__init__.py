"""The places where a run can be started: each renders it as files and commands."""

from launch.places import gke, local, slurm, tpu_vm, xpk
from launch.places.form import Launch

RENDER = {
  "gke": gke.render,
  "xpk": xpk.render,
  "tpu_vm": tpu_vm.render,
  "slurm": slurm.render,
  "local": local.render,
}

__all__ = ["RENDER", "Launch"]
