"""MSR-VTT (Xu et al., CVPR 2016) as it was published: one file of annotations, a folder of videos.

    test_videodatainfo.json or videodatainfo_2016.json
    video7010.mp4 ..., in the folder itself or in one folder below (TestVideo/); also webm and avi

The annotations are an object with `videos` (`video_id`, `split`) and `sentences` (`video_id`,
`caption`, `sen_id`). Videos 0 to 6512 are for training, to 7009 for validation, and 7010 to 9999,
2,990 of them, are the test set. Captions are used word for word, typos and repetitions included.
Their number is 59,794 in papers, so not every video has twenty.

Retrieval papers test on 1,000 of these videos ("1k-A", `MSRVTT_JSFUSION_test.csv`): another test
set, which is refused.
"""

from collections.abc import Mapping, Sequence
import re
from typing import Any

from vidjax import errors, storage
from vidjax.data.sources import media
from vidjax.evaluation.datasets import catalogue, layout
from vidjax.evaluation.datasets.items import Caption, Item, listed
from vidjax.evaluation.datasets.stored import VideoFile

SPLITS = ("train", "val", "test", "all")
# First and last number of a video.
RANGES = {"train": (0, 6512), "val": (6513, 7009), "test": (7010, 9999)}
SUFFIXES = (".mp4", ".webm", ".avi")
_SPLIT_NAMES = {"train": "train", "validate": "val", "val": "val", "test": "test"}
_ANNOTATIONS = {
  "test": ("test_videodatainfo.json", "videodatainfo_2016.json"),
  "train": ("train_val_videodatainfo.json", "videodatainfo_2016.json"),
  "val": ("train_val_videodatainfo.json", "videodatainfo_2016.json"),
  "all": ("videodatainfo_2016.json",),
}
_RETRIEVAL = (
  "the 1,000 videos of retrieval papers ('1k-A'), which are another test set than the 2,990 on"
  " which generation is measured"
)
_VIDEO_ID = re.compile(r"video(\d+)")


def open_msrvtt(
  path: str, split: str = "test", *, annotations: str | None = None, allow_missing: bool = False
) -> catalogue.Dataset:
  """Opens MSR-VTT; reads the annotations, looks at the names of the videos.

  Args:
    path: folder of the videos, or one above it.
    split: "train", "val", "test" or "all".
    annotations: the file; by default one of its official names in `path`, one folder below or
      beside it.
    allow_missing: whether videos that are annotated may be missing.

  Raises:
    ValueError: no such split.
    FileNotFoundError: there is no such folder or file.
    DataError: the annotations have another layout or are those of a retrieval test set, or videos
      are missing; the message names the file and the key, or the first few videos.
  """
  if split not in SPLITS:
    raise ValueError(f"msrvtt: split={split!r}, choose from {', '.join(SPLITS)}")
  if not storage.Path(path).is_dir():
    raise FileNotFoundError(f"data folder {path} does not exist, or is no folder")
  names = [name for name in layout.file_names(path) if name.count("/") <= 1]
  file = annotations or _find_annotations(path, names, split)
  content = _read(file)
  wanted = _of_split(file, content["videos"], split)
  captions = _captions(file, content, wanted)
  files = layout.by_key(
    path,
    (
      (layout.stem(name), name)
      for name in names
      if media.suffix(name) in SUFFIXES and _VIDEO_ID.fullmatch(layout.stem(name))
    ),
  )
  missing = tuple(video for video in wanted if video not in files)
  found = len(wanted) - len(missing)
  hint = f" (the 1,000 that are there may be {_RETRIEVAL})" if found == 1000 else ""
  catalogue.check_missing(path, missing, len(wanted), allow_missing, hint)
  items = tuple(
    Item(video, None, captions[video], VideoFile(str(storage.Path(path) / files[video])))
    for video in wanted
    if video in files
  )
  return catalogue.Dataset(f"msrvtt/{split}", items, len(wanted), missing)


def _find_annotations(path: str, names: Sequence[str], split: str) -> str:
  for wanted in _ANNOTATIONS[split]:
    for name in names:
      if name.rpartition("/")[2] == wanted:
        return str(storage.Path(path) / name)
    if (storage.Path(path).parent / wanted).exists():
      return str(storage.Path(path).parent / wanted)
  official = " or ".join(_ANNOTATIONS[split])
  tables = [name for name in names if media.suffix(name) == ".csv"]
  if tables:
    raise errors.DataError(
      f"{path} holds {tables[0]} and no {official}: such tables are of {_RETRIEVAL}"
    )
  raise errors.DataError(
    f"{path}: no {official} in there, one folder below or beside it; give the file with"
    " annotations="
  )


