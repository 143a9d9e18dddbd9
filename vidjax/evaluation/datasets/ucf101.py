"""UCF-101 (Soomro et al., 1212.0402) as its archives unpack, or as TFDS has prepared it.

    UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi   or all files in one folder
    ucfTrainTestlist/{classInd,trainlist01..03,testlist01..03}.txt

The lists may be in the folder, beside it, or somewhere else. They are the user's: which videos a
split has, and how many of each class, is said by them and not by the files that are there. All 101
classes together are the training and the test list of any one fold, 13,320 videos.

The lists write `HandstandPushups/v_HandStandPushups_g01_c01.avi`, so names are compared without
regard to case.

A TFDS data set holds frames that were stored as JPEG (its `_256` config also squashes them to
squares): another real set, and its name says so.
"""

from collections.abc import Mapping, Sequence
import itertools
import re

from vidjax import errors, storage
from vidjax.data.sources import media
from vidjax.evaluation import ucf101_sentences
from vidjax.evaluation.datasets import catalogue, layout, records
from vidjax.evaluation.datasets.items import Item
from vidjax.evaluation.datasets.stored import VideoFile

SPLITS = ("train", "test", "all")
FOLDS = (1, 2, 3)
TOTAL = 13_320
LISTS = "ucfTrainTestlist"
# In the order of the class index, from 0.
CLASSES = tuple(line.split("\t")[0] for line in ucf101_sentences.SENTENCES.splitlines())
_NAME = re.compile(r"v_(?P<label>\w+?)_g\d+_c\d+", re.IGNORECASE)


def open_ucf101(
  path: str,
  split: str = "all",
  *,
  fold: int = 1,
  lists: str | None = None,
  fps: float | None = None,
  allow_missing: bool = False,
) -> catalogue.Dataset:
  """Opens UCF-101; looks at names only.

  Args:
    path: the folder of the videos, or one above it; or that of a version of a TFDS data set.
    split: "train", "test" or "all", which is both.
    fold: which of the three official pairs of lists.
    lists: folder of the lists; by default `ucfTrainTestlist` in `path` or beside it, or another
      folder in `path` that holds them. Without lists only "all" can be opened, and only if it is
      whole.
    fps: of a TFDS data set, which does not store it (the files say theirs: 25 or 29.97).
    allow_missing: whether videos of the lists may be missing.

  Raises:
    ValueError: no such split or fold; `fps` for files.
    FileNotFoundError: there is no such folder.
    DataError: the layout is another one, or videos are missing; the message names the first few.
  """
  if split not in SPLITS:
    raise ValueError(f"ucf101: split={split!r}, choose from {', '.join(SPLITS)}")
  if fold not in FOLDS:
    raise ValueError(f"ucf101: fold={fold!r}, there are the lists 1, 2 and 3")
  folder = _lists_folder(path, lists)
  classes = CLASSES if folder is None else _read_classes(folder)
  listed = {} if folder is None else _read_lists(folder, split, fold, classes)
  name = f"ucf101/{split}" if split == "all" else f"ucf101/{split}{fold:02d}"
  histogram = catalogue.histogram(listed.values())
  if (storage.Path(path) / "dataset_info.json").exists():
    found = records.open_records(path, "train+test" if split == "all" else split, fps)
    if listed and len(found.items) != len(listed):
      raise errors.DataError(
        f"{path} holds {len(found.items)} videos of the split {split!r}, the lists in {folder} name"
        f" {len(listed)}: prepared from another fold, or from a part"
      )
    origin = f"{name} (TFDS {found.name}, {found.encoding} frames)"
    count = len(found.items)
    return catalogue.Dataset(origin, found.items, count, (), histogram, classes)
  if fps is not None:
    raise ValueError(f"ucf101: fps={fps} is for TFDS data sets; the files in {path} say theirs")
  files = _files(path)
  if folder is None:
    listed = _without_lists(path, split, files)
    histogram = catalogue.histogram(listed.values())
  missing = tuple(video for video in listed if video.lower() not in files)
  catalogue.check_missing(path, missing, len(listed), allow_missing)
  items = tuple(
    Item(video, label, (), VideoFile(str(storage.Path(path) / files[video.lower()])))
    for video, label in listed.items()
    if video.lower() in files
  )
  return catalogue.Dataset(name, items, len(listed), missing, histogram, classes)


