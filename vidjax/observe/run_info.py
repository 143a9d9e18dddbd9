"""`config.json` and `run.json`: what ran, on what, by which versions, and how often it started."""

import datetime
import importlib.metadata
import subprocess
import sys
import time
from typing import Any

import jax

from vidjax import config as configs
from vidjax import redaction, storage
from vidjax.observe import lease

_SEEN_SECONDS = 60.0  # longer than network file systems remember that there was no such folder
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "av", "vidjax")


def begin(root: storage.Path, config: configs.TrainConfig, mesh: jax.sharding.Mesh) -> lease.Lease:
  """Claims the workdir and writes both files; for the first process.

  Raises:
    UserError: another run trains there, see `vidjax.observe.lease`.
  """
  root.mkdir(parents=True, exist_ok=True)
  with lease.exclusive(root):
    mine = lease.claim(root)
    storage.write_json(root / lease.FILE, mine.to_json() | describe(mesh))
  storage.write_json(root / "config.json", configs.to_dict(config))
  return mine


def add_program(root: storage.Path, facts: dict[str, Any]) -> None:
  """Adds what is known of a compiled program to the `programs` of `run.json`, while it is ours."""
  if jax.process_index() == 0:
    run = lease.read(root)
    if not lease.is_of_another(run):
      storage.write_json(root / lease.FILE, run | {"programs": [*run.get("programs", []), facts]})


def seen(root: storage.Path) -> bool:
  """Whether this process finds what the first one has written, if need be after a while."""
  deadline = time.monotonic() + _SEEN_SECONDS
  while not (root / lease.FILE).exists():
    if time.monotonic() > deadline:
      return False
    time.sleep(0.5)
  return True


def describe(mesh: jax.sharding.Mesh) -> dict[str, Any]:
  """Facts about this process and its devices."""
  device = mesh.devices.flat[0]
  return {
    "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    "command": redaction.redact_command(sys.argv),
    "python": sys.version.split()[0],
    "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
    "code_version": code_version(),
    "platform": device.platform,
    "device_kind": device.device_kind,
    "devices": mesh.size,
    "processes": jax.process_count(),
    "mesh": dict(mesh.shape),
  }


def code_version() -> str:
  """The git commit of the checkout that runs, `+` where files differ; else the package version."""
  folder = storage.Path(__file__).parent
  try:
    git = ["git", "-C", str(folder)]
    commit = subprocess.run(
      [*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    dirty = subprocess.run(
      [*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True
    ).stdout.strip()
  except (OSError, subprocess.CalledProcessError):
    return importlib.metadata.version("vidjax")
  return commit + ("+" if dirty else "")
