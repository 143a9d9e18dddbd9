"""Chips by the names JAX gives them; slices by name, their errors and their links."""

import subprocess
import sys

import pytest

from vidjax.planning import chips, topology


@pytest.mark.parametrize(
  ("kind", "name"),
  [
    ("TPU v4", "v4"),
    ("TPU v5 lite", "v5e"),
    ("TPU v5e", "v5e"),
    ("TPU v5", "v5p"),
    ("TPU v5p", "v5p"),
    ("TPU v6 lite", "v6e"),
    ("TPU7x", "tpu7x"),
    ("NVIDIA H100 80GB HBM3", "H100"),
    ("NVIDIA A100-SXM4-80GB", "A100"),
    ("NVIDIA A100-PCIE-40GB", "A100"),
    ("NVIDIA H200", "H200"),
    ("NVIDIA B200", "B200"),
  ],
)
def test_chip_of_a_device_kind(kind, name):
  chip = chips.by_device_kind(kind)
  assert chip is not None
  assert chip.name == name


@pytest.mark.parametrize("kind", ["cpu", "TPU v2", "NVIDIA H100 PCIe", "NVIDIA GeForce RTX 4090"])
def test_no_chip_for_what_is_not_in_the_table(kind):
  assert chips.by_device_kind(kind) is None


def test_figures_are_those_of_one_device():
  """Two devices share a chip of v4 and tpu7x: its peak and memory are halved, its links not."""
  assert chips.TPUS["v5e"].peak_flops == 197e12
  assert chips.TPUS["tpu7x"].peak_flops == 2307e12 / 2
  assert chips.TPUS["tpu7x"].hbm_bytes == 96 * 2**30
  assert chips.TPUS["v4"].hbm_bytes_per_second == 614e9
  assert chips.TPUS["v4"].ici_bytes_per_second == chips.TPUS["v5e"].ici_bytes_per_second


def test_parse():
  slice_ = topology.parse("v5p:4x4x8", slices=2)
  assert (slice_.chip.name, slice_.shape, slice_.slices) == ("v5p", (4, 4, 8), 2)
  assert slice_.name == "v5p:4x4x8"
  assert (slice_.devices_per_slice, slice_.device_count) == (128, 256)
  assert topology.parse("tpu7x:2x2x1").device_count == 8
  assert topology.parse("v5e:1x1").device_count == 1


@pytest.mark.parametrize(
  ("text", "slices", "message"),
  [
    ("v7x:2x2x1", 1, "called tpu7x"),
    ("v5:4x4", 1, "unknown generation 'v5'.*known: v4, v5e"),
    ("H100:8", 1, "unknown generation"),
    ("v5ee:4x4", 1, "nearest: v5e"),
    ("v5e", 1, "as in v5e:4x4"),
    ("v5e:4xfour", 1, "as in v5e:4x4"),
    ("v5e:0x4", 1, "as in v5e:4x4"),
    ("v5e:4x4x4", 1, "have 2 axes"),
    ("v5p:4x4", 1, "have 3 axes, as in v5p:4x4x4"),
    ("v6e:3x5", 1, "hosts of 2x2 chips"),
    ("v5p:3x3x3", 1, "hosts of 2x2x1 chips"),
    ("v5e:4x4", 0, "at least one"),
  ],
)
def test_parse_says_what_is_wrong(text, slices, message):
  with pytest.raises(ValueError, match=message):
    topology.parse(text, slices)


def test_links_of_a_group():
  """Short axes are lines with half the rate; several axes serve a group together."""
  v5e = topology.parse("v5e:4x16")
  assert v5e.group_bandwidth(4) == 45e9
  assert v5e.group_bandwidth(16) == 90e9
  assert v5e.group_bandwidth(64) == 135e9
  assert v5e.group_bandwidth(2) == 45e9  # no axis: one link
  assert topology.parse("v5p:4x4x4").group_bandwidth(16) == 2 * 180e9
  assert topology.parse("tpu7x:4x4x4").group_bandwidth(128) == 3 * 180e9


def test_importing_starts_no_backend():
  code = (
    "import sys; sys.modules['libtpu'] = None;"
    "import vidjax.planning.pricing, vidjax.planning.topology, vidjax.planning.chips;"
    "assert 'jax' not in sys.modules"
  )
  done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
