"""Asks, before anything is started, whether a run can work there: what fails late costs most.

Every check has a line. `vidjax plan` says whether it fits TPUs; for GPUs, which it does not know,
the bytes that a device holds between steps are a lower bound.
"""

from collections.abc import Callable, Iterator
import dataclasses
import importlib.util
import os
import re
import subprocess
import sys
import tempfile

from launch import job as jobs
from launch import resting
from vidjax import config as configs
from vidjax import divisibility, storage
from vidjax.conditioning.modes import MODES
from vidjax.config import TrainConfig
from vidjax.encoders.tokenizers import RANDOM_TINY
from vidjax.errors import UserError
from vidjax.parallel import mesh as meshes

FULL, NO_PLAN = "full", "no_plan"
MODES_OF_CHECKING = (FULL, NO_PLAN)
_OWN_DISK = ("gke", "xpk", "tpu_vm")  # places where a local path is a container's
_OF_ONE_MACHINE = ("/tmp", "/var/tmp", "/dev/shm", "/run")
_SECONDS_TO_LEAVE = 5  # between training's own deadline and the supervisor's
_TAG = re.compile(r"[^/]*:(?P<tag>[\w.-]+)|[^/]*@sha256:[0-9a-f]{64}")
_GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Line:
  """What a check has found.

  Attributes:
    verdict: "ok", "note" or "refused".
    text: in words.
  """

  verdict: str
  text: str


@dataclasses.dataclass(frozen=True)
class Report:
  """What all checks have found."""

  lines: tuple[Line, ...]

  @property
  def refused(self) -> list[str]:
    """What stands in the way."""
    return [line.text for line in self.lines if line.verdict == "refused"]


def check(
  job: jobs.Job,
  place: str,
  config: TrainConfig,
  how: str = FULL,
  seen: Callable[[Line], None] | None = None,
) -> Report:
  """Runs all checks, the plan last: it takes minutes, and no time if something else is wrong.

  Args:
    job: the description.
    place: where it is to run.
    config: that the description results in, see `load_config`.
    how: `FULL`, or `NO_PLAN` where no planner is installed, or nobody wants to wait for it.
    seen: called with each line as soon as it is there.
  """
  lines: list[Line] = []
  for line in _lines(job, place, config, how):
    lines.append(line)
    if seen is not None:
      seen(line)
  return Report(tuple(lines))


def _lines(job: jobs.Job, place: str, config: TrainConfig, how: str) -> Iterator[Line]:
  refused = False
  for one in (_config, _image, _shared, _starts_from, _encoders, _mesh, _in_time):
    for line in _found(one(job, place, config)):
      refused = refused or line.verdict == "refused"
      yield line
  if job.gpu_nodes is not None and not refused:
    yield from _found(_rests(job, config))
  if job.tpus is None:
    return
  if how == NO_PLAN:
    yield Line("note", "NOT PLANNED: nobody has looked whether it fits the TPUs' memory")
  elif refused:
    yield Line("note", "not planned yet: correct the above first")
  else:
    yield from _found(_plan(job, config))


def load_config(job: jobs.Job) -> TrainConfig:
  """The training config of a description.

  Raises:
    UserError: it cannot be built; the message says why.
  """
  try:
    return configs.load(job.config, jobs.override_words(job))
  except ValueError as error:
    raise UserError(f"config {job.config}: {error}") from error


def _found(lines: Iterator[Line]) -> Iterator[Line]:
  """Lines of a check, up to what ends it."""
  try:
    yield from lines
  except ValueError as error:
    for text in str(error).splitlines():
      yield Line("refused", text)


def _config(job: jobs.Job, place: str, config: TrainConfig) -> Iterator[Line]:
  if place in _OWN_DISK and job.config.startswith("/"):
    raise ValueError(
      f"config {job.config} is a file of this machine, and the image has its own: name it by its"
      " path in the image, as configs/svd/image.py, or put it into a bucket"
    )
  yield Line("ok", f"config {job.config} builds: {config.total_steps} steps of {config.batch_size}")


