"""What is done when the command has ended: by its exit code, and by whether it came any further."""

from collections.abc import Callable
import dataclasses
import random

PREEMPTED = 75
INTERRUPTED = 130

CHECKPOINT = 4

# Exit codes by which the command says that another try would end alike, or that it has to be looked
# at first. All others are tried again; so is a checkpoint that could not be written by a run that
# has come further, since a store that is away for a while may be the cause.
STOP = {
  2: "bad input or config",
  CHECKPOINT: "checkpoint",
  5: "loss not finite, also after going back",
  7: "no space left",
  126: "the command cannot be run",
  127: "the command is not there",
  INTERRUPTED: "interrupted",
}
RESTART = {
  1: "internal error",
  3: "data",
  6: "it hung, says its watchdog",
  PREEMPTED: "preempted, state saved",
}


@dataclasses.dataclass(frozen=True)
class Decision:
  """What comes next.

  Attributes:
    action: "done", "stop" or "restart".
    code: with which the supervisor ends, unless it restarts.
    why: in words.
    delay: seconds before the restart.
  """

  action: str
  code: int
  why: str
  delay: float = 0.0


@dataclasses.dataclass(frozen=True)
class Limits:
  """How patient a supervisor is.

  Attributes:
    max_failures: so many ends in a row without progress are the last.
    first_delay: seconds before the first restart; each one doubles it until there is progress.
    max_delay: seconds, at most.
  """

  max_failures: int = 5
  first_delay: float = 1.0
  max_delay: float = 60.0


class Policy:
  """Decides, and counts failures without progress.

  Args:
    limits: see there.
    progress: newest step before the first start; None if there is none.
    draw: uniform numbers in [0, 1): delays are jittered, so that processes of a run that failed
      together do not all come back at the same moment.
  """

  def __init__(
    self, limits: Limits, progress: int | None, draw: Callable[[], float] = random.random
  ):
    self._limits, self._draw = limits, draw
    self._best = -1 if progress is None else progress
    self.failures = 0

  def decide(self, code: int, progress: int | None) -> Decision:
    """What to do after an end.

    Args:
      code: exit code, or minus the number of the signal that ended it.
      progress: the newest step that the run has come to; None if unknown.
    """
    came_further = progress is not None and progress > self._best
    if progress is not None and came_further:
      self._best, self.failures = progress, 0
    if code == 0:
      return Decision("done", 0, "done")
    why, code_out = meaning(code), shell_code(code)
    if code in STOP and not (code == CHECKPOINT and came_further):
      return Decision("stop", code_out, why)
    self.failures += 1
    if self.failures >= self._limits.max_failures:
      at = f"step {self._best}" if self._best >= 0 else "no step"
      text = f"{why}; {self.failures} failures in a row without progress, which is at {at}"
      return Decision("stop", code_out, text)
    return Decision("restart", code_out, why, 0.0 if code == PREEMPTED else self._delay())

  def _delay(self) -> float:
    """Between half and all of a bound that doubles with each failure."""
    doublings = min(self.failures - 1, 30)  # of more, the float would overflow some day
    bound = min(self._limits.max_delay, self._limits.first_delay * 2**doublings)
    return bound * (0.5 + 0.5 * self._draw())


def shell_code(code: int) -> int:
  """The exit code by which a shell says `code`: 128 + n for signal n."""
  return 128 - code if code < 0 else code


def meaning(code: int) -> str:
  """An exit code in words."""
  if code < 0 or (code > 128 and code not in STOP):
    return f"ended by signal {-code if code < 0 else code - 128}"
  return f"exit code {code}: {(STOP | RESTART).get(code, 'unknown')}"
