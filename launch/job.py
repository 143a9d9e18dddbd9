"""A training run in one small file: what is trained, on what, and what each place needs to know.

A description is TOML (`launch/jobs/` has some). Its top level holds for every place; a table for
each place holds what only that one asks for. An unknown key is an error with the nearest name.
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import re
import tomllib
from typing import Any

from launch import machines
from vidjax import config as configs
from vidjax import redaction, storage
from vidjax.errors import UserError

FRESH = "fresh"  # as `init_from`: this stage starts from nothing, and that is meant
# A label of DNS; xpk takes no more than 40 letters, and pods add theirs up to 63.
_NAME = re.compile(r"[a-z](?:[-a-z0-9]{0,38}[a-z0-9])?")
_VARIABLE = re.compile(r"[A-Za-z_]\w*")
# What stands in a directive of Slurm, a node selector or a flag of gcloud: no blank, no quote.
_PLAIN = re.compile(r"[\w.,:;@%/+=\[\]~#-]*")


@dataclasses.dataclass(frozen=True)
class Gke:
  """A cluster of Google Kubernetes Engine with JobSet 0.6 or newer.

  Attributes:
    context: of kubectl; "" for the current one.
    namespace: of the JobSet.
    service_account: of the pods, by which they reach buckets; "" for the namespace's default.
    queue: Kueue's local queue, which admits the run when there is room; "" for no Kueue.
    priority_class: of the pods.
    spot: on nodes that can be taken away at any time.
    reservation: name of the reservation that the nodes are of.
    node_selector: more labels of the nodes.
    max_restarts: how often all pods are made anew after supervisors have given up.
  """

  context: str = ""
  namespace: str = "default"
  service_account: str = ""
  queue: str = ""
  priority_class: str = ""
  spot: bool = False
  reservation: str = ""
  node_selector: Mapping[str, str] = dataclasses.field(default_factory=dict)
  max_restarts: int = 20


@dataclasses.dataclass(frozen=True)
class Xpk:
  """A cluster that `xpk cluster create` has made.

  Attributes:
    cluster: its name.
    project: of Google Cloud.
    zone: of the cluster.
    priority: very-low, low, medium, high or very-high.
    max_restarts: as for GKE.
  """

  cluster: str = ""
  project: str = ""
  zone: str = ""
  priority: str = "medium"
  max_restarts: int = 20


@dataclasses.dataclass(frozen=True)
class TpuVm:
  """TPU VMs that a queued resource brings.

  Attributes:
    project: of Google Cloud.
    zone: where the TPUs are.
    runtime_version: software of the machines; "" for what is documented for the generation.
    spot: on capacity that can be taken away at any time.
    reserved: on capacity that the project has reserved.
    network: of the machines; "" for the default one.
    subnetwork: likewise.
    internal_ips: without addresses that the internet reaches.
    service_account: of the machines, by which they reach buckets and the image.
    delete_when_done: the run gives the TPUs back when it has come to its end; the service account
      needs the role TPU Admin for that.
  """

  project: str = ""
  zone: str = ""
  runtime_version: str = ""
  spot: bool = False
  reserved: bool = False
  network: str = ""
  subnetwork: str = ""
  internal_ips: bool = False
  service_account: str = ""
  delete_when_done: bool = False


@dataclasses.dataclass(frozen=True)
class Slurm:
  """A Slurm cluster of GPU nodes. Software is `venv`, or the job's image run by `container`.

  Attributes:
    partition: and
    account: and
    qos: and
    reservation: and
    constraint: as of sbatch; "" leaves each to the cluster.
    time: limit of one turn; the job goes back to the queue after it.
    cpus_per_task: cores for each GPU's process.
    memory: of each node; "0" is all of it.
    exclusive: nobody else on the nodes.
    container: pyxis or apptainer.
    mounts: folders that the container sees under the same name, or `SOURCE:TARGET`.
    venv: folder of a virtual environment that all nodes see.
    folder: working directory of the job: with `venv` a checkout of vidjax that all nodes see; ""
      for the one that this command runs in.
    logs: folder of the output, made before; "" for `folder`.
  """

  partition: str = ""
  account: str = ""
  qos: str = ""
  reservation: str = ""
  constraint: str = ""
  time: str = "24:00:00"
  cpus_per_task: int = 12
  memory: str = ""
  exclusive: bool = False
  container: str = ""
  mounts: tuple[str, ...] = ()
  venv: str = ""
  folder: str = ""
  logs: str = ""


@dataclasses.dataclass(frozen=True)
class Job:
  """One training run.

  Attributes:
    name: of the run where it is seen: lower-case letters, digits and dashes.
    config: training config, `FILE.py[:variant,...]`, as `vidjax train` takes it.
    workdir: folder of the run; its checkpoints decide where it goes on.
    topology: TPU slice, as `vidjax plan` names it ("v5p:8x8x8"); or `gpus`.
    slices: how many of these, joined by the data centre's network.
    gpus: "KIND:NODESxGPUS" ("h100:8x8": eight nodes of eight).
    image: container image with a version.
    init_from: model whose weights the stage starts from; "fresh" for none, where one is expected.
    compile_cache: folder for compiled programs; "" for one in the workdir.
    grace: seconds that training has to end in after SIGTERM; the cluster gives 30 more.
    overrides: values of the config, by dotted keys.
    env: environment variables of the processes. No secrets: they are seen by everybody.
    gke: the place `gke`.
    xpk: the place `xpk`.
    tpu_vm: the place `tpu_vm`.
    slurm: the place `slurm`.
  """

  name: str = ""
  config: str = ""
  workdir: str = ""
  topology: str = ""
  slices: int = 1
  gpus: str = ""
  image: str = ""
  init_from: str = ""
  compile_cache: str = ""
  grace: int = 90
  overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  env: Mapping[str, str] = dataclasses.field(default_factory=dict)
  gke: Gke = dataclasses.field(default_factory=Gke)
  xpk: Xpk = dataclasses.field(default_factory=Xpk)
  tpu_vm: TpuVm = dataclasses.field(default_factory=TpuVm)
  slurm: Slurm = dataclasses.field(default_factory=Slurm)

  @property
  def tpus(self) -> machines.TpuSlices | None:
    """The TPUs, where it is TPUs."""
    return machines.tpu_slices(self.topology, self.slices) if self.topology else None

  @property
  def gpu_nodes(self) -> machines.GpuNodes | None:
    """The GPUs, where it is GPUs."""
    return machines.gpu_nodes(self.gpus) if self.gpus else None

  @property
  def hosts(self) -> int:
    """Machines of the run; 1 where it does not say on what it runs."""
    if self.tpus is not None:
      return self.tpus.hosts
    return self.gpu_nodes.nodes if self.gpu_nodes is not None else 1

  @property
  def devices(self) -> int | None:
    """Devices as JAX counts them; None where it does not say on what it runs."""
    if self.tpus is not None:
      return self.tpus.topology.device_count
    return self.gpu_nodes.count if self.gpu_nodes is not None else None


def load(path: str, more: Sequence[str] = ()) -> Job:
  """Reads a description.

  Args:
    path: of the TOML file.
    more: `a.b=value` each, overrides of the config beside those of the file, and stronger.

  Raises:
    UserError: the file or a value in it is not right; the message names file and key.
  """
  try:
    values = tomllib.loads(storage.read_text(path))
  except ValueError as error:
    raise UserError(f"{path} is not TOML: {error}") from error
  try:
    return from_values(values, more)
  except ValueError as error:
    raise UserError(f"{path}: {error}") from error


def from_values(values: Mapping[str, Any], more: Sequence[str] = ()) -> Job:
  """A description of nested values, as TOML has them; `more` as for `load`.

  Raises:
    ValueError: a key or value is not right; the message names the key.
  """
  overrides = dict(_flat(values.get("overrides", {}))) | dict(map(_pair, more))
  try:
    job = configs.from_dict(Job, {**values, "overrides": overrides})
    redaction.refuse(configs.to_dict(job))
    _check(job)
  except ValueError as error:
    raise ValueError(_key_of_ours(str(error))) from error
  return job


def override_words(job: Job) -> list[str]:
  """`a.b=value` for each override of the config, as flags have them after `--config.`."""
  given = dict(job.overrides)
  if job.init_from not in ("", FRESH):
    given["init_from"] = job.init_from
  return [f"{key}={_text(value)}" for key, value in given.items()]


def _check(job: Job) -> None:
  for key in ("name", "config", "workdir"):
    if not getattr(job, key):
      raise ValueError(f"key {key!r} is missing")
  if not _NAME.fullmatch(job.name):
    raise ValueError(
      f"key 'name': {job.name!r} has to be lower-case letters, digits and dashes, 40 at most, the"
      " first one a letter: it names the job, its pods and its machines"
    )
  if job.topology and job.gpus:
    raise ValueError("keys 'topology' and 'gpus': set one of them")
  if job.slices != 1 and not job.topology:
    raise ValueError(f"key 'slices': {job.slices} of what? Set 'topology'")
  for key, read in (("topology", lambda: job.tpus), ("gpus", lambda: job.gpu_nodes)):
    try:
      read()
    except ValueError as error:
      raise ValueError(f"key {key!r}: {error}") from error
  for key in ("init_from", "compile_cache"):
    if key in job.overrides and getattr(job, key):
      raise ValueError(f"key {key!r} stands at the top and under 'overrides': leave one out")
  if job.grace < 10:
    raise ValueError(f"key 'grace': {job.grace} seconds are too few to save a state in")
  for table in ("gke", "xpk"):
    if getattr(job, table).max_restarts < 0:
      raise ValueError(f"key '{table}.max_restarts' must not be negative")
  if job.slurm.cpus_per_task < 1:
    raise ValueError("key 'slurm.cpus_per_task' must be positive")
  if job.slurm.container not in ("", "pyxis", "apptainer"):
    raise ValueError(f"key 'slurm.container': {job.slurm.container!r} is not pyxis or apptainer")
  for name, value in job.env.items():
    if not _VARIABLE.fullmatch(name) or not isinstance(value, str):
      raise ValueError(f"key 'env.{name}': a variable's name and a text are wanted, got {value!r}")
  for key, text in _texts(configs.to_dict(job)):
    if "\n" in text or "\0" in text:
      raise ValueError(f"key {key!r}: one line is wanted, got {text!r}")
    if key.split(".")[0] in ("gke", "xpk", "tpu_vm", "slurm") and not _PLAIN.fullmatch(text):
      raise ValueError(f"key {key!r}: {text!r} has a blank or a quote, which names there have not")


def _texts(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
  """Every text below `values`, with its dotted key."""
  for key, value in values.items():
    name = f"{prefix}{key}"
    if isinstance(value, Mapping):
      yield from _texts(value, f"{name}.")
    elif isinstance(value, (list, tuple)):
      yield from _texts({str(i): one for i, one in enumerate(value)}, f"{name}.")
    elif isinstance(value, str):
      yield name, value


def _flat(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
  """Dotted keys of nested tables: TOML makes tables of `data.path = ...`."""
  if not isinstance(values, Mapping):
    raise ValueError(f"key 'overrides': a table is wanted, got {values!r}")
  for key, value in values.items():
    if isinstance(value, Mapping):
      yield from _flat(value, f"{prefix}{key}.")
    else:
      yield f"{prefix}{key}", value


def _pair(override: str) -> tuple[str, str]:
  key, equals, value = override.partition("=")
  if not equals:
    raise ValueError(f"override {override!r}: write --config.{key}=VALUE")
  return key, value


def _text(value: Any) -> str:
  """A value of TOML as a flag has it."""
  return repr(tuple(value)) if isinstance(value, list) else str(value)


def _key_of_ours(message: str) -> str:
  """Keys of a description are no keys of a training config, whose words the check has."""
  return message.replace("unknown config key", "unknown key").replace("config key", "key")
