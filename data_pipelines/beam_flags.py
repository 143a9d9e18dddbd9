"""Flags of Apache Beam on our command line, checked: Beam ignores those that it does not know."""

import argparse
from collections.abc import Sequence
import difflib
from typing import Any

_OURS = ("--videos", "--out", "--cache", "--config")


def check(beam_flags: Sequence[str], options: Any) -> None:
  """Refuses flags that neither we nor Beam know.

  Args:
    beam_flags: What we do not know.
    options: Beam's class of all options.

  Raises:
    ValueError: names the flag and the nearest one.
  """
  parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, conflict_handler="resolve")
  for group in options.__subclasses__():
    group._add_argparse_args(parser)
  _, unknown = parser.parse_known_args(list(beam_flags))
  if unknown:
    name = unknown[0].partition("=")[0]
    near = difflib.get_close_matches(name, [*_OURS, *parser._option_string_actions], n=1)
    raise ValueError(
      f"unknown flag {name}: " + (f"did you mean {near[0]}?" if near else "see --help")
    )
