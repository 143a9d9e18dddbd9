"""Data sets of evaluation, read as they lie on disk.

ucf101   UCF-101: the tree of classes or one folder of avi, with the official lists; or TFDS's
msrvtt   MSR-VTT: the official annotations and a folder of videos
folder   any folder of videos, of folders of pictures, or of NumPy files
"""

from collections.abc import Callable, Mapping
from typing import Any

from vidjax.evaluation.datasets.catalogue import Dataset
from vidjax.evaluation.datasets.folder import open_folder
from vidjax.evaluation.datasets.items import (
  Caption,
  Clip,
  ClipRule,
  Item,
  draw_captions,
  read_clip,
)
from vidjax.evaluation.datasets.msrvtt import open_msrvtt
from vidjax.evaluation.datasets.ucf101 import open_ucf101

__all__ = [
  "KNOWN",
  "Caption",
  "Clip",
  "ClipRule",
  "Dataset",
  "Item",
  "draw_captions",
  "open_dataset",
  "read_clip",
]

# Name -> what opens it, and the options that it has besides path, split and allow_missing.
KNOWN: Mapping[str, tuple[Callable[..., Dataset], tuple[str, ...]]] = {
  "ucf101": (open_ucf101, ("fold", "lists", "fps")),
  "msrvtt": (open_msrvtt, ("annotations",)),
  "folder": (open_folder, ("fps",)),
}


def open_dataset(
  name: str, path: str, split: str | None = None, *, allow_missing: bool = False, **options: Any
) -> Dataset:
  """Opens a data set of a known name; reads its lists and annotations, and no video.

  Args:
    name: of `KNOWN`.
    path: local or remote.
    split: None takes the usual one: all of UCF-101 and of a folder, the test set of MSR-VTT.
    allow_missing: whether videos may be missing; they are named in `Dataset.missing`.
    **options: see `KNOWN` and the function that it names.

  Raises:
    ValueError: no such name, option or split.
    FileNotFoundError: there is no such folder.
    DataError: what is there is not this data set, or not all of it.
  """
  if name not in KNOWN:
    raise ValueError(f"data set {name!r} is not known: choose from {', '.join(KNOWN)}")
  opener, known = KNOWN[name]
  for option in options:
    if option not in known:
      raise ValueError(f"data set {name!r} has no option {option!r}: it knows {', '.join(known)}")
  if split is not None:
    options["split"] = split
  return opener(path, allow_missing=allow_missing, **options)
