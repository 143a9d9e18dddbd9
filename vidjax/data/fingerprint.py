"""What a checkpoint remembers of its data, so that a run is not continued on other data unnoticed.

A position in the stream means something only for the clips and windows it was counted in. The
fingerprint names them; the path is not part of it, since a data set may be moved.
"""

from collections.abc import Mapping
import dataclasses
from typing import Any

from absl import logging

from vidjax import errors
from vidjax.data import schedule
from vidjax.data.config import DataConfig
from vidjax.data.schedule import Group

_WINDOW_KEYS = ("num_frames", "fps", "fps_choices", "stride", "height", "width", "buckets")
_SET_KEYS = ("kind", "split", "weight", "captions", "template", "flip", "options")


def data_fingerprint(config: DataConfig) -> dict[str, Any]:
  """Describes the data that `config` names, as JSON values.

  Keys: the settings of a window, `images` (how pictures are mixed in), and for each data set those
  of `SetConfig` but its path, `clips` and `usable_clips` (how many), and `content`, a hash of all
  its clips in their order. Keys of a second data set begin with "sets[1].", and so on.

  Raises:
    ValueError, FileNotFoundError, DataError: as `schedule.open_schedule`.
  """
  opened = schedule.open_schedule(config, seed=0)
  found = {key: getattr(config, key) for key in _WINDOW_KEYS}
  images = dataclasses.asdict(config.images)
  images.pop("sets")
  found |= {f"images.{key}": value for key, value in images.items() if opened.images}
  found |= _sets(opened.videos, "sets")
  if opened.images is not None and config.images.sets:
    found |= _sets(opened.images, "images.sets")
  return _as_json(found)


def check_fingerprint(
  stored: Mapping[str, Any], current: Mapping[str, Any], accept_changes: bool = False
) -> None:
  """Refuses to go on if `current` data are not the `stored` ones of a checkpoint.

  Raises:
    DataError: says what changed, unless changes are accepted.
  """
  changes = [
    f"{key} was {stored.get(key)!r}, is {current.get(key)!r}"
    for key in (*current, *(key for key in stored if key not in current))
    if stored.get(key) != current.get(key)
  ]
  if not changes:
    return
  what = f"the data are not those the checkpoint was trained on: {'; '.join(changes)}."
  if accept_changes:
    logging.warning("%s Going on, as data.accept_changes says.", what)
    return
  raise errors.DataError(
    f"{what} Restore the data or the settings, start a new workdir with init_from, or go on all the"
    " same with --config.data.accept_changes=true"
  )


def _sets(group: Group, name: str) -> dict[str, Any]:
  found: dict[str, Any] = {}
  seen: list[Any] = []
  usable: dict[int, int] = {}
  for stream in group.streams:
    for member in stream.members:
      if member.config not in seen:
        seen.append(member.config)
      number = seen.index(member.config)
      usable[number] = usable.get(number, 0) + member.count
      prefix = "" if name == "sets" and not number else f"{name}[{number}]."
      found |= {f"{prefix}{key}": getattr(member.config, key) for key in _SET_KEYS}
      found[f"{prefix}clips"] = len(member.source.listing)
      found[f"{prefix}usable_clips"] = usable[number]
      found[f"{prefix}content"] = member.source.listing.digest[:16]
  return found


def _as_json(value: Any) -> Any:
  """What JSON gives back: lists for tuples."""
  if isinstance(value, Mapping):
    return {key: _as_json(item) for key, item in value.items()}
  if isinstance(value, (list, tuple)):
    return [_as_json(item) for item in value]
  return value
