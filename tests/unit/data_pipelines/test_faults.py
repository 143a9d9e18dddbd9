"""Whose fault an exception is."""

import errno

import pytest

from data_pipelines import faults
from vidjax import errors

EIO = OSError(errno.EIO, "Input/output error")


@pytest.mark.parametrize(
  ("error", "local", "remote"),
  [
    (EIO, True, False),  # a bad sector; of a store it says nothing of the file
    (FileNotFoundError(errno.ENOENT, "gone"), True, True),
    (PermissionError(errno.EACCES, "not yours"), True, True),
    (UnicodeEncodeError("utf-8", "\udce9", 0, 1, "surrogates not allowed"), True, True),
    (RuntimeError("whatever a library says"), True, False),
    (MemoryError("477 GiB"), True, False),
    (OSError(errno.ENOSPC, "No space left on device"), False, False),
    (errors.NoSpaceError("full"), False, False),
    (OSError(errno.EMFILE, "Too many open files"), False, False),
    (TimeoutError("no answer"), False, False),
    (faults.MachineFaultError("no right to write"), False, False),
  ],
)
def test_faults_of_files(error, local, remote):
  assert faults.is_of_file(error, "videos/a.mp4") is local
  assert faults.is_of_file(error, "gs://videos/a.mp4") is remote


def test_errors_of_the_machine_keep_their_kind_where_it_says_so():
  with pytest.raises(errors.NoSpaceError), faults.of_machine():
    raise errors.NoSpaceError("full")
  with pytest.raises(faults.MachineFaultError, match=r"^OSError: Input/output error$"):
    with faults.of_machine():
      raise EIO


def test_descriptions_are_one_bounded_line():
  assert faults.describe(ValueError("a\n  b")) == "ValueError: a b"
  assert faults.describe(MemoryError()) == "MemoryError"
  assert len(faults.describe(ValueError("x" * 10_000))) == 500
