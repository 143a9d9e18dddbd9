"""The table of machines against the figures that are documented, and against libtpu's devices."""

import pytest

from launch import machines
from vidjax.planning import chips


@pytest.mark.parametrize(
  ("topology", "hosts", "machine", "api", "xpk", "label"),
  [
    ("v4:2x2x1", 1, "ct4p-hightpu-4t", "v4-8", "v4-2x2x1", "tpu-v4-podslice"),
    ("v4:4x4x8", 32, "ct4p-hightpu-4t", "v4-256", "v4-4x4x8", "tpu-v4-podslice"),
    ("v5e:1x1", 1, "ct5lp-hightpu-1t", "v5litepod-1", "v5litepod-1x1", "tpu-v5-lite-podslice"),
    ("v5e:2x2", 1, "ct5lp-hightpu-4t", "v5litepod-4", "v5litepod-2x2", "tpu-v5-lite-podslice"),
    ("v5e:2x4", 1, "ct5lp-hightpu-8t", "v5litepod-8", "v5litepod-2x4", "tpu-v5-lite-podslice"),
    ("v5e:4x4", 4, "ct5lp-hightpu-4t", "v5litepod-16", "v5litepod-4x4", "tpu-v5-lite-podslice"),
    ("v5p:2x2x2", 2, "ct5p-hightpu-4t", "v5p-16", "v5p-2x2x2", "tpu-v5p-slice"),
    ("v5p:8x8x8", 128, "ct5p-hightpu-4t", "v5p-1024", "v5p-8x8x8", "tpu-v5p-slice"),
    ("v6e:16x16", 64, "ct6e-standard-4t", "v6e-256", "v6e-16x16", "tpu-v6e-slice"),
    ("v6e:2x4", 1, "ct6e-standard-8t", "v6e-8", "v6e-2x4", "tpu-v6e-slice"),
    ("tpu7x:4x4x4", 16, "tpu7x-standard-4t", "tpu7x-128", "tpu7x-4x4x4", "tpu7x"),
  ],
)
def test_documented_slices(topology, hosts, machine, api, xpk, label):
  found = machines.tpu_slices(topology, 1)
  assert found.hosts_per_slice == hosts
  assert found.machine_type == machine
  assert (found.accelerator_type, found.xpk_type) == (api, xpk)
  assert found.generation.label == label
  assert machines.tpu_slices(topology, 3).hosts == 3 * hosts


def test_every_generation_that_is_planned_for_is_known():
  assert set(machines.GENERATIONS) == set(chips.TPUS)


@pytest.mark.parametrize(
  ("topology", "said"),
  [
    ("v5e:2x8", "rented as 1x1, 2x2, 2x4"),
    ("v5e:32x32", "rented as"),
    ("v5p:1x1x1", "rented as 2x2x1"),
    ("v5p:4x6x8", "multiples of 4"),
    ("v5p:8x4x4", "rising order"),
    ("v5p:16x24x24", "9216 chips, the largest slice has 6144"),
  ],
)
def test_slices_on_paper(topology, said):
  with pytest.raises(ValueError, match=said):
    machines.tpu_slices(topology, 1)


def test_nodes_of_gpus():
  nodes = machines.gpu_nodes("h200:16x8")
  assert (nodes.kind, nodes.nodes, nodes.per_node, nodes.count) == ("h200", 16, 8, 128)
  assert nodes.memory == 141 * 2**30
  with pytest.raises(ValueError, match="write KIND:NODESxGPUS"):
    machines.gpu_nodes("h100:0x8")
