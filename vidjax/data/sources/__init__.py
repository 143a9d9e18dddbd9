"""Data sets: one module for each kind, each with a function `open_source`.

shards      what `vidjax curate` writes: encoded clips with their annotations
tfds        any TFDS data set in ArrayRecord files that has videos or images
videos      a folder of video files, captions beside them
images      a folder of pictures
image_text  pictures with texts: folders with a table of captions, WebDataset archives
latents     what `vidjax cache_latents` writes
procedural  moving shapes with captions, cuts, camera motion and known flow; no files
"""

import importlib

from vidjax.data.clip import Source
from vidjax.data.config import KINDS, SetConfig


def open_source(config: SetConfig) -> Source:
  """Opens a data set.

  Raises:
    ValueError: no such kind, or an option that the kind does not know.
    FileNotFoundError: there is no such folder.
    DataError: the data set as a whole cannot be read; the message names file and field.
  """
  if config.kind not in KINDS:
    raise ValueError(f"data kind {config.kind!r}: choose from {', '.join(KINDS)}")
  module = importlib.import_module(f"{__name__}.{config.kind}")
  return module.open_source(config.path, config.split, config.options)
