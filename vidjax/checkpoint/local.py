"""Copies of the training state in the memory of the machines that train, between two checkpoints.

    LOCAL_FOLDER/1f0c.../process_3/1200.npz

Each process writes what its own devices hold, each part once, to a folder of its own on a RAM disk.
A run that starts again on the same machines loses fewer steps than the checkpoints would cost it;
where one machine was replaced, the copies of the others are of no use, and the newest checkpoint
is taken. Zip archives, as `numpy.savez` writes them, hold a CRC-32 of each part, and it is compared
when the part is read.

The newest copy that all processes have stays until all have the next one, so there is room to be
for two. A copy that cannot be written is a warning: it never ends a run.
"""

from collections.abc import Callable
import dataclasses
import hashlib
import json
import os
import secrets
import threading
from typing import Any

from absl import logging
import jax
from jax.experimental import multihost_utils
import jax.numpy as jnp
import numpy as np

from vidjax import storage
from vidjax.checkpoint import layout
from vidjax.parallel import distributed

_VERSION = 1
_HEADER = "header"
_SPARE = 1.05  # of a copy's size has to be free
_OFFERED = 4  # of the copies that a process has, when all look for one they have in common

Part = tuple[tuple[int, int], ...]  # start and stop in each dimension


@dataclasses.dataclass(frozen=True)
class _Header:
  """What a copy says of itself.

  Attributes:
    version: of the format.
    run: random number of the run, see `vidjax.observe.lease`.
    token: random number of the attempt that wrote it, the same on all processes.
    processes: how many there were.
    step: number of updates completed.
    position: where the run was.
    leaves: shape, dtype and parts of each, the parts in the order in which they are stored.
  """

  version: int
  run: int
  token: int
  processes: int
  step: int
  position: dict[str, Any]
  leaves: dict[str, tuple[list[int], str, list[list[list[int]]]]]


