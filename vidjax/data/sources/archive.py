"""WebDataset archives as clips: where each sample is in its tar file.

A sample is the members whose names are equal up to the first dot of their last part: `0001.jpg`,
`0001.txt`, `0001.json`. Members are read where they are, by their offset, which one walk over the
headers of the archive finds; nothing is unpacked.
"""

from collections.abc import Iterator, Mapping
import contextlib
import json
import tarfile
from typing import Any

from absl import logging

from vidjax import errors, storage
from vidjax.data.sources import index, media, sidecar

_TEXT_SUFFIXES = (".json", ".txt")


def look(folder: Any, name: str, columns: Mapping[str, str] | None) -> list[index.Row]:
  """Finds the samples of an archive that show something, in their order.

  A sample with a video is that video, else its first picture. Of an archive that is cut short, the
  samples before the cut are whole and the one that it goes through cannot be read.

  Args:
    folder: of the data set.
    name: of the archive, relative to it.
    columns: name of the captioner -> field of the sample's JSON file, or "txt" for its text file;
      None for what side-cars say (`vidjax.data.sources.sidecar`).

  Raises:
    DataError: the file is no archive, or holds a text that is too large for captions.
  """
  path = str(folder / name)
  samples: dict[str, dict[str, tuple[int, int]]] = {}
  texts: dict[str, dict[str, bytes]] = {}
  with storage.open_read(storage.cached_copy(path)) as file:
    for member in _members(path, file):
      base, slash, last = member.name.removeprefix("./").rpartition("/")
      stem, _, extension = last.partition(".")
      key = f"{base}{slash}{stem}"
      suffix = media.suffix(last)
      if not stem:
        continue  # a hidden file
      if suffix in media.VIDEO_SUFFIXES | media.PICTURE_SUFFIXES:
        place = (member.offset_data, member.size)
        samples.setdefault(key, {}).setdefault(extension.lower(), place)
      elif "." + extension.lower() in _TEXT_SUFFIXES:
        # Read now: the walk is here, and captions are part of what a data set is.
        if member.size > sidecar.MAX_BYTES:
          raise errors.DataError(
            f"{path}: the text {member.name} has {member.size} bytes, more than"
            f" {sidecar.MAX_BYTES}: no captions of one sample have as many"
          )
        file.seek(member.offset_data)
        texts.setdefault(key, {})["." + extension.lower()] = file.read(member.size)
  return [
    _row(path, name, key, shown, _captions(texts.get(key, {}), columns))
    for key, shown in samples.items()
  ]


def _members(path: str, file: Any) -> Iterator[tarfile.TarInfo]:
  """Plain files of an archive, as far as it goes."""
  try:
    archive = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115  (closes with its file)
  except tarfile.TarError as error:
    raise errors.DataError(f"{path} is no tar archive: {error}") from error
  while True:
    try:
      member = archive.next()
    except (tarfile.TarError, EOFError) as error:
      logging.warning("%s is cut short, what comes before is used: %s", path, error)
      return
    if member is None:
      return
    archive.members = []  # pyright: ignore[reportAttributeAccessIssue]  (it would keep them all)
    if member.isreg() and not member.issparse():
      yield member


def _row(
  path: str,
  name: str,
  key: str,
  shown: Mapping[str, tuple[int, int]],
  captions: dict[str, str],
) -> index.Row:
  videos = [ext for ext in shown if media.suffix("." + ext) in media.VIDEO_SUFFIXES - {".gif"}]
  extension = next(iter(videos or shown))
  offset, size = shown[extension]
  problem, facts = "", media.Facts()
  try:
    facts = media.Place(path, not videos, offset, size).facts()
  except media.DAMAGE as error:
    problem = f"{type(error).__name__}: {error}"
  return index.Row(
    name=f"{name}/{key}.{extension}",
    file=name,
    size=size,
    picture=not videos,
    facts=facts,
    offset=offset,
    captions=captions,
    problem=problem,
  )


def _captions(texts: Mapping[str, bytes], columns: Mapping[str, str] | None) -> dict[str, str]:
  captions: dict[str, str] = {}
  if columns is None:
    for suffix in _TEXT_SUFFIXES:
      if suffix in texts:
        captions.update(sidecar.parse(texts[suffix], suffix))
    return captions
  fields: dict[str, Any] = {}
  with contextlib.suppress(ValueError, RecursionError):
    parsed = json.loads(texts.get(".json", b"{}"))
    fields = parsed if isinstance(parsed, dict) else {}
  fields["txt"] = texts.get(".txt", b"").decode("utf-8", "replace")
  for caption, column in columns.items():
    value = fields.get(column)
    if isinstance(value, str) and value.strip():
      captions[caption] = value.strip()
  return captions
