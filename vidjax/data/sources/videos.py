"""A folder of video files, captions beside them (`vidjax.data.sources.sidecar`)."""

from collections.abc import Mapping
from typing import Any

from vidjax.data.sources import folder, media
from vidjax.data.sources import options as data_options


def open_source(path: str, split: str, options: Mapping[str, Any]) -> folder.FileSource:
  """Opens the videos below `path/split`, or `path` where there is no such folder.

  The digest is of relative paths, sizes in bytes and captions, in their order.

  Raises:
    ValueError: an option, of which there are none.
    FileNotFoundError, DataError: see `folder.open_tree`.
  """
  data_options.check("videos", options, ())
  return folder.open_tree(path, split, "videos", media.VIDEO_SUFFIXES)