def _image(job: jobs.Job, place: str, config: TrainConfig) -> Iterator[Line]:
  if place not in _OWN_DISK and not (place == "slurm" and job.slurm.container):
    return
  if job.image.startswith("/"):
    yield Line("ok", f"image is the file {job.image}")
    return
  form = _TAG.fullmatch(job.image.rpartition("/")[2])
  tag = form and form["tag"]
  if form is None or tag == "latest":
    what = "has the tag latest" if form else "has no tag"
    raise ValueError(
      f"image {job.image!r} {what}: restarts days from now have to run what starts today; give it a"
      " version, or a digest (IMAGE@sha256:...)"
    )
  yield Line("ok", f"image {job.image} has a version")


def _shared(job: jobs.Job, place: str, config: TrainConfig) -> Iterator[Line]:
  paths = {
    "workdir": job.workdir,
    "init_from": config.init_from,
    "compile_cache": config.compile_cache or job.compile_cache,
    **{f"data ({member.kind})": member.path for member in config.data.members},
    **{f"encoders.{kind}": getattr(config.encoders, kind) for kind in ("vae", "text", "image")},
  }
  for key, path in paths.items():
    if not path or not storage.is_local(path) or path.startswith("random:"):
      continue
    if place in _OWN_DISK and key.startswith("encoders."):
      yield Line("note", f"{key}={path} is not in a bucket: the image has to have it")
    elif place in _OWN_DISK:
      yield Line(
        "refused",
        f"{key}={path} is on the disk of a container, which goes with it: use a bucket (gs://...)",
      )
    elif job.hosts > 1 and any(f"{path}/".startswith(f"{one}/") for one in _OF_ONE_MACHINE):
      yield Line(
        "refused",
        f"{key}={path} is on the disk of one machine, and there are {job.hosts}: use storage that"
        " all share",
      )
    elif place == "slurm" and key == "workdir" and not path.startswith("/"):
      yield Line("note", f"workdir={path} is relative to the folder that the job runs in")


def _starts_from(job: jobs.Job, place: str, config: TrainConfig) -> Iterator[Line]:
  """A stage whose config says at its top that it starts from another one has to be given that."""
  if config.init_from:
    yield Line("ok", f"starts from {config.init_from}")
    return
  says = "--config.init_from=" in _header(job.config) and config.model.preset != "tiny"
  if says and job.init_from != jobs.FRESH:
    raise ValueError(
      f"init_from is empty, and the header of {job.config} starts this stage from another model:"
      f" set init_from, or init_from = {jobs.FRESH!r} if it is to learn from nothing"
    )
  yield Line("ok", "starts from fresh weights")


def _header(flag: str) -> str:
  """Text of the file that a config flag names, up to its imports."""
  path = re.sub(r"(\.py):.*", r"\1", flag)
  return storage.read_text(path).partition("\nimport ")[0].partition("\nfrom ")[0]


def _encoders(job: jobs.Job, place: str, config: TrainConfig) -> Iterator[Line]:
  if config.task != "diffusion":
    return
  needed = ("vae", MODES[config.conditioning.mode].encoder)
  missing = [f"encoders.{kind}" for kind in needed if not getattr(config.encoders, kind)]
  if missing:
    raise ValueError(
      f"{' and '.join(missing)} not given, which {config.conditioning.mode} needs: set each under"
      f" [overrides] to a folder, or {RANDOM_TINY}"
    )
  yield Line("ok", f"encoders {', '.join(needed)} are named")


