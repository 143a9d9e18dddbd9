"""Imported by every Python that has this folder on its path: files of some names break decoders.

`crash*` takes the process down when it is opened, `hang*` never comes back, `raise*` raises what no
reader should; `late-crash*` and its like do so only when they are opened for encoding. Only
processes that a process of ours has started for such work are touched.

With HOSTILE_DISK=NAME the disk is full for files below folders of this name. With
HOSTILE_KILL=REGEX a run is killed when it is about to put a file in its place, or to remove a
folder, that matches.
"""

import errno
import os
import pathlib
import re
import shutil
import signal
import sys
import time
import traceback


def _wrapped(original):
  def open_hostile(file, *args, **kwargs):
    name = pathlib.Path(str(file)).name if isinstance(file, str) else ""
    kind = name.removeprefix("late-")
    encodes = any(frame.name == "write_records" for frame in traceback.extract_stack())
    if kind == name or encodes:
      if kind.startswith("crash"):
        os.kill(os.getpid(), signal.SIGSEGV)
      if kind.startswith("hang"):
        time.sleep(1e6)
      if kind.startswith("raise"):
        raise SystemError("an odd file")
    return original(file, *args, **kwargs)

  return open_hostile


if any("multiprocessing" in argument for argument in sys.orig_argv):
  import av

  av.open = _wrapped(av.open)


def _full(original):
  def fsync(fd):
    if f"/{os.environ['HOSTILE_DISK']}/" in os.readlink(f"/proc/self/fd/{fd}"):
      raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return original(fd)

  return fsync


if "HOSTILE_DISK" in os.environ:
  os.fsync = _full(os.fsync)


def _kills(original):
  def put(*args, **kwargs):
    if re.search(os.environ["HOSTILE_KILL"], str(args[-1])):
      os.kill(os.getpid(), signal.SIGKILL)
    return original(*args, **kwargs)

  return put


if "HOSTILE_KILL" in os.environ and not any("multiprocessing" in arg for arg in sys.orig_argv):
  os.replace = _kills(os.replace)
  shutil.rmtree = _kills(shutil.rmtree)
