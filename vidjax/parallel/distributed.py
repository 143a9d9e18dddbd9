"""Processes that train together: how they find each other, what each reads, what they agree on.

A run on several hosts is one process for each, all started with the same command. Where JAX knows
the cluster (TPU pods, GKE, Slurm, Open MPI, indexed Kubernetes jobs) nothing has to be said.
Elsewhere each process is told where the first one listens, its own number and how many there are,
by `--coordinator`, `--process_index` and `--process_count` or the variables of `ENVIRONMENT`.

All processes run the same program, so whatever decides what is run next has to be the same on each:
the functions at the end of this file make it so. They are collective: every process calls them.
"""

from collections.abc import Callable, Iterator, Mapping
import contextlib
import dataclasses
import hashlib
import os
import socket
import sys
import time
from typing import Any, TypeVar

from absl import flags, logging
import jax
from jax._src.clusters import ClusterEnv, K8sCluster  # nothing public says what JAX detects
from jax.experimental import multihost_utils
import numpy as np

from vidjax import errors
from vidjax.parallel import coordination

T = TypeVar("T")

# Flag -> the variable that stands in for it.
ENVIRONMENT = {
  "coordinator": "VIDJAX_COORDINATOR",
  "process_index": "VIDJAX_PROCESS_INDEX",
  "process_count": "VIDJAX_PROCESS_COUNT",
}
_GOODBYE_SECONDS = 300  # for the slowest process to end, after which the others do not wait
_LAST_SECONDS = 5.0
_KNOCK_SECONDS = 0.5
_LAG = 2  # calls of `Largest`
_barrier_seconds = 600.0


@dataclasses.dataclass(frozen=True)
class Place:
  """Where a process stands among those of its run.

  Attributes:
    coordinator: `HOST:PORT` at which process 0 listens, as the others reach it.
    index: number of this process, from 0.
    count: number of processes.
  """

  coordinator: str
  index: int
  count: int


def define_flags() -> None:
  """Defines the flags of a verb that runs on several hosts."""
  flags.DEFINE_string(
    "coordinator", None, "HOST:PORT where process 0 listens; not needed on TPU pods, GKE, Slurm."
  )
  flags.DEFINE_integer("process_index", None, "Number of this process, from 0.")
  flags.DEFINE_integer("process_count", None, "How many processes there are.")
  flags.DEFINE_float("join_timeout", 300.0, "Seconds to wait for the other processes.")
  flags.DEFINE_integer(
    "heartbeat_timeout", 100, "Seconds without a sign of life of one process that end all."
  )


def place_of(given: Mapping[str, str | int | None], environ: Mapping[str, str]) -> Place | None:
  """The place that flags, or else environment variables, name; None if they name none.

  Args:
    given: `coordinator`, `process_index`, `process_count`; None where there is no flag.
    environ: see `ENVIRONMENT`.

  Raises:
    ValueError: some are missing, or one is not possible.
  """
  values: dict[str, str | int] = {}
  for name, variable in ENVIRONMENT.items():
    value = given[name] if given[name] is not None else environ.get(variable)
    if value is not None and value != "":
      values[name] = value
  if not values:
    return None
  if missing := [name for name in ENVIRONMENT if name not in values]:
    names = " and ".join(f"--{name} (or {ENVIRONMENT[name]})" for name in missing)
    raise ValueError(
      f"several processes need --coordinator, --process_index and --process_count: {names} missing"
    )
  coordinator = str(values["coordinator"])
  host, _, port = coordinator.rpartition(":")
  if not host or not port.isdecimal():
    raise ValueError(f"--coordinator={coordinator}: write HOST:PORT, where process 0 listens")
  numbers = []
  for name in ("process_index", "process_count"):
    text = str(values[name])
    if not text.isdecimal():
      raise ValueError(f"--{name}={text} (or {ENVIRONMENT[name]}): write a number, 0 or more")
    numbers.append(int(text))
  index, count = numbers
  if index >= count:
    raise ValueError(
      f"--process_index={index}: with --process_count={count} it is 0 to {count - 1}"
    )
  return Place(coordinator, index, count)


