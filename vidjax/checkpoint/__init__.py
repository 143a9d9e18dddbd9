"""Checkpoints: saved whole, verified when read, resharded to any mesh, and warm starts."""

from vidjax.checkpoint.checkpointer import FAILED, Checkpointer
from vidjax.checkpoint.local import LocalCopies
from vidjax.checkpoint.params import check_which, open_params, restore_params
from vidjax.checkpoint.warm_start import WarmStart, warm_start

__all__ = [
  "FAILED",
  "Checkpointer",
  "LocalCopies",
  "WarmStart",
  "check_which",
  "open_params",
  "restore_params",
  "warm_start",
]
