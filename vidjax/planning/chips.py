"""Accelerators: what one *device*, as JAX counts devices, can do at best.

A TPU v4 (without megacore) and a TPU7x show two devices for each chip, all others one; every
figure here is that of one device. Peaks, memory and links are the makers' published figures; clocks
are not published for all chips and were inferred from XLA's own cycle counts. Nothing here was
measured.
"""

import dataclasses

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
  """One accelerator device, as far as a utilization needs it.

  Attributes:
    name: short name; for TPUs the word before the colon of a topology, "v5e".
    peak_flops: dense bfloat16 FLOP/s, a multiply-add counted as two.
  """

  name: str
  peak_flops: float


@dataclasses.dataclass(frozen=True)
class Tpu(Chip):
  """A TPU device with what the price of a compiled program needs.

  Attributes:
    hbm_bytes: memory; what a program may use of it is a little less (15.75 of 16 GiB on v5e).
    clock_hz: of the core; turns XLA's cycle counts into seconds.
    hbm_bytes_per_second: published peak, not what a program reaches.
    ici_bytes_per_second: one link between neighbouring chips, one way.
    dcn_bytes_per_second: one device's share of the network between slices, one way. An assumption:
      the pod's published figure over its chips for v5e and v6e, 50 Gbit/s per device elsewhere.
    torus_dims: dims of the network of links, 2 or 3.
    wrap: an axis of a slice closes to a ring from this size on.
    mxu_lanes: width of the matrix unit; channels are padded to its multiples.
    devices_per_chip: 1 or 2. The two of a chip share its links.
  """

  hbm_bytes: int
  clock_hz: float
  hbm_bytes_per_second: float
  ici_bytes_per_second: float
  dcn_bytes_per_second: float
  torus_dims: int
  wrap: int
  mxu_lanes: int
  devices_per_chip: int


def _tpu(
  name: str,
  *,
  tflops: float,
  ghz: float,
  hbm_gb_s: float,
  hbm_gib: int,
  ici_gb_s: float,
  dcn_gb_s: float,
  torus_dims: int,
  mxu_lanes: int = 128,
  devices_per_chip: int = 1,
) -> Tpu:
  """A device from the figures of its chip; axes close at 16 chips in 2-D and at 4 in 3-D."""
  return Tpu(
    name=name,
    peak_flops=tflops * 1e12 / devices_per_chip,
    hbm_bytes=hbm_gib * GIB // devices_per_chip,
    clock_hz=ghz * 1e9,
    hbm_bytes_per_second=hbm_gb_s * 1e9 / devices_per_chip,
    ici_bytes_per_second=ici_gb_s * 1e9,
    dcn_bytes_per_second=dcn_gb_s * 1e9 / devices_per_chip,
    torus_dims=torus_dims,
    wrap=16 if torus_dims == 2 else 4,
    mxu_lanes=mxu_lanes,
    devices_per_chip=devices_per_chip,
  )


# Per chip, as published: https://docs.cloud.google.com/tpu/docs/v5e and its neighbours.
TPUS: dict[str, Tpu] = {
  chip.name: chip
  for chip in (
    _tpu(
      "v4",
      tflops=275,
      ghz=1.05,
      hbm_gb_s=1228,
      hbm_gib=32,
      ici_gb_s=45,
      dcn_gb_s=12.5,
      torus_dims=3,
      devices_per_chip=2,
    ),
    _tpu(
      "v5e",
      tflops=197,
      ghz=1.5,
      hbm_gb_s=819,
      hbm_gib=16,
      ici_gb_s=45,
      dcn_gb_s=3.125,
      torus_dims=2,
    ),
    _tpu(
      "v5p",
      tflops=459,
      ghz=1.75,
      hbm_gb_s=2765,
      hbm_gib=95,
      ici_gb_s=90,
      dcn_gb_s=6.25,
      torus_dims=3,
    ),
    _tpu(
      "v6e",
      tflops=918,
      ghz=1.75,
      hbm_gb_s=1640,
      hbm_gib=32,
      ici_gb_s=90,
      dcn_gb_s=12.5,
      torus_dims=2,
      mxu_lanes=256,
    ),
    _tpu(
      "tpu7x",
      tflops=2307,
      ghz=1.75,
      hbm_gb_s=7380,
      hbm_gib=192,
      ici_gb_s=90,
      dcn_gb_s=12.5,
      torus_dims=3,
      mxu_lanes=256,
      devices_per_chip=2,
    ),
  )
}

# NVIDIA's data sheets of the SXM forms, dense (half of what is printed "with sparsity").
GPUS: dict[str, Chip] = {
  chip.name: chip
  for chip in (
    Chip("A100", 312e12),
    Chip("H100", 989e12),
    Chip("H200", 989e12),
    Chip("B200", 2250e12),
  )
}

# `jax.Device.device_kind` of TPUs; the older names are still reported by some runtimes.
_TPU_KINDS = {
  "TPU v4": "v4",
  "TPU v5 lite": "v5e",
  "TPU v5e": "v5e",
  "TPU v5": "v5p",
  "TPU v5p": "v5p",
  "TPU v6 lite": "v6e",
  "TPU v6e": "v6e",
  "TPU7x": "tpu7x",
}


def by_device_kind(kind: str) -> Chip | None:
  """The chip that JAX calls `kind` (`device.device_kind`); None for what is not in the tables."""
  if kind in _TPU_KINDS:
    return TPUS[_TPU_KINDS[kind]]
  words = kind.replace("-", " ").split()  # "NVIDIA A100-SXM4-80GB", "NVIDIA H100 80GB HBM3"
  if "NVIDIA" not in words or {"PCIe", "NVL"} & set(words):
    return None  # these forms of H100 and H200 are slower, and not in the table
  return next((GPUS[word] for word in words if word in GPUS), None)