class LocalCopies:
  """Copies of one run on one machine; every process of the run makes one and calls it alike.

  Args:
    folder: on a RAM disk.
    workdir: of the run.
    run: random number of the run; copies of another one are removed.

  Attributes:
    why: in words, why `restore` used no copy, or which one.
  """

  def __init__(self, folder: storage.PathLike, workdir: storage.PathLike, run: int):
    path = storage.Path(workdir)
    name = os.fspath(path.absolute() if storage.is_local(workdir) else path)
    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    self._folder = storage.Path(folder) / digest / f"process_{jax.process_index()}"
    self._run = run
    self._token = distributed.from_first(secrets.randbits(31))
    self._writer: threading.Thread | None = None
    self._last, self._is_written = -1, False  # the newest copy, and whether it is there
    self.why = ""
    self._tidy()

  def save(self, step: int, state: Any, position: dict[str, Any]) -> None:
    """Copies the state to the host's memory, and writes it to the RAM disk in the background.

    Args:
      step: number of updates completed.
      state: pytree of `jax.Array`; may be donated when this returns.
      position: as for `Checkpointer.save`.
    """
    self._settle()
    leaves = layout.flatten(state)
    size = sum(shard.data.nbytes for leaf in leaves.values() for shard in _distinct(leaf))
    self._last, self._is_written = step, False
    free = storage.free_space(self._folder)
    if free is not None and free < _SPARE * size:
      logging.warning(
        "no local copy of step %d: %s has %.2f GB free, it needs %.2f GB",
        *(step, self._folder, free / 1e9, size / 1e9),
      )
      return
    parts = _to_host(leaves)
    header = _Header(
      _VERSION,
      self._run,
      self._token,
      jax.process_count(),
      step,
      position,
      {
        name: (list(leaf.shape), str(leaf.dtype), [[list(p) for p in part] for part in parts[name]])
        for name, leaf in leaves.items()
      },
    )
    self._writer = threading.Thread(target=self._write, args=(header, parts), name="local-copy")
    self._writer.start()

  def restore(
    self,
    abstract_state: Any,
    newer_than: int,
    accept: Callable[[dict[str, Any]], None] | None = None,
  ) -> tuple[int, Any, dict[str, Any]] | None:
    """Restores the newest copy that all processes have, whole, and laid out as the run wants it.

    Args:
      abstract_state: the state with `jax.ShapeDtypeStruct` leaves, each with its sharding.
      newer_than: step of the newest checkpoint; a copy that is not newer is not used.
      accept: is shown the position before anything is read, and may raise.

    Returns:
      The step, the state and the position; None where there is no such copy, see `why`.
    """
    wanted = layout.flatten(abstract_state)
    mine = {step: header for step in self._steps() if (header := self._read_header(step))}
    fitting = {s: h for s, h in mine.items() if _fits(h, wanted)}
    common = _in_common([(s, h.token) for s, h in fitting.items()])
    self.why = "not all processes have a local copy of the same step, laid out as now"
    for step in common:
      if step <= newer_than:
        self.why = f"the local copy of step {step} is not newer than the checkpoint"
        break
      header = fitting[step]
      if accept is not None:
        accept(header.position)
      leaves = self._read(header, wanted)
      if distributed.agreed(leaves is not None):
        assert leaves is not None
        self.why = f"from the local copies of step {step}, checkpoints being at {newer_than}"
        self._last, self._is_written = step, True
        return step, layout.unflatten(abstract_state, leaves), header.position
      self.why = f"the local copy of step {step} is damaged on one process"
    return None

  def remove_until(self, step: int) -> None:
    """Removes the copies up to a step: a checkpoint makes them useless."""
    if self._writer is not None:
      self._writer.join()
    for old in self._steps():
      if old <= step:
        storage.remove(self._file(old))

  def forget(self) -> None:
    """Removes all copies: the run has gone back to a checkpoint."""
    if self._writer is not None:
      self._writer.join()
    for step in self._steps():
      storage.remove(self._file(step))
    self._last, self._is_written = -1, False

  def _settle(self) -> None:
    """Keeps the newest copy if all processes have it, else the one before."""
    if self._writer is not None:
      self._writer.join()
    if self._last < 0:
      return
    if distributed.agreed(self._is_written):
      for old in self._steps():
        if old != self._last:
          storage.remove(self._file(old))
    else:
      storage.remove(self._file(self._last))

  def _write(self, header: _Header, parts: dict[str, dict[Part, np.ndarray]]) -> None:
    try:
      arrays: dict[str, Any] = {_HEADER: _as_bytes(np.frombuffer(_to_json(header), np.uint8))}
      for number, (name, of_leaf) in enumerate(parts.items()):
        for i, x in enumerate(of_leaf.values()):
          if jnp.issubdtype(x.dtype, jnp.inexact) and not np.isfinite(x).all():
            logging.warning("no local copy of step %d: NaN or infinity in %s", header.step, name)
            return
          arrays[f"{number}.{i}"] = _as_bytes(x)
      with storage.staged(self._file(header.step)) as path:
        np.savez(path, allow_pickle=False, **arrays)
      self._is_written = True
    except Exception as exc:
      logging.warning("no local copy of step %d: %s", header.step, exc)

  def _read_header(self, step: int) -> _Header | None:
    """What a copy of this run says of itself; None where it is of another or cannot be read."""
    try:
      with storage.open_read(self._file(step)) as file, np.load(file, allow_pickle=False) as npz:
        header = _Header(**json.loads(npz[_HEADER].tobytes()))
    except Exception as exc:  # whatever a damaged archive makes of itself
      logging.warning("local copy of step %d cannot be read: %s", step, exc)
      return None
    is_ours = (header.version, header.run, header.step) == (_VERSION, self._run, step)
    return header if is_ours and header.processes == jax.process_count() else None

  def _read(self, header: _Header, wanted: dict[str, Any]) -> dict[str, jax.Array] | None:
    """All leaves, in their shardings; None where one is damaged."""
    leaves = {}
    try:
      path = self._file(header.step)
      with storage.open_read(path) as file, np.load(file, allow_pickle=False) as npz:
        for number, (name, (shape, dtype, parts)) in enumerate(header.leaves.items()):
          held = {}
          for i, part in enumerate(parts):
            sizes = [stop - start for start, stop in part]
            held[_key(part)] = npz[f"{number}.{i}"].view(np.dtype(dtype)).reshape(sizes)
          leaves[name] = _placed(tuple(shape), wanted[name].sharding, held)
    except Exception as exc:
      logging.warning("local copy of step %d is damaged: %s", header.step, exc)
      return None
    return leaves

  def _tidy(self) -> None:
    """Removes what a killed process left half-written, and copies of other runs."""
    names = [path.name for path in self._folder.iterdir()] if self._folder.is_dir() else []
    kept = {self._file(step).name for step in self._steps() if self._read_header(step)}
    for name in names:
      if name not in kept:
        storage.remove(self._folder / name)

  def _file(self, step: int) -> storage.Path:
    return self._folder / f"{step}.npz"

  def _steps(self) -> list[int]:
    """Steps of the copies of this process, ascending."""
    names = [path.name for path in self._folder.iterdir()] if self._folder.is_dir() else []
    return sorted(int(n[:-4]) for n in names if n.endswith(".npz") and n[:-4].isdecimal())