def _mesh(job: jobs.Job, place: str, config: TrainConfig) -> Iterator[Line]:
  if job.slices > 1 and config.mesh.replica % job.slices:
    raise ValueError(
      f"mesh.replica={config.mesh.replica} with slices={job.slices}: only gradients may cross the"
      " network between slices, so set mesh.replica to a multiple of it:"
      f" --config.mesh.replica={job.slices}"
    )
  if job.devices is None:
    return
  shape = meshes.mesh_shape(config.mesh, job.devices)
  sizes: dict[str, int] = dict(zip(meshes.AXES, shape, strict=True))
  divisibility.check(config, sizes)
  axes = ", ".join(f"{axis} {size}" for axis, size in sizes.items() if size > 1) or "one device"
  yield Line("ok", f"batch {config.batch_size} divides over {job.devices} devices ({axes})")


def _in_time(job: jobs.Job, place: str, config: TrainConfig) -> Iterator[Line]:
  own = config.deadlines.grace
  if own and own + _SECONDS_TO_LEAVE > job.grace:
    raise ValueError(
      f"deadlines.grace={own:g} of the config leaves the supervisor too little of"
      f" grace={job.grace}: set grace to {own + _SECONDS_TO_LEAVE:g} or more"
    )
  if not own:
    yield Line("note", f"deadlines.grace=0: a save that takes over {job.grace} s is cut off")


def _rests(job: jobs.Job, config: TrainConfig) -> Iterator[Line]:
  assert job.gpu_nodes is not None
  assert job.devices is not None
  least, room = resting.bytes_per_device(config, job.devices), job.gpu_nodes.memory
  said = (
    f"{least / _GIB:.2f} GiB of {room / _GIB:.0f} on each {job.gpu_nodes.kind} lie there between"
    " steps: weights, moments, averages, frozen encoders, batch"
  )
  if least > room:
    raise ValueError(
      f"it does not fit: {said}, and more while a step runs. Take more GPUs, and let mesh.fsdp"
      " divide the state"
    )
  yield Line("ok", f"{said}. A lower bound: what a step needs beside is not known")


def _plan(job: jobs.Job, config: TrainConfig) -> Iterator[Line]:
  """`vidjax plan --quick`, whose refusal is ours."""
  if importlib.util.find_spec("libtpu") is None:
    raise ValueError(
      "the plan needs libtpu, which is not installed: pip install 'vidjax[tpu]', or go on without"
      f" with --preflight={NO_PLAN}"
    )
  yield Line("note", "vidjax plan --quick: minutes the first time, then from its cache")
  code, table, said = run_plan(plan_command(job, config))
  if code:
    lines = [line for line in said.splitlines() if line.startswith("vidjax: ")]
    text = lines[-1].removeprefix("vidjax: error: ") if lines else said.strip()[-500:]
    raise ValueError(f"vidjax plan, exit code {code}: {text}")
  wanted = ("memory", "step ", "MFU", "throughput", "run ")
  for line in table.splitlines():
    if line.startswith(wanted):
      yield Line("ok", f"plan: {re.sub(r'  +', '  ', line)}")


def plan_command(job: jobs.Job, config: TrainConfig) -> list[str]:
  """The planner's command line. Encoders that are not here are left out: it knows their shapes."""
  absent = [f"--config.encoders.{kind}=" for kind in resting.absent_encoders(config)]
  return [
    *(sys.executable, "-m", "vidjax.cli", "plan", "--quick"),
    f"--config={job.config}",
    f"--topology={job.topology}",
    f"--slices={job.slices}",
    *(f"--config.{word}" for word in jobs.override_words(job)),
    *absent,
  ]


def run_plan(command: list[str]) -> tuple[int, str, str]:
  """Runs the planner; exit code, standard output, standard error."""
  with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
    done = subprocess.run(command, stdout=out, stderr=err, check=False, env=_planner_environment())
    texts = []
    for file in (out, err):
      file.seek(0)
      texts.append(file.read().decode(errors="replace"))
  return done.returncode, texts[0], texts[1]


def _planner_environment() -> dict[str, str]:
  """Ours, but wide: tables are cut to the width of a terminal."""
  return os.environ | {"COLUMNS": "200"}
