"""How each verb starts: absl flags, `--config.a.b=value` overrides, exit codes.

A verb module defines its flags, a `main()` that reads them, and ends with `command.run(main)`.
"""

from collections.abc import Callable, Sequence
import os
import signal
import sys
from typing import NoReturn

from absl import app, flags, logging

from vidjax import errors, redaction

_OVERRIDE = "--config."


def run(
  main: Callable[[], None],
  *,
  pass_unknown: bool = False,
  depart: Callable[[int], None] | None = None,
) -> NoReturn:
  """Parses the command line, runs `main`, and exits with the documented code.

  Args:
    main: the verb. Raises what `vidjax.errors` knows.
    pass_unknown: unknown flags are kept for `unknown_flags()` instead of being an error (Beam's).
    depart: called with the exit code when all is said; may end the process in a way of its own.
  """

  def parse(argv: Sequence[str]) -> list[str]:
    known, _overrides[:] = _split_overrides(argv)
    try:
      rest = flags.FLAGS(known, known_only=pass_unknown)
    except flags.Error as error:
      print(
        f"vidjax: error: {redaction.redact(str(error))}\nsee --help for all flags", file=sys.stderr
      )
      sys.exit(2)
    if len(rest) > 1 and not pass_unknown:
      print(f"vidjax: error: {rest[1]!r} is not a flag; flags start with --", file=sys.stderr)
      sys.exit(2)
    if not flags.FLAGS["verbosity"].present:
      # Libraries narrate at INFO; what a user has to read is printed. --verbosity=0 brings it back.
      logging.set_verbosity(logging.WARNING)
    _unknown[:] = rest[1:]
    return rest

  def verb(_: Sequence[str]) -> NoReturn:
    redaction.guard_logs()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    code = errors.run_main(main)
    if depart is not None:
      depart(code)
    if code == errors.Interrupted.exit_code:
      # Native threads may be at work still, compiling or writing. The interpreter's way out would
      # take the memory from under them and end in a crash instead of this code.
      sys.stdout.flush()
      sys.stderr.flush()
      os._exit(code)
    sys.exit(code)

  app.run(verb, flags_parser=parse)
  raise AssertionError("app.run exits")


_overrides: list[str] = []
_unknown: list[str] = []


def config_overrides() -> list[str]:
  """The `a.b=value` of each `--config.a.b=value` on the command line."""
  return list(_overrides)


def unknown_flags() -> list[str]:
  """What `run(..., pass_unknown=True)` did not know."""
  return list(_unknown)


def _split_overrides(argv: Sequence[str]) -> tuple[list[str], list[str]]:
  known, overrides = [], []
  for arg in argv:
    if arg.startswith(_OVERRIDE) and not arg.startswith(_OVERRIDE + "/"):
      overrides.append(arg[len(_OVERRIDE) :])
    else:
      known.append(arg)
  return known, overrides
