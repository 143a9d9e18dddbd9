"""What a device holds between two steps, by shapes alone: a lower bound of the memory of a run."""

from collections.abc import Iterable
import contextlib
import dataclasses
import math
from typing import Any

import jax

from vidjax import program as programs
from vidjax import storage
from vidjax.config import TrainConfig
from vidjax.encoders.tokenizers import RANDOM_TINY
from vidjax.parallel import mesh as meshes


def bytes_per_device(config: TrainConfig, devices: int) -> int:
  """Bytes of the state, the frozen encoders and a batch on one device of a mesh.

  Nothing is compiled, and no device is needed. Encoders that are not here are taken to be SVD's.

  Args:
    config: of the run.
    devices: of all hosts.

  Raises:
    ValueError: the config does not describe a model, or its mesh has another number of devices.
  """
  sizes = meshes.mesh_shape(config.mesh, devices)
  mesh: Any = jax.sharding.AbstractMesh(
    sizes, meshes.AXES, axis_types=(jax.sharding.AxisType.Explicit,) * len(meshes.AXES)
  )
  named = dataclasses.replace(config.encoders, **dict.fromkeys(absent_encoders(config), ""))
  program = programs.make(dataclasses.replace(config, encoders=named), mesh, weights=False)
  return sum(map(_share, _leaves(program)))


def absent_encoders(config: TrainConfig) -> list[str]:
  """Kinds of the encoders that the config names and this machine has not.

  An object store is not asked: who starts a run need not be allowed to read there.
  """
  specs = {kind: getattr(config.encoders, kind) for kind in ("vae", "text", "image")}
  return [kind for kind, spec in specs.items() if spec not in ("", RANDOM_TINY) and not _here(spec)]


def _leaves(program: programs.Program) -> Iterable[jax.ShapeDtypeStruct]:
  return jax.tree.leaves((program.state, program.frozen, program.batch))


def _share(leaf: jax.ShapeDtypeStruct) -> int:
  """Bytes of an array that one device holds."""
  assert leaf.sharding is not None
  return math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize


def _here(spec: str) -> bool:
  with contextlib.suppress(OSError):
    return storage.is_local(spec) and storage.Path(spec).exists()
  return False
