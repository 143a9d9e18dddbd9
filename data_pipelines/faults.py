"""Whose fault an exception is: that of the file under way, which costs the file, or the machine's.

Among a hundred million files all kinds of broken ones are found, and each makes another library
raise something else. None of that may end a run. What every other file would meet as well must: a
full disk, a network that is gone, results that cannot be written.
"""

from collections.abc import Iterator
import contextlib
import errno
from typing import Any

from vidjax import errors, storage

_MACHINE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EROFS, errno.ESTALE)
_MAX_TEXT = 500


class FileFaultError(Exception):
  """Work on a file failed because of the file; the text says how."""


class MachineFaultError(Exception):
  """Work on a file met what is no fault of the file; the text says what."""


def is_of_machine(error: BaseException) -> bool:
  """Whether an exception says something of the machine, rather than of a file that is read."""
  if errors.is_no_space(error):
    return True
  if isinstance(error, MachineFaultError | ConnectionError | TimeoutError):
    return True
  return isinstance(error, OSError) and error.errno in _MACHINE


def is_of_file(error: BaseException, path: Any) -> bool:
  """Whether an exception while a file is read is its own fault.

  Local disks fail block by block. What a store raises without naming the file's absence or a right
  that lacks is taken for the store's: if it were gone, all files would be rejected.
  """
  if is_of_machine(error):
    return False
  said_of_it = isinstance(error, FileNotFoundError | PermissionError | ValueError | FileFaultError)
  return storage.is_local(path) or said_of_it


@contextlib.contextmanager
def of_machine() -> Iterator[None]:
  """Makes whatever is raised inside the block the machine's fault: it reads or writes results."""
  try:
    yield
  except Exception as error:
    if is_of_machine(error):
      raise
    raise MachineFaultError(describe(error)) from error


def describe(error: BaseException) -> str:
  """Type and text of an exception in one line of bounded length."""
  text = " ".join((getattr(error, "strerror", None) or str(error)).split())
  return f"{type(error).__name__}: {text}"[:_MAX_TEXT] if text else type(error).__name__
