"""What can go wrong, as exceptions with exit codes, and how a command ends.

The exit codes are an interface: launchers and schedulers decide by them whether to restart
(`launch/supervise.py`).

    0 done                  3 data               6 watchdog (hang)        75 preempted, state saved:
    1 internal error        4 checkpoint         7 no space left             run the same again
    2 bad input or config   5 non-finite loss                            130 interrupted
"""

from collections.abc import Callable, Iterator
import contextlib
import dis
import errno
import os
import re
import socket
import sys
import traceback

from absl import app, flags

from vidjax import redaction

INTERNAL = 1
HANG = 6  # the watchdog leaves through os._exit with this code: no thread can raise in another


class UserError(ValueError):
  """Bad input or config: what the user wrote has to change. Exit code 2."""

  exit_code = 2


class DataError(Exception):
  """The data cannot be read, or too much of it is broken. Exit code 3."""

  exit_code = 3


class CheckpointError(Exception):
  """A checkpoint is missing, damaged or does not fit the model. Exit code 4."""

  exit_code = 4


class NonFiniteError(Exception):
  """The loss stayed infinite or NaN for longer than the config allows. Exit code 5."""

  exit_code = 5


class HangError(Exception):
  """Another process is gone, or did not come to where all meet. Exit code 6, as the watchdog's."""

  exit_code = HANG


class NoSpaceError(OSError):
  """The file system is full, or will be before the write is over. Exit code 7."""

  exit_code = 7


class Preempted(Exception):  # noqa: N818  (an ending, not an error)
  """The machine is being taken away and the state is saved: run the same command again. Code 75."""

  exit_code = 75


class Interrupted(Exception):  # noqa: N818
  """The user stopped the run. Exit code 130, like KeyboardInterrupt."""

  exit_code = 130


_OURS = (
  UserError,
  DataError,
  CheckpointError,
  NonFiniteError,
  HangError,
  NoSpaceError,
  Preempted,
  Interrupted,
)


# How stores and networks say that they are away: numbers, the libraries of object stores, and the
# words of those in C++ (tensorstore) and of Python as it ends.
_AWAY = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EHOSTDOWN, errno.ENETDOWN, errno.ESTALE)
_CLIENTS = re.compile(r"(aiohttp|botocore|gcsfs|google\.auth|requests|urllib3)\b")
_MISSING = re.compile(r"\b(NOT_FOUND|NoSuchKey|NoSuchBucket)\b")
_NO_ANSWER = re.compile(
  r"\b(UNAVAILABLE|DEADLINE_EXCEEDED|PERMISSION_DENIED|UNAUTHENTICATED|RESOURCE_EXHAUSTED)\b"
  r"|cannot schedule new futures"
)


def is_no_space(exc: BaseException) -> bool:
  """Whether `exc`, or what caused it, says that a disk or quota is full.

  Libraries written in C++ (tensorstore, and so Orbax) report it as text, not as an errno.
  """
  for seen in _with_causes(exc):
    if isinstance(seen, NoSpaceError):
      return True
    if isinstance(seen, OSError) and seen.errno in (errno.ENOSPC, errno.EDQUOT):
      return True
    text = str(seen)
    if "No space left on device" in text or "Disk quota exceeded" in text:
      return True
  return False


def is_unreachable(exc: BaseException) -> bool:
  """Whether `exc`, or what caused it, says that nothing could be read, not that anything is bad.

  A store that does not answer or knows us no longer, a network that is away, and reads that are
  cut off as Python ends. What is not there, or makes no sense, is another matter.
  """
  for seen in _with_causes(exc):
    status = getattr(seen, "status", None) or getattr(seen, "code", None)  # of HTTP
    if isinstance(seen, FileNotFoundError) or status == 404 or _MISSING.search(str(seen)):
      return False
    if isinstance(seen, (ConnectionError, TimeoutError, PermissionError, socket.gaierror)):
      return True
    if isinstance(seen, OSError) and seen.errno in _AWAY:
      return True
    if _CLIENTS.match(type(seen).__module__) or _NO_ANSWER.search(str(seen)):
      return True
  return False


