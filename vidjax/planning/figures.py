"""What a plan says: `plan.json`, and the table for people."""

import dataclasses
from typing import Any

GIB = 2**30
DAY = 86_400.0


@dataclasses.dataclass(frozen=True)
class Hbm:
  """Memory of one device, bytes. `is_estimate` where it is arithmetic, not XLA's account."""

  limit: int
  total: int
  arguments: int
  temporaries: int
  code: int
  is_estimate: bool = False

  @property
  def fits(self) -> bool:
    """Whether XLA would accept it."""
    return self.total <= self.limit


@dataclasses.dataclass(frozen=True)
class Plan:
  """One plan; see `docs/scaling.md` for how to read it.

  Attributes:
    config: the flag.
    topology: of one slice.
    slices: how many.
    devices: JAX devices in all.
    mesh: axis -> size.
    batch_size: global.
    accumulation_steps: parts that it goes through the network in.
    remat: policies of the levels.
    hbm: of one device.
    model_flops_per_step: of the whole step, forward and backward once, as MFU counts.
    hardware_flops_per_step: what all devices really compute, recomputation included.
    bytes_accessed: of HBM by one device in a step.
    collectives: kind -> {count, bytes, seconds, exposed_seconds} of one device in a step.
    compute_seconds: the step without what it waits for on the network.
    step_seconds: all of it.
    step_seconds_low: roofline and what is waited for.
    step_seconds_high: XLA's own, pessimistic cycle counts and what is waited for.
    peak_flops: of one device.
    total_samples: of the config.
    host_decode_cores: cores of each host that decoding keeps busy.
    compile_seconds: of compiling, when it was done.
    top_ops: [{name, share}].
    by_kind: kind of operation -> seconds.
    assumed_share: of the time, priced by assumption: kernels, and what --quick does not compile.
    unpriced: what has no price and is left out.
    method: in words.
  """

  config: str
  topology: str
  slices: int
  devices: int
  mesh: dict[str, int]
  batch_size: int
  accumulation_steps: int
  remat: tuple[str, ...]
  hbm: Hbm
  model_flops_per_step: float
  hardware_flops_per_step: float
  bytes_accessed: float
  collectives: dict[str, dict[str, float]]
  compute_seconds: float
  step_seconds: float
  step_seconds_low: float
  step_seconds_high: float
  peak_flops: float
  total_samples: int
  host_decode_cores: float
  compile_seconds: float
  top_ops: list[dict[str, Any]]
  by_kind: dict[str, float]
  assumed_share: float
  unpriced: dict[str, int]
  method: str

  @property
  def clips_per_second(self) -> float:
    """Of all devices."""
    return self.batch_size / self.step_seconds if self.step_seconds else 0.0

  @property
  def mfu(self) -> float:
    """Model FLOPs over what the devices could do in that time."""
    could = self.step_seconds * self.devices * self.peak_flops
    return self.model_flops_per_step / could if could else 0.0

  @property
  def days_for_config(self) -> float:
    """Until `total_samples` are seen, nothing going wrong."""
    rate = self.clips_per_second
    return self.total_samples / rate / DAY if rate else 0.0

  def to_json(self) -> dict[str, Any]:
    """The content of `plan.json`: seconds, bytes and FLOPs."""
    hbm = dataclasses.asdict(self.hbm)
    return {
      **{
        f.name: getattr(self, f.name)
        for f in dataclasses.fields(self)
        if f.name not in ("hbm", "remat", "peak_flops", "total_samples")
      },
      "remat": list(self.remat),
      "fits": self.hbm.fits,
      "hbm": hbm,
      "mfu": self.mfu,
      "clips_per_second": self.clips_per_second,
      "days_for_config": self.days_for_config,
      "is_estimate": True,
    }

  def rows(self) -> list[tuple[str, str]]:
    """The table: what, and how much."""
    hbm = self.hbm
    slices = f" x {self.slices} slices" if self.slices > 1 else ""
    mesh = ", ".join(f"{axis} {size}" for axis, size in self.mesh.items() if size > 1)
    parts = f" in {self.accumulation_steps} parts" if self.accumulation_steps > 1 else ""
    about = "about " if hbm.is_estimate else ""
    rows = [
      ("config", self.config),
      ("devices", f"{self.topology}{slices}: {self.devices} ({mesh or 'one'})"),
      ("batch", f"{self.batch_size}{parts}; remat {', '.join(self.remat) or 'none'}"),
      (
        "memory",
        f"{about}{hbm.total / GIB:.2f} of {hbm.limit / GIB:.2f} GiB,"
        f" {'fits' if hbm.fits else 'DOES NOT FIT'}",
      ),
      (
        "  of which",
        f"state and batch {hbm.arguments / GIB:.2f}, in between {hbm.temporaries / GIB:.2f},"
        f" code {hbm.code / GIB:.2f}",
      ),
    ]
    if not self.step_seconds:
      return rows
    low, high = 1e3 * self.step_seconds_low, 1e3 * self.step_seconds_high
    exposed = {k: c["exposed_seconds"] for k, c in self.collectives.items()}
    rows += [
      ("step", f"{1e3 * self.step_seconds:.0f} ms, bounds {low:.0f} to {high:.0f} (estimate)"),
      ("  computing", f"{1e3 * self.compute_seconds:.0f} ms"),
      ("  waiting", f"{1e3 * sum(exposed.values()):.0f} ms for the network"),
      ("MFU", f"{100 * self.mfu:.1f} %"),
      (
        "FLOPs per step",
        f"{self.model_flops_per_step / 1e12:.2f} T of the model,"
        f" {self.hardware_flops_per_step / 1e12:.2f} T computed",
      ),
      ("HBM traffic", f"{self.bytes_accessed / 1e9:.1f} GB per device and step"),
    ]
    rows += [
      (
        f"  {kind}",
        f"{c['count']:.0f} of {c['bytes'] / 1e9:.3f} GB together, {1e3 * c['seconds']:.1f} ms"
        f" ({1e3 * c['exposed_seconds']:.1f} waited for)",
      )
      for kind, c in self.collectives.items()
    ]
    rows += [
      ("throughput", f"{self.clips_per_second:.2f} clips/s"),
      ("run", f"{self.days_for_config:.2f} days for {self.total_samples} samples"),
      ("decoding", f"{self.host_decode_cores:.1f} cores of each host"),
      ("compiling", f"{self.compile_seconds:.0f} s"),
    ]
    rows += [
      ("time goes to" if n == 0 else "", f"{op['share'] * 100:4.1f} %  {op['name']}")
      for n, op in enumerate(self.top_ops[:8])
    ]
    if self.assumed_share:
      rows.append(("on assumption", f"{100 * self.assumed_share:.0f} % of the time"))
    if self.unpriced:
      names = ", ".join(f"{name} x{count}" for name, count in self.unpriced.items())
      rows.append(("NOT PRICED", names))
    return rows
