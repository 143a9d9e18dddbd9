"""A folder of videos of one's own: encoded files, folders of pictures, or arrays.

    FOLDER/[CLASS/]x.mp4            a video; also avi, webm, mkv, mov, gif
    FOLDER/[CLASS/]x/0001.png       a folder of pictures is a video; png, jpg, in natural order
    FOLDER/[CLASS/]x.npy            (T, H, W, 3) uint8, or many of them, (N, T, H, W, 3); also npz
    FOLDER/captions.{json,csv,txt}  texts by id, if there are any
    FOLDER/fps.json                 the rate of pictures and arrays: a number, or an object of ids

The id of a video is its path without the suffix, `CLASS/x`, and `x[3]` is the fourth of a file of
many. Its class is the folder that it lies in; at the top it has none.

`captions.json` is an object of id -> text, or a list of texts; `captions.csv` has a line of names
with `id` and `caption`; `captions.txt` has a tabulator between id and text. An id may come more
than once, and with the suffix of its file.
"""

from collections.abc import Callable, Iterator
import csv
import io
import json
import re
from typing import Any

from vidjax import errors, storage
from vidjax.data.sources import media
from vidjax.evaluation.datasets import arrays, catalogue, layout, stored
from vidjax.evaluation.datasets.items import Caption, Item, Source

VIDEO_SUFFIXES = frozenset([".mp4", ".avi", ".webm", ".mkv", ".mov", ".gif"])
PICTURE_SUFFIXES = frozenset([".png", ".jpg", ".jpeg"])
_TEXTS = ("captions.json", "captions.csv", "captions.txt")
_RATES = "fps.json"
_MAX_TEXT_BYTES = 1 << 28


def open_folder(
  path: str, split: str = "", *, fps: float | None = None, allow_missing: bool = False
) -> catalogue.Dataset:
  """Opens a folder of videos.

  Args:
    path: local or remote.
    split: a folder in it, or "" for the whole.
    fps: of pictures and arrays, which do not say it; else that of `fps.json`, else unknown.
    allow_missing: whether texts may be there without their videos.

  Raises:
    FileNotFoundError: there is no such folder.
    DataError: nothing in it is a video, two have one id, an array has another layout, a side-car
      cannot be read or names videos that are not there.
    ValueError: `fps` is not positive.
  """
  if fps is not None and not 0 < fps < float("inf"):
    raise ValueError(f"fps={fps}: a frame rate is positive")
  root = str(storage.Path(path) / split) if split else path
  names = layout.file_names(root)
  rates = _rates(root, names)
  found = list(_videos(root, names, lambda name: fps or _rate(rates, name)))
  if not found:
    kinds = ", ".join(sorted(VIDEO_SUFFIXES | PICTURE_SUFFIXES | arrays.SUFFIXES))
    raise errors.DataError(f"{root}: no video in there or below ({kinds})")
  layout.by_key(root, ((name, source.place) for name, source in found))
  texts = _texts(root, names)
  ids = {name for name, _ in found}
  of_id = {}
  for key, captions in texts.items():
    short = layout.without_suffix(key)
    of_id[key if key in ids or short not in ids else short] = captions
  missing = tuple(sorted(set(of_id) - ids, key=natural))
  expected = len(ids) + len(missing)
  catalogue.check_missing(root, missing, expected, allow_missing, " that its captions name")
  items = tuple(
    Item(name, name.rpartition("/")[0] or None, of_id.get(name, ()), source)
    for name, source in sorted(found, key=lambda pair: natural(pair[0]))
  )
  histogram = catalogue.histogram(item.label for item in items)
  return catalogue.Dataset(
    name=f"folder/{split}" if split else "folder",
    items=items,
    expected=expected,
    missing=missing,
    histogram=histogram,
    classes=tuple(histogram),
  )


def natural(name: str) -> list[tuple[int, int, str]]:
  """Sorts frame9 before frame10."""
  parts = re.split(r"([0-9]+)", name)
  return [(1, int(p), p) if i % 2 else (0, 0, p) for i, p in enumerate(parts)]


