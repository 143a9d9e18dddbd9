"""Every path of the project: local, `gs://` and `s3://` alike.

All other modules reach files through this one. It promises four things.

* **Whole or absent.** The `write_*` functions, `staged` and `publish` never show a reader half a
  file: a temporary name in the same folder and a rename on a local file system, one PUT of one
  object on an object store.
* **No appending.** Object stores cannot append, so nothing here does. A log that grows (see
  `vidjax.observe.writers`) appends on a local disk and rewrites its newest part elsewhere.
* **Names that files state stay below their folder**: see `below`.
* **One error for a full disk**: `NoSpaceError`, whichever library met it.

Libraries that only know local names (PyAV, ArrayRecord, TensorBoard) read through `local_copy` or
`cached_copy` and write through `staged`, none of which copies anything where the path is local.
"""

from collections.abc import Iterator
import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import re
import shutil
import stat
import tempfile
from typing import Any, BinaryIO, TypeAlias, cast
import uuid

from etils import epath
import fsspec
from fsspec import config as fsspec_config

from vidjax.errors import NoSpaceError, is_no_space

Path = epath.Path
PathLike: TypeAlias = str | os.PathLike[str]

# A remembered listing hides what another host has written since: always ask the store itself.
for _protocol in ("s3", "gs", "gcs"):
  fsspec_config.conf.setdefault(_protocol, {}).setdefault("use_listings_cache", False)

_CHUNK = 1 << 20  # bytes
# No JSON file of a model, data set or run comes near: the index of a model of a million tensors has
# 100 MB. A text of more than this is no such file, and parsed it takes ten times the memory.
MAX_JSON_BYTES = 1 << 28
# Ways out of a folder: absolute names, a home, a drive, "..", another separator, a scheme.
_LEAVES = re.compile(r"^(?:/|~|[A-Za-z]:|$)|(?:^|/)\.\.(?:/|$)|\\|://|\0")
_UNFINISHED = re.compile(r"\.[0-9a-f]{12}\.tmp")  # prefix of the names that `staged` makes


def is_local(path: PathLike) -> bool:
  """Whether `path` is on a mounted file system rather than in an object store."""
  return "://" not in os.fspath(path)


@contextlib.contextmanager
def writing(path: PathLike) -> Iterator[None]:
  """Turns the many ways of saying "disk full" inside the block into `NoSpaceError`."""
  try:
    yield
  except NoSpaceError:
    raise
  except Exception as exc:
    if is_no_space(exc):
      raise NoSpaceError(f"no space left to write {os.fspath(path)}: free some, run again") from exc
    raise


def is_read_only(folder: PathLike) -> bool:
  """Whether a local folder is marked as one in which nobody writes; not so for an object store.

  The superuser could write there all the same, and in containers that is who everybody is.
  """
  if not is_local(folder):
    return False
  return not os.stat(folder).st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH)


def free_space(path: PathLike) -> int | None:
  """Bytes free where `path` is or would be created; None for an object store (no limit known)."""
  if not is_local(path):
    return None
  folder = pathlib.Path(path).absolute()
  while not folder.exists():
    folder = folder.parent
  return shutil.disk_usage(folder).free


def check_below(name: Any, said_by: PathLike, error: type[Exception] = ValueError) -> str:
  """Refuses a file name, as a file states it, that may lead out of the folder it is relative to.

  Args:
    name: relative, with "/" between its parts.
    said_by: the file that states it: a manifest, an index, a table, a listing.
    error: kind of the error.

  Returns:
    `name`.

  Raises:
    `error`: it is absolute, has "..", a Windows separator, drive or scheme, or is no text at all;
      the message says the file and the name.
  """
  if not isinstance(name, str) or _LEAVES.search(name):
    raise error(
      f"{os.fspath(said_by)} names the file {name!r}: only names below its own folder are followed,"
      ' with "/" between their parts and without ".."; correct it if the file is yours'
    )
  return name


def below(
  folder: PathLike, name: Any, said_by: PathLike, error: type[Exception] = ValueError
) -> Path:
  """The file `name` below `folder`; see `check_below`, which every such name goes through."""
  return Path(folder) / check_below(name, said_by, error)


def open_read(path: PathLike) -> BinaryIO:
  """Opens a file for reading bytes; seekable on every kind of path."""
  if is_local(path):
    return open(path, "rb")
  return cast(BinaryIO, _remote(path).open(os.fspath(path), "rb"))