def _with_causes(exc: BaseException) -> Iterator[BaseException]:
  """`exc`, its cause, the cause of that, and so on; one that was raised twice may be its own."""
  passed: set[int] = set()
  seen: BaseException | None = exc
  while seen is not None and id(seen) not in passed:
    yield seen
    passed.add(id(seen))
    seen = seen.__cause__ or seen.__context__


def exit_code(exc: BaseException) -> int:
  """Exit code with which a command ends that was left by `exc`."""
  if isinstance(exc, SystemExit):
    return exc.code if isinstance(exc.code, int) else int(exc.code is not None)
  if isinstance(exc, KeyboardInterrupt):
    return Interrupted.exit_code
  if isinstance(exc, _OURS):
    return exc.exit_code
  if is_no_space(exc):
    return NoSpaceError.exit_code
  if isinstance(exc, (flags.Error, app.UsageError)):
    return UserError.exit_code
  if isinstance(exc, (FileNotFoundError, PermissionError, NotADirectoryError, IsADirectoryError)):
    # With a file name it is about a path somebody gave; without one it is about our own machinery.
    return UserError.exit_code if exc.filename is not None or exc.errno is None else INTERNAL
  if isinstance(exc, ValueError) and _raised_by_us(exc):
    return UserError.exit_code
  return INTERNAL


def of_code(code: int) -> type[Exception]:
  """The exception that ends a command with `code`; RuntimeError where none of ours does."""
  return next((kind for kind in _OURS if kind.exit_code == code), RuntimeError)


def run_main(main: Callable[..., int | None], *args, debug: bool | None = None) -> int:
  """Runs `main(*args)` and returns the exit code; every command ends through here.

  An expected failure is one clear line on stderr. An internal error keeps its traceback, and so
  does everything under `debug`. Secrets are hidden in both.

  Args:
    main: body of a command; its return value (None is 0) is the exit code.
    *args: passed on to `main`.
    debug: show tracebacks for expected failures, too; by default, whether `--debug` is on the
      command line or `VIDJAX_DEBUG=1` in the environment.
  """
  if debug is None:
    debug = "--debug" in sys.argv or os.environ.get("VIDJAX_DEBUG", "") not in ("", "0")
  try:
    return main(*args) or 0
  except SystemExit as exc:
    if isinstance(exc.code, str):
      print(exc.code, file=sys.stderr)
    return exit_code(exc)
  except BaseException as exc:
    code = exit_code(exc)
    if debug or code == INTERNAL:
      lines = traceback.format_exception(exc)
      print(redaction.redact("".join(lines)), end="", file=sys.stderr)
    with contextlib.suppress(BrokenPipeError):
      print(_one_line(exc, code), file=sys.stderr, flush=True)
    return code


def _one_line(exc: BaseException, code: int) -> str:
  text = redaction.redact(" ".join(str(exc).split()))
  if isinstance(exc, KeyboardInterrupt):
    return "vidjax: interrupted"
  if code == INTERNAL:
    return f"vidjax: internal error: {type(exc).__name__}: {text}"
  if isinstance(exc, (Preempted, Interrupted)):
    return f"vidjax: {text}"
  return f"vidjax: error: {text}"


def _raised_by_us(exc: BaseException) -> bool:
  """Whether a `raise` statement of this project made `exc`.

  A ValueError of our validation speaks to the user; one that jax or numpy raised about a shape is
  a bug. Looking only at whose frame comes last does not tell them apart, since jax removes its own
  frames: the last instruction has to be a `raise`.
  """
  tb = exc.__traceback__
  if tb is None:
    return False
  while tb.tb_next is not None:
    tb = tb.tb_next
  module = tb.tb_frame.f_globals.get("__name__", "")
  name = tb.tb_frame.f_code.co_filename if module == "__main__" else module
  ours = any(part in name for part in ("vidjax", "data_pipelines", "configs", "demo"))
  return ours and tb.tb_frame.f_code.co_code[tb.tb_lasti] == dis.opmap["RAISE_VARARGS"]