def _videos(
  root: str, names: list[str], rate: Callable[[str], float | None]
) -> Iterator[tuple[str, Source]]:
  """Ids and sources of all videos; only files of arrays are opened, for their headers."""
  frames: dict[str, list[str]] = {}
  for name in names:
    suffix, file = media.suffix(name), str(storage.Path(root) / name)
    clip_id = layout.without_suffix(name)
    if suffix in VIDEO_SUFFIXES:
      yield clip_id, stored.VideoFile(file)
    elif suffix in arrays.SUFFIXES:
      header = arrays.read_header(file)
      for number in range(header.shape[0]):
        full = f"{clip_id}[{number}]" if header.many else clip_id
        yield full, arrays.ArrayFile(file, header, number, rate(full))
    elif suffix in PICTURE_SUFFIXES:
      parent, _, picture = name.rpartition("/")
      frames.setdefault(parent, []).append(picture)
  for parent, pictures in frames.items():
    if not parent:
      raise errors.DataError(
        f"{root} holds pictures itself ({pictures[0]}): a folder of pictures is one video, so give"
        " the folder above it"
      )
    suffixes = sorted({media.suffix(picture) for picture in pictures})
    if len(suffixes) > 1:
      raise errors.DataError(
        f"{root}/{parent} mixes {' and '.join(suffixes)}: keep the frames of one kind"
      )
    ordered = tuple(sorted(pictures, key=natural))
    yield parent, stored.FrameFolder(str(storage.Path(root) / parent), ordered, rate(parent))


def _rates(root: str, names: list[str]) -> dict[str, Any]:
  """Content of `fps.json`; a single number stands under ""."""
  if _RATES not in names:
    return {}
  file = storage.Path(root) / _RATES
  try:
    content = storage.read_json(file)
  except ValueError as error:
    raise errors.DataError(str(error)) from error
  rates = content if isinstance(content, dict) else {"": content}
  for key, value in rates.items():
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e6:
      where = f" of {key!r}" if key else ""
      raise errors.DataError(f"{file}: the frame rate{where} is {value!r}, not a positive number")
  return rates


def _rate(rates: dict[str, Any], name: str) -> float | None:
  """Rate of a video; for one of a file of many, that of the file will do."""
  for key in (name, name.partition("[")[0], ""):
    if key in rates:
      return float(rates[key])
  return None


def _texts(root: str, names: list[str]) -> dict[str, tuple[Caption, ...]]:
  """Captions by id, as the side-car writes it."""
  present = [name for name in _TEXTS if name in names]
  if len(present) > 1:
    raise errors.DataError(f"{root} holds {' and '.join(present)}: keep one of them")
  if not present:
    return {}
  file = str(storage.Path(root) / present[0])
  try:
    text = storage.read_bytes(file, _MAX_TEXT_BYTES).decode("utf-8-sig")
    pairs = list(_PARSERS[media.suffix(file)](text, file))
  except ValueError as error:
    raise errors.DataError(f"{file} cannot be read: {error}") from error
  texts: dict[str, list[Caption]] = {}
  for key, caption in pairs:
    captions = texts.setdefault(key, [])
    captions.append(Caption(caption.strip(), len(captions)))
  return {key: tuple(captions) for key, captions in texts.items()}


def _of_json(text: str, file: str) -> Iterator[tuple[str, str]]:
  try:
    content = json.loads(text)
  except RecursionError as error:
    raise ValueError("nested too deep") from error
  if not isinstance(content, dict):
    raise errors.DataError(
      f"{file} holds a {type(content).__name__}: write an object of id -> text"
    )
  for key, value in content.items():
    captions = [value] if isinstance(value, str) else value
    if not isinstance(captions, list) or not all(isinstance(c, str) for c in captions):
      raise errors.DataError(
        f"{file}: the caption of {key!r} is neither a text nor a list of texts"
      )
    yield from ((key, caption) for caption in captions)


def _of_csv(text: str, file: str) -> Iterator[tuple[str, str]]:
  rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
  try:
    columns = rows.fieldnames or []
    if not {"id", "caption"} <= set(columns):
      raise errors.DataError(
        f"{file}: its first line names {', '.join(columns) or 'nothing'}, not id and caption"
      )
    for row in rows:
      if row["id"] is None or row["caption"] is None:
        raise errors.DataError(f"{file}:{rows.line_num}: has fewer columns than the first line")
      yield row["id"], row["caption"]
  except csv.Error as error:
    raise ValueError(f"line {rows.line_num}: {error}") from error


def _of_txt(text: str, file: str) -> Iterator[tuple[str, str]]:
  for number, line in enumerate(text.splitlines(), 1):
    key, tab, caption = line.partition("\t")
    if tab:
      yield key, caption
    elif line.strip():
      raise errors.DataError(f"{file}:{number}: no tabulator between id and text: {line[:60]!r}")


_PARSERS = {".json": _of_json, ".csv": _of_csv, ".txt": _of_txt}
