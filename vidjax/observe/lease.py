"""Who may write into a workdir: one attempt of one run at a time.

`run.json` names the attempt that owns the workdir, by a random id, and the process that began it.

* On the same host, a process that is still alive is proof: the newcomer is refused.
* From another host there is no proof, for hosts hang and clocks jump. The newcomer takes over, as
  schedulers need it, and the older attempt is fenced: it asks `Lease.lost` before each save, finds
  another id and stops.

Where two begin at the same moment, the id that was written last is the owner.
"""

from collections.abc import Iterator, Mapping
import contextlib
import dataclasses
import fcntl
import os
import secrets
import socket
import time
from typing import Any

from vidjax import storage
from vidjax.errors import UserError

FILE = "run.json"
_LOCK_SECONDS = 10.0  # who holds the lock writes two small files
_PAUSES = (0.0, 1.0, 5.0)  # seconds before each try to read: a store may fail once
_ENDED = ("Z", "X")  # states of processes that only wait for their parents to notice


@dataclasses.dataclass(frozen=True)
class Lease:
  """The claim of one attempt to a workdir.

  Attributes:
    root: the workdir.
    id: of the attempt, random.
    run: of the run, random, from its first attempt on; another run in the same folder, after this
      one was removed, has another one. 31 bits.
    attempt: number of the attempt, from 1.
  """

  root: storage.Path
  id: str
  run: int
  attempt: int

  def to_json(self) -> dict[str, Any]:
    """What `run.json` holds of it."""
    return {"attempt": self.attempt, "id": self.id, "run": self.run, "process": this_process()}

  def lost(self) -> str:
    """Why this attempt may write no more; "" while it may."""
    path, why = self.root / FILE, ""
    for pause in _PAUSES:
      time.sleep(pause)
      try:
        now = read(self.root)
        break
      except Exception as exc:  # whatever a store raises
        why = str(exc)
    else:
      return f"{path} cannot be read, which says whose {self.root} is: {why}"
    if now.get("id") == self.id:
      return ""
    return (
      f"another run, attempt {now.get('attempt')} on {_process(now).get('host')} since"
      f" {now.get('started')}, has taken over {self.root}; this one stops and writes nothing more"
    )


def claim(root: storage.Path) -> Lease:
  """The lease of the attempt that follows those in `run.json`; to be written there.

  Raises:
    UserError: a process of another run is alive in the workdir, or its `run.json` is not readable.
  """
  path = root / FILE
  if not path.exists():
    return Lease(root, secrets.token_hex(8), secrets.randbits(31), 1)
  try:
    before = read(root)
    attempt, run = int(before["attempt"]) + 1, int(before.get("run", secrets.randbits(31)))
  except (ValueError, KeyError, TypeError, AttributeError) as exc:
    raise UserError(
      f"{path} is damaged, it does not say whose {root} is: make sure that no other run trains"
      f" there, and remove the file; attempts are counted from 1 again ({exc})"
    ) from exc
  process = _process(before)
  if process != this_process() and _is_alive(process):
    raise UserError(
      f"{root} is in use: process {process['pid']} on {process['host']} has trained there since"
      f" {before.get('started')} (attempt {before['attempt']}); wait until it ends, stop it with"
      f" kill {process['pid']}, or choose another --workdir"
    )
  return Lease(root, secrets.token_hex(8), run, attempt)


@contextlib.contextmanager
def exclusive(root: storage.Path) -> Iterator[None]:
  """Lets the processes of this host claim a local workdir one after the other.

  Where there are no locks, on object stores and some network file systems, the fence has to do.
  """
  if not storage.is_local(root):
    yield
    return
  folder = os.open(root, os.O_RDONLY)
  try:
    deadline = time.monotonic() + _LOCK_SECONDS
    while time.monotonic() < deadline:
      try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        break
      except BlockingIOError:
        time.sleep(0.05)
      except OSError:
        break
    yield
  finally:
    os.close(folder)


def read(root: storage.Path) -> dict[str, Any]:
  """Content of `run.json`.

  Raises:
    ValueError: it is not a JSON object.
  """
  content = storage.read_json(root / FILE)
  if not isinstance(content, dict):
    raise ValueError(f"{root / FILE} is no JSON object")
  return content


def is_of_another(run: Mapping[str, Any]) -> bool:
  """Whether a `run.json` names another process than this one."""
  return "process" in run and run["process"] != this_process()


def this_process() -> dict[str, Any]:
  """What tells this process from every other one: its number alone is used again."""
  return {
    "host": socket.gethostname(),
    "boot": _boot(),
    "pid": os.getpid(),
    "start_ticks": _start_ticks(os.getpid()),
  }


def _process(run: Mapping[str, Any]) -> dict[str, Any]:
  process = run.get("process")
  return process if isinstance(process, dict) else {}


def _is_alive(process: Mapping[str, Any]) -> bool:
  """Whether a process is provably one of this host that has not ended."""
  pid, ticks = process.get("pid"), process.get("start_ticks")
  here = (process.get("host"), process.get("boot")) == (socket.gethostname(), _boot())
  if not here or not isinstance(pid, int) or not isinstance(ticks, int):
    return False
  return _start_ticks(pid) == ticks


def _start_ticks(pid: int) -> int | None:
  """When a process of this host began, in ticks since the boot; None if it has ended, or no /proc.

  Fields 3 (state) and 22 of proc_pid_stat(5); the name before them may hold spaces and brackets.
  """
  try:
    fields = storage.read_text(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return None if fields[0] in _ENDED else int(fields[19])
  except (OSError, ValueError, IndexError):
    return None


def _boot() -> str:
  """Names the time since the host was started; "" where there is no /proc."""
  try:
    return storage.read_text("/proc/sys/kernel/random/boot_id").strip()
  except OSError:
    return ""
