"""What processes of a run tell each other through the coordination service, devices aside.

The service runs in process 0 and answers also when a device or a collective hangs. Where there is
one process, there is nothing to say.
"""

import itertools
import re
from typing import Any

import jax
from jax._src import distributed  # nothing public gives the client

from vidjax.errors import HangError

_PREFIX = "vidjax/"
_meetings = itertools.count()  # every process meets in the same order


def tell(key: str, text: str) -> None:
  """Leaves `text` under `key` for all processes; the newest stands."""
  client = _client()
  if client is not None:
    client.key_value_set(_PREFIX + key, text, allow_overwrite=True)


def told(folder: str) -> dict[str, str]:
  """What was told under `folder/...`, by the rest of the key; {} if the service is gone."""
  client = _client()
  if client is None:
    return {}
  prefix = f"{_PREFIX}{folder}/"
  try:
    return {key.removeprefix(prefix): text for key, text in client.key_value_dir_get(prefix)}
  except Exception:  # of the C++ client; there is one kind for all that can go wrong
    return {}


def meet(name: str, seconds: float) -> None:
  """Waits until all processes are here.

  Args:
    name: of the occasion, for the message.
    seconds: after which the missing ones are given up; 0 for a day.

  Raises:
    HangError: a process did not come; the message says which, if the service knows.
  """
  client = _client()
  if client is None:
    return
  identity = f"{_PREFIX}{name}/{next(_meetings)}"
  try:
    client.wait_at_barrier(identity, int(1000 * (seconds or 86400)))
  except Exception as error:
    missing = _missing(str(error))
    who = f"process {', '.join(map(str, missing))}" if missing else "another process"
    raise HangError(
      f"{who} did not come to {name!r} within {seconds:g} s (config.deadlines): {error}"
    ) from error


def _client() -> Any:
  return distributed.global_state.client if jax.process_count() > 1 else None


def _missing(message: str) -> list[int]:
  """Numbers of the processes that a message of the service calls late."""
  late = message.partition("timed out task")[2]
  return sorted({int(number) for number in re.findall(r"task:(\d+)", late)})