@contextlib.contextmanager
def joined() -> Iterator[None]:
  """Joins the other processes that the flags, the environment or the cluster name, if any.

  To be entered before anything asks JAX for its devices. Where all processes end alike, done or
  stopped, they wait for each other. One that fails is to `depart`: its loss ends the others.

  Raises:
    ValueError: flags are missing or not possible, or process 0 cannot listen there.
    HangError: the coordinator was not reached in time: another try may find it.
  """
  values = flags.FLAGS
  place = place_of({name: values[name].value for name in ENVIRONMENT}, os.environ)
  # SIGTERM stays a signal of ours, which `Largest` tells all processes. JAX's own service would
  # take it until `stop_signal.listen`, and nobody would hear of it. Who needs it turns it on.
  if "JAX_ENABLE_PREEMPTION_SERVICE" not in os.environ:
    jax.config.update("jax_enable_preemption_service", False)
  timeout = values.join_timeout
  if place is None:
    if _cluster() is not None:
      _initialize(timeout, values.heartbeat_timeout)
  elif place.count > 1:
    _reach(place, timeout)
    _initialize(
      timeout,
      values.heartbeat_timeout,
      coordinator_address=place.coordinator,
      num_processes=place.count,
      process_id=place.index,
      cluster_detection_method="deactivate",
    )
  if not jax.distributed.is_initialized():
    yield
    return
  try:
    yield
  except (errors.Preempted, errors.Interrupted):
    _leave()
    raise
  else:
    _leave()


def depart(code: int) -> None:
  """Ends this process at once with `code` if it is one of several and has failed.

  On the way out of an interpreter, JAX and background writers wait for the other processes, which
  wait for this one.
  """
  if not jax.distributed.is_initialized():
    return
  sys.stdout.flush()
  sys.stderr.flush()
  if is_first() and code != errors.Interrupted.exit_code:
    time.sleep(_LAST_SECONDS)  # others, ending of the same error, are cut short without it
  os._exit(code)


def batch_share(mesh: jax.sharding.Mesh, process: int | None = None) -> tuple[int, int]:
  """Which share of every batch a process reads, and how many shares there are.

  A process reads the rows that its devices hold. Where `context` or `tensor` reach over several
  processes, these hold the same rows and read the same share. Shares are counted in the order of
  their first rows. Rows of a process need not lie together on the mesh, which follows the links
  between devices: the rows of a share are laid on them in order.

  Args:
    mesh: of the run.
    process: its number; this one by default.

  Raises:
    ValueError: processes have some rows in common, but not all, or not all have as many.
  """
  process = jax.process_index() if process is None else process
  by_row = mesh.devices.reshape(mesh.shape["replica"] * mesh.shape["fsdp"], -1)
  rows: dict[int, set[int]] = {}
  for row, devices in enumerate(by_row):
    for device in devices:
      rows.setdefault(device.process_index, set()).add(row)
  shares = sorted({tuple(sorted(held)) for held in rows.values()})
  if len({len(share) for share in shares}) > 1 or sum(map(len, shares)) != len(by_row):
    raise ValueError(
      f"mesh.context={mesh.shape['context']} x mesh.tensor={mesh.shape['tensor']} gives hosts parts"
      " of each other's rows: choose sizes whose product divides the devices of a host, or is a"
      " multiple of them"
    )
  return shares.index(tuple(sorted(rows[process]))), len(shares)


def is_first() -> bool:
  """Whether this process is the one that speaks and writes files for all."""
  return jax.process_index() == 0


def is_peer_lost(exc: BaseException) -> bool:
  """Whether `exc` says that a collective failed: of another process, which is gone."""
  if jax.process_count() == 1:
    return False
  return isinstance(exc, jax.errors.JaxRuntimeError) or "Gloo" in str(exc)  # that is a ValueError


def set_barrier_deadline(seconds: float) -> None:
  """How long the functions below wait for the slowest process; 0 for a day."""
  global _barrier_seconds
  _barrier_seconds = seconds


def meet(name: str, seconds: float | None = None) -> None:
  """Waits until all processes are here, which a collective would do for ever.

  Args:
    name: of the occasion, for the message.
    seconds: how long, if not as `set_barrier_deadline` says.

  Raises:
    HangError: one did not come in time.
  """
  coordination.meet(name, _barrier_seconds if seconds is None else seconds)


def from_first(value: int) -> int:
  """The number that process 0 has; int32."""
  if jax.process_count() == 1:
    return value
  meet("number of process 0")
  return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


def largest(mine: int) -> int:
  """The largest of the numbers of all processes; int32."""
  if jax.process_count() == 1:
    return mine
  meet("largest number")
  return int(np.max(multihost_utils.process_allgather(np.int32(mine))))


def agreed(mine: bool) -> bool:
  """Whether it holds on every process."""
  if jax.process_count() == 1:
    return mine
  meet("agreement")
  return bool(np.all(multihost_utils.process_allgather(np.asarray(mine))))