def read_bytes(path: PathLike, limit: int | None = None) -> bytes:
  """Content of a file.

  Raises:
    ValueError: it has more than `limit` bytes; no more than these are read.
  """
  with open_read(path) as file:
    content = file.read() if limit is None else file.read(limit + 1)
  if limit is not None and len(content) > limit:
    raise ValueError(f"{os.fspath(path)} is larger than {limit} bytes, which no such file is")
  return content


def read_text(path: PathLike) -> str:
  """Content of a UTF-8 text file."""
  return read_bytes(path).decode("utf-8")


def read_json(path: PathLike) -> Any:
  """Content of a JSON file.

  Raises:
    ValueError: the file is not JSON, or larger than `MAX_JSON_BYTES`; the message names it.
  """
  content = read_bytes(path, MAX_JSON_BYTES)
  try:
    return json.loads(content.decode("utf-8"))
  except (ValueError, RecursionError) as exc:
    raise ValueError(f"{os.fspath(path)} is not valid JSON: {exc}") from exc


def write_bytes(path: PathLike, content: bytes) -> None:
  """Writes a whole file at once; makes the folders above it.

  Raises:
    NoSpaceError: the disk is full; an older file of this name is untouched.
  """
  with staged(path) as local, writing(path), open(local, "wb") as file:
    file.write(content)


def write_text(path: PathLike, content: str) -> None:
  """Writes a UTF-8 text file at once, see `write_bytes`."""
  write_bytes(path, content.encode("utf-8"))


def write_json(path: PathLike, value: Any) -> None:
  """Writes a JSON file at once, see `write_bytes`; NaN is refused, since JSON has none."""
  write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


@contextlib.contextmanager
def staged(path: PathLike) -> Iterator[str]:
  """Gives a local file name to write to, and puts the file at `path` when the block succeeds.

  The name keeps the suffix of `path`, by which libraries choose the format. When the block fails,
  nothing is left behind and an older file at `path` is untouched. What is at `path` then survives a
  power cut: a rename is atomic only for data that has left the page cache.
  """
  target = Path(path)
  with contextlib.ExitStack() as stack:
    if is_local(path):
      with writing(path):
        target.parent.mkdir(parents=True, exist_ok=True)
      local = os.fspath(target.parent / f".{uuid.uuid4().hex[:12]}.tmp{target.suffix}")
      stack.callback(_remove_quietly, local)
    else:
      folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="vidjax-"))
      local = str(pathlib.Path(folder, target.name))
    with writing(path):
      yield local
      if is_local(path):
        _flush_to_disk(local)
        os.replace(local, path)
      else:
        _remote(path).put_file(local, os.fspath(path))


def publish(local: PathLike, path: PathLike) -> None:
  """Copies a local file, or a folder with all below it, to `path`, each file whole or absent."""
  if not pathlib.Path(local).is_dir():
    with staged(path) as target, writing(path):
      shutil.copyfile(local, target)
    return
  for file in list_files(local):
    publish(file, Path(path) / file.relative_to(local))


@contextlib.contextmanager
def local_copy(path: PathLike) -> Iterator[str]:
  """Gives a local name of a file or folder, for the length of the block.

  A local path is given as it is; a remote one is downloaded and removed again afterwards.
  """
  if is_local(path):
    yield os.fspath(path)
    return
  with tempfile.TemporaryDirectory(prefix="vidjax-") as folder:
    local = pathlib.Path(folder, Path(path).name)
    _download(Path(path), local)
    yield str(local)


def cache_folder() -> Path:
  """Where this machine keeps what can be made again: `$VIDJAX_CACHE`, else `~/.cache/vidjax`."""
  return Path(os.environ.get("VIDJAX_CACHE") or "~/.cache/vidjax").expanduser()


def cached_copy(path: PathLike) -> str:
  """Gives a local name of a file or folder that stays, for weights and shards read at random.

  A local path is given as it is. A remote one is downloaded once per machine and version (size,
  modification time, tag) into `$VIDJAX_CACHE` (default `~/.cache/vidjax`), safely so when several
  processes ask at the same time.
  """
  if is_local(path):
    return os.fspath(path)
  source = Path(path)
  folder = pathlib.Path(cache_folder(), _version(source))
  local = folder / source.name
  if not local.exists():
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".tmp-") as staging:
      part = pathlib.Path(staging, source.name)
      _download(source, part)
      with contextlib.suppress(OSError):  # another process was first: its copy is as good
        part.rename(local)
    assert local.exists(), f"{local} vanished while it was being made"
  return str(local)