def _lists_folder(path: str, given: str | None) -> str | None:
  """Folder of the lists; None where there are none."""
  root = storage.Path(path)
  if not root.is_dir():
    raise FileNotFoundError(f"data folder {path} does not exist, or is no folder")
  beside = [root / LISTS, root, root.parent / LISTS]
  # Folders in it are asked last, and only where need be: there may be a hundred classes.
  usual = itertools.chain(beside, (child for child in root.iterdir() if child.is_dir()))
  for folder in usual if given is None else [storage.Path(given)]:
    if (folder / "testlist01.txt").exists() or (folder / "trainlist01.txt").exists():
      return str(folder)
  if given is not None:
    raise errors.DataError(f"{given} holds neither trainlist01.txt nor testlist01.txt")
  return None


def _lines(file: str) -> list[list[str]]:
  """Words of the lines of a list."""
  try:
    text = storage.read_text(file)
  except (FileNotFoundError, UnicodeDecodeError) as error:
    raise errors.DataError(f"{file} cannot be read: {error}") from error
  return [line.split() for line in text.splitlines() if line.strip()]


def _read_classes(folder: str) -> tuple[str, ...]:
  """Names of the classes in the order of `classInd.txt`; ours, which are the same, without it."""
  file = storage.Path(folder) / "classInd.txt"
  if not file.exists():
    return CLASSES
  lines = _lines(str(file))
  for number, words in enumerate(lines, 1):
    if len(words) != 2 or words[0] != str(number):
      raise errors.DataError(f"{file}:{number}: {' '.join(words)!r} is not '{number} ClassName'")
  return tuple(words[1] for words in lines)


def _read_lists(folder: str, split: str, fold: int, classes: Sequence[str]) -> dict[str, str]:
  """Videos of a split -> their classes, by name of the video."""
  by_name = {name.lower(): number for number, name in enumerate(classes, 1)}
  found: dict[str, str] = {}
  for part in ("train", "test") if split == "all" else (split,):
    file = f"{storage.Path(folder) / part}list{fold:02d}.txt"
    for number, words in enumerate(_lines(file), 1):
      label, _, video = words[0].rpartition("/")
      index = by_name.get(label.lower())
      if index is None or not _NAME.fullmatch(layout.stem(video)):
        raise errors.DataError(
          f"{file}:{number}: {words[0]!r} is not 'Class/v_Class_gNN_cNN.avi' with a known class"
        )
      if len(words) > 1 and words[1] != str(index):
        raise errors.DataError(
          f"{file}:{number}: {words[0]} has the label {words[1]}, by the class index it is {index}"
        )
      if layout.stem(video) in found:
        raise errors.DataError(f"{file}:{number}: {video} is in the lists of this split twice")
      found[layout.stem(video)] = classes[index - 1]
  return dict(sorted(found.items()))


def _files(path: str) -> dict[str, str]:
  """Files of the videos, by id in small letters."""
  names = layout.file_names(path)
  videos = [name for name in names if _NAME.fullmatch(layout.stem(name))]
  avi = [name for name in videos if media.suffix(name) == ".avi"]
  if not avi and videos:
    raise errors.DataError(
      f"{path} holds no avi but {videos[0]}: a copy in another format is another real set; open it"
      " as 'folder'"
    )
  if not avi:
    raise errors.DataError(
      f"{path} is not UCF-101: no v_Class_gNN_cNN.avi in there or below, and no dataset_info.json"
    )
  return layout.by_key(path, ((layout.stem(name).lower(), name) for name in avi))


def _without_lists(path: str, split: str, files: Mapping[str, str]) -> dict[str, str]:
  """All videos -> their classes, by the names of the files alone."""
  if split != "all":
    raise errors.DataError(
      f"{path}: the split {split!r} is said by the official lists, and no {LISTS} is in there or"
      " beside it; give its place with lists="
    )
  if len(files) != TOTAL:
    raise errors.DataError(
      f"{path} holds {len(files)} of {TOTAL} videos, and no {LISTS} is in there or beside it that"
      " would say which are missing; give its place with lists="
    )
  by_name = {name.lower(): name for name in CLASSES}
  found = {}
  for name in files.values():
    match = _NAME.fullmatch(layout.stem(name))
    label = by_name.get(match["label"].lower()) if match else None
    if label is None:
      raise errors.DataError(f"{path} holds {name}, whose name has none of the 101 classes")
    found[layout.stem(name)] = label
  return dict(sorted(found.items()))
