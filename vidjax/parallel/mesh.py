"""The device mesh: four axes, fixed names, JAX's explicit sharding mode.

Axes (`MeshConfig`):
  replica  data parallel across slices (slow network); parameters are copies.
  fsdp     data parallel within a slice; parameters and optimizer state are stored sharded.
  context  frames in spatial layers, space in temporal layers.
  tensor   channels.
"""

from collections.abc import Sequence
import dataclasses
import math
from typing import Any

import jax
from jax.sharding import AxisType, Mesh

AXES = ("replica", "fsdp", "context", "tensor")


@dataclasses.dataclass(frozen=True)
class MeshConfig:
  """Sizes of the mesh axes; `fsdp = -1` takes all devices that the others leave."""

  replica: int = 1
  fsdp: int = -1
  context: int = 1
  tensor: int = 1


def make_mesh(config: MeshConfig, devices: Sequence[Any] | None = None) -> Mesh:
  """Lays `devices` (all, by default) out on the four axes.

  Raises:
    ValueError: the sizes do not multiply to the number of devices, or an axis is not supported.
  """
  devices = list(jax.devices() if devices is None else devices)
  for axis in ("context", "tensor"):
    if getattr(config, axis) != 1:
      raise ValueError(
        f"mesh.{axis}={getattr(config, axis)}: only 1 is supported by the models so far;"
        " use mesh.fsdp and mesh.replica"
      )
  if config.replica < 1 or (config.fsdp < 1 and config.fsdp != -1):
    raise ValueError(
      f"mesh.replica={config.replica}, mesh.fsdp={config.fsdp}: sizes are positive,"
      " or -1 for mesh.fsdp to take the devices that are left"
    )
  fsdp = config.fsdp if config.fsdp != -1 else max(1, len(devices) // config.replica)
  shape = (config.replica, fsdp, config.context, config.tensor)
  if math.prod(shape) != len(devices):
    raise ValueError(
      f"mesh {dict(zip(AXES, shape, strict=True))} needs {math.prod(shape)} devices,"
      f" {len(devices)} are here: change mesh.replica or mesh.fsdp"
    )
  return jax.make_mesh(shape, AXES, axis_types=(AxisType.Explicit,) * len(AXES), devices=devices)