def list_files(path: PathLike) -> list[Path]:
  """All files below a folder, at any depth, sorted, without the unfinished ones of `staged`.

  Raises:
    FileNotFoundError: there is no such folder.
  """
  if not is_local(path):
    names = _remote(path).find(os.fspath(path))
    scheme = os.fspath(path).split("://")[0]
    files = [Path(f"{scheme}://{name}") for name in names]
    if not files:
      raise FileNotFoundError(f"no such folder, or nothing in it: {os.fspath(path)}")
  else:
    if not Path(path).is_dir():
      raise FileNotFoundError(f"no such folder: {os.fspath(path)}")
    files = [Path(base, name) for base, _, names in os.walk(path) for name in names]
  return sorted(file for file in files if not _UNFINISHED.match(file.name))


@dataclasses.dataclass(frozen=True)
class FileState:
  """A file below a folder, as its file system knows it without opening it.

  Attributes:
    name: path relative to the folder, with "/" between.
    size: in bytes; -1 for a link that leads nowhere.
    version: changes when the file is written again: modification time or the store's tag.
  """

  name: str
  size: int
  version: str


def file_states(path: PathLike) -> list[FileState]:
  """States of all files below a folder, at any depth, sorted by name; see `list_files`.

  An object store is asked once for all of them, not once for each.

  Raises:
    FileNotFoundError: there is no such folder.
  """
  if is_local(path):
    root, states = pathlib.Path(path), []
    for file in list_files(path):
      name = pathlib.Path(file).relative_to(root).as_posix()
      try:
        status = os.stat(file)
      except OSError:
        states.append(FileState(name, -1, ""))
      else:
        states.append(FileState(name, status.st_size, str(status.st_mtime_ns)))
  else:
    found: Any = _remote(path).find(os.fspath(path), detail=True)
    folder = os.fspath(path).split("://")[1].rstrip("/") + "/"
    states = [
      FileState(name.removeprefix(folder), int(info.get("size") or 0), _tag(info))
      for name, info in found.items()
      if not _UNFINISHED.match(name.rsplit("/", 1)[-1])
    ]
    if not found:
      raise FileNotFoundError(f"no such folder, or nothing in it: {os.fspath(path)}")
  return sorted(states, key=lambda state: state.name)


def remove(path: PathLike) -> None:
  """Removes a file or a folder with all below it; nothing happens where there is none."""
  target = Path(path)
  if target.is_dir():
    target.rmtree(missing_ok=True)
  else:
    target.unlink(missing_ok=True)


def sha256(path: PathLike) -> str:
  """SHA-256 of a file's content in hex, read in pieces."""
  digest = hashlib.sha256()
  with open_read(path) as file:
    while chunk := file.read(_CHUNK):
      digest.update(chunk)
  return digest.hexdigest()


def _remote(path: PathLike) -> fsspec.AbstractFileSystem:
  return fsspec.filesystem(os.fspath(path).split("://")[0])


def _download(source: Path, local: pathlib.Path) -> None:
  """Copies a remote file or folder to a local name."""
  fs = _remote(source)
  with writing(local):
    if not source.is_dir():
      fs.get_file(os.fspath(source), str(local))
      return
    for file in list_files(source):
      # Keys of an object store may be anything: "a/../../b" too.
      target = pathlib.Path(below(local, os.fspath(file.relative_to(source)), source))
      target.parent.mkdir(parents=True, exist_ok=True)
      fs.get_file(os.fspath(file), str(target))


def _version(source: Path) -> str:
  """Name of what a remote file or folder holds now."""
  fs = _remote(source)
  files = list_files(source) if source.is_dir() else [source]
  parts = [os.fspath(source)]
  for file in files:
    info = fs.info(os.fspath(file))
    parts.append(f"{file} {info.get('size')} {_tag(info)}")
  return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _tag(info: dict[str, Any]) -> str:
  """What a store says of the version of an object."""
  return str(info.get("ETag") or info.get("etag") or info.get("md5Hash") or info.get("mtime"))


def _flush_to_disk(local: str) -> None:
  with open(local, "rb") as file:
    os.fsync(file.fileno())


def _remove_quietly(path: str) -> None:
  with contextlib.suppress(FileNotFoundError):
    os.remove(path)
