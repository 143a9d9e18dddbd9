"""What a checkpoint remembers of its data, so that a run is not continued on other data unnoticed.

A position in the stream means something only for the clips and windows it was counted in. The
fingerprint names them; the path is not part of it, since a data set may be moved.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from vidjax import errors
from vidjax.data import sources, windows

if TYPE_CHECKING:
  from vidjax.config import DataConfig  # at run time it would bring JAX into every worker

_WINDOW_KEYS = ("split", "num_frames", "fps", "height", "width", "flip")


def data_fingerprint(config: "DataConfig") -> dict[str, Any]:
  """Describes the data that `config` names, as JSON values.

  Keys: the settings of a window (`split, num_frames, fps, height, width, flip`), `clips` and
  `usable_clips` (how many), and `content`, a hash of all records in their order.

  Raises:
    FileNotFoundError: there is no such folder.
    DataError: shards are missing or cannot be opened.
  """
  index = sources.load_index(config.path, config.split)
  grid = windows.WindowGrid(config.num_frames, config.fps)
  return {
    **{key: getattr(config, key) for key in _WINDOW_KEYS},
    "clips": len(index.durations_s),
    "usable_clips": int(np.count_nonzero(grid.fits(index.durations_s))),
    "content": index.digest[:16],
  }


def check_fingerprint(stored: Mapping[str, Any], current: Mapping[str, Any]) -> None:
  """Refuses to go on if `current` data are not the `stored` ones of a checkpoint.

  Raises:
    DataError: says what changed.
  """
  changes = [
    f"{key} was {stored.get(key)!r}, is {current.get(key)!r}"
    for key in (*current, *(key for key in stored if key not in current))
    if stored.get(key) != current.get(key)
  ]
  if changes:
    raise errors.DataError(
      f"the data are not those the checkpoint was trained on: {'; '.join(changes)}."
      " Restore the data or the settings, or start a new workdir with init_from"
    )
