"""The device mesh: four axes, fixed names, JAX's explicit sharding mode.

Axes (`MeshConfig`):
  replica  data parallel across slices (slow network); parameters are copies.
  fsdp     data parallel within a slice; parameters and optimizer state are stored sharded.
  context  frames in spatial layers, positions in temporal layers.
  tensor   channels inside of blocks.
"""

from collections.abc import Sequence
import dataclasses
import math
from typing import Any

import jax
from jax.experimental import mesh_utils
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

  Axes follow the links between devices, the last ones the shortest way; across slices, which only a
  slow network joins, lies `replica`. Devices may be those of a machine that is not there
  (`jax.experimental.topologies`).

  Raises:
    ValueError: the sizes do not multiply to the number of devices, or `replica` is no multiple of
      the number of slices.
  """
  devices = list(jax.devices() if devices is None else devices)
  shape = mesh_shape(config, len(devices))
  slices = _slices(devices)
  if slices > 1 and config.replica % slices:
    raise ValueError(
      f"mesh.replica={config.replica}: the {len(devices)} devices are {slices} slices, which only a"
      f" slow network joins: set mesh.replica to a multiple of {slices}"
    )
  if slices > 1:
    within = (config.replica // slices, *shape[1:])
    laid_out = mesh_utils.create_hybrid_device_mesh(
      within, (slices, 1, 1, 1), devices, allow_split_physical_axes=True
    )
  else:
    laid_out = mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
  return Mesh(laid_out, AXES, axis_types=(AxisType.Explicit,) * len(AXES))


def mesh_shape(config: MeshConfig, devices: int) -> tuple[int, int, int, int]:
  """Sizes of the four axes on that many devices.

  Raises:
    ValueError: the sizes do not multiply to the number of devices.
  """
  sizes = dataclasses.asdict(config)
  for axis, size in sizes.items():
    if size < 1 and not (axis == "fsdp" and size == -1):
      raise ValueError(
        f"mesh.{axis}={size}: sizes are positive, or -1 for mesh.fsdp to take the devices that are"
        " left"
      )
  if config.fsdp == -1:
    sizes["fsdp"] = max(1, devices // (config.replica * config.context * config.tensor))
  if math.prod(sizes.values()) != devices:
    raise ValueError(
      f"mesh {sizes} needs {math.prod(sizes.values())} devices, {devices} are here: change"
      " mesh.replica, mesh.fsdp, mesh.context or mesh.tensor"
    )
  return tuple(sizes.values())


def reader(mesh: Mesh, process: int) -> tuple[int, int]:
  """Which share of every batch a process reads: (share, number of shares).

  Processes whose devices hold the same rows, because `context` or `tensor` reaches across them,
  read the same share.

  Raises:
    ValueError: processes share some of their rows.
  """
  devices = mesh.devices.reshape(mesh.devices.shape[0] * mesh.devices.shape[1], -1)
  rows: dict[int, set[int]] = {}
  for row, group in enumerate(devices):
    for device in group:
      rows.setdefault(device.process_index, set()).add(row)
  shares = sorted({tuple(sorted(of_process)) for of_process in rows.values()})
  if sum(map(len, shares)) != len(devices):
    raise ValueError(
      f"mesh.context={mesh.shape['context']} x mesh.tensor={mesh.shape['tensor']} cuts the devices"
      " of hosts apart: use sizes that divide the devices of a host, or are multiples of them"
    )
  return shares.index(tuple(sorted(rows[process]))), len(shares)


def _slices(devices: Sequence[Any]) -> int:
  # Hosts of other accelerators number themselves as slices, too, and have fast networks.
  if devices[0].platform != "tpu":
    return 1
  return len({getattr(device, "slice_index", 0) for device in devices})