def _to_json(header: _Header) -> bytes:
  return json.dumps(dataclasses.asdict(header)).encode()


def _as_bytes(x: np.ndarray) -> np.ndarray:
  """The bytes of an array: numpy's files do not know all dtypes."""
  return np.ascontiguousarray(x).reshape(-1).view(np.uint8)


def _key(part: Any) -> Part:
  return tuple((int(start), int(stop)) for start, stop in part)


def _part(index: Any, shape: tuple[int, ...]) -> Part:
  return _key(piece.indices(size)[:2] for piece, size in zip(index, shape, strict=True))


def _distinct(leaf: jax.Array) -> list[Any]:
  """The shards of this process, one for each part of the array."""
  return list({_part(shard.index, leaf.shape): shard for shard in leaf.addressable_shards}.values())


def _to_host(leaves: dict[str, jax.Array]) -> dict[str, dict[Part, np.ndarray]]:
  shards = {name: _distinct(leaf) for name, leaf in leaves.items()}
  for of_leaf in shards.values():
    for shard in of_leaf:
      shard.data.copy_to_host_async()
  return {
    name: {_part(s.index, leaves[name].shape): _fetched(s) for s in of_leaf}
    for name, of_leaf in shards.items()
  }


def _fetched(shard: Any) -> np.ndarray:
  """A shard in memory that nobody will write to: that of a CPU device is donated with it."""
  return np.array(shard.data) if shard.device.platform == "cpu" else np.asarray(shard.data)


def _fits(header: _Header, wanted: dict[str, Any]) -> bool:
  """Whether a copy holds all that the devices of this process are to hold."""
  if header.leaves.keys() != wanted.keys():
    return False
  for name, (shape, dtype, parts) in header.leaves.items():
    asked = wanted[name]
    if (tuple(shape), dtype) != (tuple(asked.shape), str(asked.dtype)):
      return False
    indices = asked.sharding.addressable_devices_indices_map(tuple(asked.shape)).values()
    if not {_part(index, asked.shape) for index in indices} <= {_key(part) for part in parts}:
      return False
  return True


def _placed(
  shape: tuple[int, ...], sharding: jax.sharding.Sharding, held: dict[Part, np.ndarray]
) -> jax.Array:
  return jax.make_array_from_callback(shape, sharding, lambda index: held[_part(index, shape)])


def _in_common(mine: list[tuple[int, int]]) -> list[int]:
  """Steps of the copies that all processes have by step and token, newest first."""
  offer = np.full((_OFFERED, 2), -1, np.int32)
  newest = sorted(mine, reverse=True)[:_OFFERED]
  offer[: len(newest)] = np.asarray(newest, np.int32).reshape(-1, 2)
  if jax.process_count() > 1:
    distributed.meet("local copies")
    offers = multihost_utils.process_allgather(offer)
  else:
    offers = offer[None]
  of_each = [{(int(s), int(t)) for s, t in rows if s >= 0} for rows in offers]
  return [step for step, _ in sorted(set.intersection(*of_each), reverse=True)]
