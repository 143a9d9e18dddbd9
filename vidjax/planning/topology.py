"""TPU slices by name, "v5e:4x4" or "v5p:4x4x4": their devices, without hardware, and their links.

Devices come from libtpu, which compiles for slices that it does not see. It is imported only when
`devices` is called; importing this module starts no backend.
"""

import dataclasses
import difflib
import importlib.util
import itertools
import math
import os
from typing import Any

from vidjax.planning import chips

# What libtpu needs to be told where no TPU is attached: not to ask the cloud's metadata server, and
# that other processes may compile at the same time.
_ENVIRONMENT = {
  "TPU_SKIP_MDS_QUERY": "1",
  "TPU_WORKER_HOSTNAMES": "localhost",
  "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
  "TPU_STDERR_LOG_LEVEL": "3",
  "TPU_MIN_LOG_LEVEL": "3",
}
_HOST_BOUNDS = (2, 2, 1)  # chips of one host along each axis: a slice is made of whole hosts


@dataclasses.dataclass(frozen=True)
class Topology:
  """Slices of one generation and shape.

  Attributes:
    chip: the device, see `chips.Tpu`.
    shape: chips along each axis of one slice.
    slices: number of slices, joined by the data centre's network.
  """

  chip: chips.Tpu
  shape: tuple[int, ...]
  slices: int = 1

  @property
  def name(self) -> str:
    """As written for `parse`, without the number of slices."""
    return f"{self.chip.name}:{'x'.join(map(str, self.shape))}"

  @property
  def devices_per_slice(self) -> int:
    """JAX devices of one slice."""
    return math.prod(self.shape) * self.chip.devices_per_chip

  @property
  def device_count(self) -> int:
    """JAX devices of all slices."""
    return self.devices_per_slice * self.slices

  def axis_bandwidth(self, size: int) -> float:
    """Bytes/s into one chip over both neighbours along an axis of `size` chips.

    Twice a link's one-way rate, and half of that where the axis is too short to close to a ring:
    the chip at its end has one neighbour.
    """
    both = 2 * self.chip.ici_bytes_per_second
    return both if size >= self.chip.wrap else both / 2

  def group_bandwidth(self, size: int) -> float:
    """Bytes/s into one chip for a collective among `size` devices of one slice.

    The axes whose sizes multiply to `size` serve it together. Groups that no set of axes makes are
    taken to have one link. Which axes a mesh axis really lies on is not in the program's text.
    """
    axes = [dim for dim in self.shape if dim > 1]
    if size >= self.devices_per_slice:
      return sum(map(self.axis_bandwidth, axes)) or self.chip.ici_bytes_per_second
    for count in range(1, len(axes) + 1):
      for chosen in itertools.combinations(axes, count):
        if math.prod(chosen) in (size, size / self.chip.devices_per_chip):
          return sum(map(self.axis_bandwidth, chosen))
    return self.chip.ici_bytes_per_second


def parse(text: str, slices: int = 1) -> Topology:
  """Reads "v5e:4x4": a generation, a colon, the chips along each axis.

  Raises:
    ValueError: the generation is not known, or no slice of it has this shape.
  """
  generation, colon, sizes = text.partition(":")
  known = ", ".join(chips.TPUS)
  if generation in ("v7", "v7x", "7x"):
    raise ValueError(f"topology {text!r}: Ironwood is called tpu7x")
  if generation not in chips.TPUS:
    near = difflib.get_close_matches(generation, chips.TPUS, n=1)
    hint = f" (nearest: {near[0]})" if near else ""
    raise ValueError(f"topology {text!r}: unknown generation {generation!r}{hint}; known: {known}")
  chip = chips.TPUS[generation]
  example = f"{generation}:{'x'.join(['4'] * chip.torus_dims)}"
  words = sizes.split("x")
  if not colon or not all(word.isdecimal() and int(word) > 0 for word in words):
    raise ValueError(
      f"topology {text!r}: after the generation and a colon come the chips along each axis,"
      f" as in {example}"
    )
  shape = tuple(int(word) for word in words)
  if len(shape) != chip.torus_dims:
    raise ValueError(
      f"topology {text!r}: slices of {generation} have {chip.torus_dims} axes, as in {example}"
    )
  if math.prod(shape) > 1:
    bounds = _HOST_BOUNDS[: len(shape)]
    if any(size % bound for size, bound in zip(shape, bounds, strict=True)):
      raise ValueError(
        f"topology {text!r}: a slice is made of hosts of {'x'.join(map(str, bounds))} chips, so its"
        f" axes are multiples of these; a single chip is {'x'.join(['1'] * len(shape))}"
      )
  if slices < 1:
    raise ValueError(f"topology {text!r}: {slices} slices; there is at least one")
  return Topology(chip, shape, slices)


def devices(topology: Topology) -> list[Any]:
  """Devices to compile for, as `jax.devices()` would list them; nothing can run on them.

  Sets the environment variables under which libtpu works without a TPU, unless they are set. Of
  `XLA_FLAGS`, libtpu does not see those for CPUs: it does not know all and ends the process.

  Raises:
    ValueError: libtpu is not installed, or does not know the topology.
  """
  if importlib.util.find_spec("libtpu") is None:
    raise ValueError(
      f"compiling for {topology.name} needs libtpu: install it with pip install 'vidjax[tpu]'"
    )
  for key, value in _ENVIRONMENT.items():
    os.environ.setdefault(key, value)
  from jax.experimental import topologies  # here, since it brings in all of JAX

  more = {"num_slices": topology.slices} if topology.slices > 1 else {}
  try:
    found = topologies.get_topology_desc(
      platform="tpu", topology_name=topology.name, **more
    ).devices
  except RuntimeError as error:
    raise ValueError(f"libtpu does not compile for {topology.name}: {error}") from error
  assert len(found) == topology.device_count, (len(found), topology)
  _hide_flags_for_cpus(found[0])
  return list(found)


def _hide_flags_for_cpus(device: Any) -> None:
  """Lets libtpu read `XLA_FLAGS`, which it does at its first program, without those for CPUs."""
  flags = os.environ.get("XLA_FLAGS", "").split()
  others = [flag for flag in flags if not flag.startswith("--xla_cpu_")]
  if others == flags:
    return
  import jax  # here, as above

  from vidjax import compiling

  x = jax.ShapeDtypeStruct((), "float32", sharding=jax.sharding.SingleDeviceSharding(device))
  os.environ["XLA_FLAGS"] = " ".join(others)
  try:
    with compiling.without_cache():  # it cannot be read back
      jax.jit(lambda x: x + 1).lower(x).compile()
  finally:
    os.environ["XLA_FLAGS"] = " ".join(flags)