def by_first(do: Callable[[], T]) -> T | None:
  """Lets process 0 do something alone; what it returns there, None elsewhere.

  Raises:
    Exception: what `do` raised; on the other processes one with the same exit code.
  """
  result, error = None, None
  if is_first():
    try:
      result = do()
    except Exception as exc:
      error = exc
  code = from_first(0 if error is None else errors.exit_code(error))
  if error is not None:
    raise error
  if code:
    raise errors.of_code(code)("process 0 could not begin, and says why")
  return result


def check_same(what: str, text: str, remedy: str) -> None:
  """Refuses to go on where processes differ in something that has to be the same.

  Args:
    what: in words, for the message.
    text: what is compared.
    remedy: what to do, for the message.

  Raises:
    ValueError: on every process, if one of them has another text than process 0.
  """
  if jax.process_count() == 1:
    return
  meet(what)
  digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
  of_all = multihost_utils.process_allgather(np.frombuffer(digest, np.uint32))
  others = [i for i, one in enumerate(of_all) if not np.array_equal(one, of_all[0])]
  if others:
    raise ValueError(f"{what} of process 0 and of {_listed(others)} differ: {remedy}")


class Largest:
  """Tells all processes the largest of the numbers that each of them says, without a wait.

  A call hands this process's number to a reduction on the devices, behind the work that they were
  given before, and returns what the reduction of the call before the last one found. So nobody
  waits for it, and every process gets the same answer at the same call.

  Args:
    mesh: of the run; its devices reduce.
  """

  def __init__(self, mesh: jax.sharding.Mesh):
    self._sharding = jax.NamedSharding(mesh, jax.P(mesh.axis_names))
    self._reduce = jax.jit(lambda said: said.max(), out_shardings=jax.NamedSharding(mesh, jax.P()))
    self._pending: list[jax.Array] = []

  def __call__(self, mine: int) -> int:
    """Says `mine`, of int32 and at least 0; returns what was the largest, at first 0."""
    if jax.process_count() == 1:
      return mine
    with jax.transfer_guard("allow"):
      said = jax.make_array_from_callback(
        (self._sharding.num_devices,), self._sharding, lambda _: np.full(1, mine, np.int32)
      )
      self._pending.append(self._reduce(said))
      return int(self._pending.pop(0)) if len(self._pending) > _LAG else 0


def _cluster() -> type[ClusterEnv] | None:
  """The cluster of several processes that JAX finds itself in, as `jax.distributed` chooses it."""
  for cluster in ClusterEnv._cluster_types:
    # A pod of Kubernetes that is no part of an indexed job has no number, and trains alone.
    alone = cluster is K8sCluster and "JOB_COMPLETION_INDEX" not in os.environ
    if not cluster.opt_in_only_method and not alone and cluster.is_env_present():
      return cluster if cluster.get_process_count() > 1 else None
  return None


def _reach(place: Place, timeout: float) -> None:
  """Tries the coordinator's address: JAX ends the process without a word when it cannot join."""
  host, _, port = place.coordinator.rpartition(":")
  if place.index == 0:
    try:
      socket.create_server(("", int(port))).close()
    except OSError as error:
      raise ValueError(f"--coordinator={place.coordinator}: cannot listen there: {error}") from None
    print(f"process 0 of {place.count} waits for the others at {place.coordinator}", flush=True)
    return
  deadline = time.monotonic() + timeout
  while True:
    try:
      socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_SECONDS).close()
      return
    except OSError as error:
      if time.monotonic() > deadline:
        raise errors.HangError(
          f"--coordinator={place.coordinator}: not reached in {timeout:g} s ({error}): does process"
          " 0 run there, and is the port open? --join_timeout says how long to wait"
        ) from None
    time.sleep(_KNOCK_SECONDS)


def _initialize(timeout: float, heartbeat: int, **place: Any) -> None:
  jax.distributed.initialize(
    **place,
    initialization_timeout=max(1, int(timeout)),
    heartbeat_timeout_seconds=heartbeat,
    shutdown_timeout_seconds=_GOODBYE_SECONDS,
  )


def _leave() -> None:
  """Waits until all processes are here, and parts."""
  try:
    jax.distributed.shutdown()
  except Exception as error:  # the work is done and saved: how others part does not change that
    logging.warning("another process did not end with this one: %s", error)


def _listed(processes: list[int]) -> str:
  return f"process {processes[0]}" + (f" and {len(processes) - 1} more" if processes[1:] else "")