def _read(file: str) -> dict[str, list[dict[str, Any]]]:
  """Videos and sentences of the annotations, each with the keys that are needed."""
  if media.suffix(file) != ".json":
    raise errors.DataError(
      f"{file} is not the annotations of MSR-VTT, which are JSON: tables such as"
      f" MSRVTT_JSFUSION_test.csv are of {_RETRIEVAL}"
    )
  try:
    content = storage.read_json(file)
  except ValueError as error:
    raise errors.DataError(str(error)) from error
  if not isinstance(content, dict):
    raise errors.DataError(
      f"{file} is a {type(content).__name__} of {len(content)} entries and not the annotations of"
      " MSR-VTT, an object with the keys 'videos' and 'sentences': a copy that was made over, for"
      " captioning or retrieval"
    )
  for key, needed in (
    ("videos", {"video_id": str}),
    ("sentences", {"video_id": str, "caption": str, "sen_id": int}),
  ):
    rows = content.get(key)
    if not isinstance(rows, list) or not rows:
      raise errors.DataError(
        f"{file} has no list {key!r}, it has {', '.join(map(str, content)) or 'nothing'}: not the"
        " annotations of MSR-VTT"
      )
    for number, row in enumerate(rows):
      for name, kind in needed.items():
        if not isinstance(row, dict) or not isinstance(row.get(name), kind):
          raise errors.DataError(f"{file}: {key}[{number}] has no {name!r} ({kind.__name__})")
  return content


def _of_split(file: str, videos: Sequence[Mapping[str, Any]], split: str) -> list[str]:
  """Ids of the videos of a split, by number."""
  numbers: dict[str, int] = {}
  stated = [video for video in videos if "split" in video]
  if stated and len(stated) < len(videos):
    raise errors.DataError(f"{file}: {len(videos) - len(stated)} of the videos have no 'split'")
  for video in videos:
    name = video["video_id"]
    match = _VIDEO_ID.fullmatch(name)
    if not match:
      raise errors.DataError(f"{file}: video_id {name!r} is not 'videoNNNN': not MSR-VTT")
    if name in numbers:
      raise errors.DataError(f"{file}: {name} is in 'videos' twice")
    own = _SPLIT_NAMES.get(str(video["split"])) if stated else _by_number(int(match[1]))
    if own is None:
      raise errors.DataError(
        f"{file}: {name} has split={video.get('split')!r}, which is none of train, validate, test"
      )
    numbers[name] = int(match[1]) if split in (own, "all") else -1
  wanted = sorted((name for name, n in numbers.items() if n >= 0), key=lambda name: numbers[name])
  if not wanted:
    raise errors.DataError(f"{file} has no video of the split {split!r}")
  if split == "test" and len(wanted) == 1000:
    raise errors.DataError(f"{file} has 1,000 test videos: {_RETRIEVAL}")
  return wanted


def _by_number(number: int) -> str | None:
  return next((name for name, (low, high) in RANGES.items() if low <= number <= high), None)


def _captions(
  file: str, content: Mapping[str, Sequence[Mapping[str, Any]]], wanted: Sequence[str]
) -> dict[str, tuple[Caption, ...]]:
  """Captions of the wanted videos, by number of the sentence."""
  known = {video["video_id"] for video in content["videos"]}
  captions: dict[str, list[Caption]] = {video: [] for video in wanted}
  numbers: set[int] = set()
  for sentence in content["sentences"]:
    name, number = sentence["video_id"], sentence["sen_id"]
    if name not in known:
      raise errors.DataError(f"{file}: sen_id {number} is of {name!r}, which is not in 'videos'")
    if number in numbers:
      raise errors.DataError(f"{file}: sen_id {number} is in 'sentences' twice")
    numbers.add(number)
    if name in captions:
      captions[name].append(Caption(sentence["caption"].strip(), number))
  without = [name for name, found in captions.items() if not found]
  if without:
    raise errors.DataError(f"{file}: {listed(without)} without a sentence")
  return {
    name: tuple(sorted(found, key=lambda caption: caption.sen_id))
    for name, found in captions.items()
  }
