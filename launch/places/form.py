"""What a place makes of a training run."""

from collections.abc import Mapping
import dataclasses

from vidjax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Launch:
  """How a run is started somewhere.

  Attributes:
    files: content of the files that the commands read, by name.
    commands: programs with their arguments, run one after the other; none of them goes through a
      shell.
    watch: commands for a person who wants to see it.
    stop: commands that end it, the state saved.
    resume: how it goes on after that, in words.
    notes: what else is worth knowing before.
    replaces: the last command takes the place of this process, and its exit code is the run's.
  """

  files: Mapping[str, str]
  commands: tuple[tuple[str, ...], ...]
  watch: tuple[str, ...]
  stop: tuple[str, ...]
  resume: str
  notes: tuple[str, ...] = ()
  replaces: bool = False


def needs(place: str, **values: str) -> None:
  """Refuses a description that leaves out what a place cannot do without.

  Raises:
    UserError: names the keys; a double underscore in a name of `values` is the dot of a key.
  """
  missing = [key.replace("__", ".") for key, value in values.items() if not value]
  if missing:
    raise UserError(f"--on={place} needs the key {' and '.join(map(repr, missing))}")
