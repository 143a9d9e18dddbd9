"""Keeps secrets out of what is printed and stored: command lines, logs, messages, configs.

A secret belongs into the environment or into the files of its service, where the libraries that
need it look. It comes into texts all the same: typed as a flag, as part of a signed URL in the
message of a library, or from the environment. `redact` hides what looks like one, and the values of
environment variables whose names say that they are one; `refuse` lets none into a config.
"""

from collections.abc import Iterator, Mapping, Sequence
import logging
import os
import re
import traceback
from typing import Any

HIDDEN = "[redacted]"

# Names behind which a secret stands. "key" alone names many things, and "tokens" are counted.
_OF_KEYS = r"(?:api|access|secret|private|signing|account)"
_NAMES = (
  rf"(?:[\w.-]*[-_.])?{_OF_KEYS}[-_]?(?:access[-_]?)?key(?:[-_]?id)?"
  r"|(?:[\w.-]*[-_.])?(?:token|secret|passwd|password|credentials?)"
  r"|x-(?:amz|goog|ms)-[\w-]+|awsaccesskeyid|signature|sig"
)
_FLAG = re.compile(rf"--?(?:{_NAMES})", re.I)
# What is put in place of what; \1 stays.
_RULES = tuple(
  (re.compile(pattern, re.I | re.S), put)
  for pattern, put in (
    # scheme://user:password@host and scheme://token@host
    (r"(\b[a-z][a-z0-9+.-]*://)[^\s/@'\"]+@", rf"\1{HIDDEN}@"),
    (r"(\bauthorization['\"]?\s*[:=]\s*)[^'\"\n,}]*['\"]?[^'\"\n,}]+", rf"\1{HIDDEN}"),
    (r"(\bbearer\s+)[\w.~+/=-]{8,}", rf"\1{HIDDEN}"),
    # name=value of flags and URLs, "name": "value" of maps; what is shorter is a number or a word
    (
      rf"(?<!\w)((?:{_NAMES})['\"]?\s*[=:]\s*['\"]?)(?!\[redacted)[^\s'\"&,;)\]}}]{{6,}}",
      rf"\1{HIDDEN}",
    ),
    # what services give a form by which it is known
    (r"\bhf_[A-Za-z0-9]{16,}", HIDDEN),
    (r"\b(?:gh[pousr]_|github_pat_|glpat-|xox[abprs]-|sk-|wandb_v\d_)[\w-]{16,}", HIDDEN),
    (r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b", HIDDEN),
    (r"\bAIza[\w-]{30,}|\bya29\.[\w.-]{16,}", HIDDEN),
    (r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*", HIDDEN),  # JSON web tokens
    (r"(-----BEGIN [A-Z ]*PRIVATE )KEY-----.*?(?:-----END [A-Z ]*KEY-----|\Z)", rf"\1{HIDDEN}"),
  )
)
_VARIABLE = re.compile(
  r"(?:^|_)(?:(?:API|ACCESS|SECRET|PRIVATE|ACCOUNT|SAS)_?KEY|SECRET|TOKEN|PASSWORD|PASSWD)(?:_|$)"
)
_WHERE = re.compile(r"_(?:FILE|PATH|DIR|URI|URL|HOST|ID)$")  # they say where a secret is
_SHORTEST = 8  # letters; a shorter value of a variable stands in many texts by chance


def redact(text: str) -> str:
  """`text` with `HIDDEN` in place of each secret."""
  for value in _of_environment(os.environ):
    text = text.replace(value, HIDDEN)
  for pattern, put in _RULES:
    text = pattern.sub(put, text)
  return text


def redact_command(arguments: Sequence[str]) -> list[str]:
  """A command line without secrets, those included that stand behind their flag."""
  shown, hide = [], False
  for argument in arguments:
    shown.append(HIDDEN if hide and not argument.startswith("-") else redact(argument))
    hide = _FLAG.fullmatch(argument) is not None
  return shown


def redact_values(value: Any) -> Any:
  """JSON-like values with every text redacted."""
  if isinstance(value, Mapping):
    return {key: redact_values(one) for key, one in value.items()}
  if isinstance(value, (list, tuple)):
    return [redact_values(one) for one in value]
  return redact(value) if isinstance(value, str) else value


def refuse(config: Mapping[str, Any]) -> None:
  """Refuses a config with a secret in it: it is stored, copied and shown as it is.

  Raises:
    ValueError: names the key, and not the value.
  """
  for path, name, value in _texts(config, ""):
    stated = f"{name}={value}"
    if redact(stated) != stated:
      raise ValueError(
        f"config.{path} holds what looks like a secret (a key, a token, a password in a URL), and"
        " configs are stored and shown: put it into the environment or into the files of its"
        " service, and write the path without it"
      )


def guard_logs() -> None:
  """Redacts all that this process logs from now on, whichever library logs it."""
  make = logging.getLogRecordFactory()
  if getattr(make, "redacts", False):
    return

  def make_redacted(*args: Any, **kwargs: Any) -> logging.LogRecord:
    record = make(*args, **kwargs)
    try:
      record.msg, record.args = redact(record.getMessage()), None
    except (TypeError, ValueError, KeyError):
      record.msg, record.args = redact(str(record.msg)), None  # a wrong format is no reason to fail
    if record.exc_info and record.exc_info[0]:
      lines = traceback.format_exception(*record.exc_info)
      record.exc_text = redact("".join(lines)).rstrip("\n")  # formatters take it as it is
    return record

  make_redacted.redacts = True  # pyright: ignore[reportFunctionMemberAccess]
  logging.setLogRecordFactory(make_redacted)


def _of_environment(environ: Mapping[str, str]) -> list[str]:
  """Values of variables that are secrets by their names, the longest first."""
  found = {
    value.strip()
    for name, value in environ.items()
    if _VARIABLE.search(name.upper()) and not _WHERE.search(name.upper())
  }
  return sorted((value for value in found if len(value) >= _SHORTEST), key=len, reverse=True)


def _texts(value: Any, path: str) -> Iterator[tuple[str, str, str]]:
  """(dotted path, last name in it, text) of all texts in nested maps and lists."""
  if isinstance(value, Mapping):
    for name, one in value.items():
      yield from _texts(one, f"{path}.{name}" if path else str(name))
  elif isinstance(value, (list, tuple)):
    for one in value:
      yield from _texts(one, path)
  elif isinstance(value, str):
    yield path, path.rpartition(".")[2], value
