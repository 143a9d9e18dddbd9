"""Laying devices out: sizes, slices, and which processes read the same rows."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from vidjax.parallel import mesh as meshes
from vidjax.parallel.mesh import MeshConfig


@dataclasses.dataclass(frozen=True)
class Chip:
  """A chip of a v4 torus: what laying out reads of a device."""

  id: int
  coords: tuple[int, int, int]
  slice_index: int
  process_index: int
  platform: str = "tpu"
  device_kind: str = "TPU v4"
  core_on_chip: int = 0


def slices(number: int) -> list[Chip]:
  """That many slices of 2 x 2 x 2 chips; a process has four of them."""
  return [
    Chip(8 * s + i, (i % 2, i // 2 % 2, i // 4), s, 2 * s + i // 4)
    for s in range(number)
    for i in range(8)
  ]


@pytest.mark.parametrize(
  ("config", "shape"),
  [
    (MeshConfig(), (1, 8, 1, 1)),
    (MeshConfig(replica=2, context=2), (2, 2, 2, 1)),
    (MeshConfig(fsdp=1, context=4, tensor=2), (1, 1, 4, 2)),
  ],
)
def test_fsdp_takes_what_the_others_leave(config, shape):
  assert meshes.mesh_shape(config, 8) == shape
  assert meshes.make_mesh(config).devices.shape == shape


@pytest.mark.parametrize(
  ("config", "message"),
  [
    (MeshConfig(fsdp=3), "needs 3 devices, 8 are here"),
    (MeshConfig(context=3), "needs 6 devices, 8 are here"),
    (MeshConfig(tensor=16), "needs 16 devices, 8 are here"),
    (MeshConfig(context=0), "mesh.context=0: sizes are positive"),
    (MeshConfig(replica=-1), "mesh.replica=-1: sizes are positive"),
  ],
)
def test_sizes_that_cannot_be_are_named(config, message):
  with pytest.raises(ValueError, match=message):
    meshes.mesh_shape(config, 8)


def test_replicas_lie_across_slices_and_the_last_axes_on_neighbours():
  devices = meshes.make_mesh(MeshConfig(replica=4, context=2), slices(2)).devices
  assert [{chip.slice_index for chip in row.flat} for row in devices] == [{0}, {0}, {1}, {1}]
  for pair in devices.reshape(-1, 2):
    assert np.abs(np.subtract(pair[0].coords, pair[1].coords)).sum() == 1


@pytest.mark.parametrize("replica", [1, 3])
def test_slices_that_replicas_do_not_separate_are_refused(replica):
  with pytest.raises(ValueError, match=r"set mesh\.replica to a multiple"):
    meshes.make_mesh(MeshConfig(replica=replica), slices(2)[: 16 - 16 % replica])


def test_processes_with_the_same_rows_read_the_same_share():
  def laid_out(*processes):
    devices = np.array([SimpleNamespace(process_index=p) for p in processes])
    return SimpleNamespace(devices=devices.reshape(1, 2, 2, 1), shape={"context": 2, "tensor": 1})

  assert [meshes.reader(laid_out(0, 0, 0, 0), p) for p in (0,)] == [(0, 1)]
  assert [meshes.reader(laid_out(1, 1, 0, 0), p) for p in (0, 1)] == [(1, 2), (0, 2)]
  assert [meshes.reader(laid_out(0, 1, 0, 1), p) for p in (0, 1)] == [(0, 1), (0, 1)]
  shared = laid_out(0, 1, 2, 3)
  assert [meshes.reader(shared, p) for p in range(4)] == [(0, 2), (0, 2), (1, 2), (1, 2)]
  with pytest.raises(ValueError, match="cuts the devices of hosts apart"):
    meshes.reader(laid_out(0, 1, 1, 1), 0)
