"""Finds media files and the captions beside them, and tells whole files from broken ones."""

from collections.abc import Mapping, Sequence
import dataclasses
import os
import re
from typing import Any
import zlib

from data_pipelines import manifest
from vidjax import storage
from vidjax.data import video
from vidjax.data.sources import sidecar
from vidjax.data.sources.media import PICTURE_SUFFIXES, VIDEO_SUFFIXES

_AUDIO = ".aac .ac3 .aif .aiff .amr .flac .m4a .mka .mp2 .mp3 .oga .ogg .opus .wav .weba .wma"
_IMAGE = ".avif .heic .heif .ico .svg"  # beside those that can be trained on
AUDIO_SUFFIXES = frozenset(_AUDIO.split())
IMAGE_SUFFIXES = (PICTURE_SUFFIXES - VIDEO_SUFFIXES) | frozenset(_IMAGE.split())
_IMAGE_BRANDS = (b"heic", b"heix", b"mif1", b"msf1", b"avif", b"crx ")
_HEADER_BYTES = 400


@dataclasses.dataclass(frozen=True)
class Listing:
  """What is in a folder, of what was asked for.

  Attributes:
    root: The folder.
    media: Paths of video and sound files relative to the folder, with "/" between, sorted.
    images: Number of still images, which are not this pipeline's business.
    others: Number of other files (side-cars, notes).
    signature: Of names, sizes and dates: equal for an untouched folder.
    known: What a list of files says of them, by path; empty without one.
  """

  root: str
  media: tuple[str, ...]
  images: int
  others: int
  signature: tuple[tuple[str, int, int], ...]
  known: Mapping[str, manifest.Known] = dataclasses.field(default_factory=dict)


def find(videos: str, skip: Sequence[Any] = ()) -> Listing:
  """What `--videos` means: a folder, a pattern such as `DIR/**/*.mp4`, or a list of files.

  Args:
    videos: Local or remote. In a pattern `*` and `?` stand for parts of a name, `**/` for folders.
    skip: Folders to leave out.

  Raises:
    FileNotFoundError, NotADirectoryError: as `list_media`.
    DataError: as `manifest.read`.
  """
  if manifest.is_manifest(videos) and not storage.Path(videos).is_dir():
    return _listed(videos)
  folder, pattern = _split_pattern(videos)
  if not pattern or storage.Path(videos).is_dir():
    return list_media(videos, skip)
  found = list_media(folder, skip)
  matches = re.compile(_translated(pattern)).fullmatch
  wanted = tuple(name for name in found.media if matches(name))
  return dataclasses.replace(found, media=wanted, signature=(*found.signature, (pattern, 0, 0)))


def _listed(path: str) -> Listing:
  if not storage.Path(path).exists():
    raise FileNotFoundError(f"--videos={path}: there is no such list")
  known = manifest.read(path)
  root = storage.Path(path).parent
  signature = [(storage.Path(path).name, 0, zlib.crc32(storage.read_bytes(path)))]
  for name in known:
    file = root / name
    stat = file.stat() if file.exists() else None
    mtime = int(((stat and stat.mtime) or 0) * 1000)
    signature.append((name, int(stat.length) if stat else -1, mtime))
  return Listing(os.fspath(root), tuple(sorted(known)), 0, 0, tuple(signature), known)


def _split_pattern(videos: str) -> tuple[str, str]:
  """The folder in front of the first name with a wildcard, and the pattern from there on."""
  parts = videos.split("/")
  first = next((i for i, part in enumerate(parts) if re.search(r"[*?]", part)), len(parts))
  return "/".join(parts[:first]) or ("/" if first else "."), "/".join(parts[first:])


def _translated(pattern: str) -> str:
  """A pattern as a regular expression for a whole relative path."""
  pieces = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
  meanings = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
  return "".join(meanings.get(piece, re.escape(piece)) for piece in pieces)


def list_media(folder: Any, skip: Sequence[Any] = ()) -> Listing:
  """Walks a folder for media files, by suffix or, where that says nothing, by header.

  Args:
    folder: Local or remote folder.
    skip: Folders below it to leave out (an output folder placed inside).

  Raises:
    FileNotFoundError, NotADirectoryError: it is not there or not a folder.
  """
  root = storage.Path(folder)
  if not root.exists():
    raise FileNotFoundError(f"--videos={folder}: there is no such folder")
  if not root.is_dir():
    raise NotADirectoryError(f"--videos={folder} is a file; give the folder that holds the videos")
  prefixes = tuple(os.fspath(storage.Path(s)).rstrip("/") + "/" for s in skip)
  media, signature, images, others = [], [], 0, 0
  for path in storage.list_files(root):
    if os.fspath(path).startswith(prefixes):
      continue
    name = path.relative_to(root).as_posix()
    kind = _kind(path)
    if kind == "media":
      media.append(name)
    images += kind == "image"
    others += kind == "other"
    if kind != "image":
      stat = path.stat()
      signature.append((name, int(stat.length), int((stat.mtime or 0) * 1000)))
  return Listing(os.fspath(root), tuple(media), images, others, tuple(signature))


def sidecar_captions(folder: Any, source: str) -> dict[str, str]:
  """Reads the captions beside a video, see `vidjax.data.sources.sidecar`."""
  captions: dict[str, str] = {}
  for name in sidecar.names(source):
    path = storage.Path(folder) / name
    if path.exists():
      captions.update(sidecar.parse(storage.read_bytes(path, sidecar.MAX_BYTES), name))
  return captions


def _kind(path: Any) -> str:
  suffix = path.suffix.lower()
  if suffix in VIDEO_SUFFIXES or suffix in AUDIO_SUFFIXES:
    return "media"
  if suffix in IMAGE_SUFFIXES:
    return "image"
  if suffix in (".txt", ".json", ".srt", ".vtt", ".csv", ".md"):
    return "other"
  try:
    with storage.open_read(path) as file:
      return header_kind(file.read(_HEADER_BYTES))
  except OSError:
    return "other"


def header_kind(head: bytes) -> str:
  """Tells "media", "image" and "other" apart by a file's first bytes."""
  if head[4:8] == b"ftyp":
    return "image" if head[8:12] in _IMAGE_BRANDS else "media"
  if head[:4] == b"RIFF":
    return {b"AVI ": "media", b"WAVE": "media", b"WEBP": "image"}.get(head[8:12], "other")
  starts = {
    b"\x1aE\xdf\xa3": "media",  # Matroska, WebM
    b"GIF8": "media",
    b"OggS": "media",
    b"FLV\x01": "media",
    b"ID3": "media",
    b"fLaC": "media",
    b"0&\xb2u\x8ef\xcf\x11": "media",  # ASF, WMV
    b".RMF": "media",
    b"\x00\x00\x01\xba": "media",  # MPEG program stream
    b"\x00\x00\x01\xb3": "media",  # MPEG video
    b"YUV4MPEG2": "media",
    b"DKIF": "media",
    b"\x89PNG": "image",
    b"\xff\xd8\xff": "image",
    b"BM": "image",
    b"II*\x00": "image",
    b"MM\x00*": "image",
  }
  for start, kind in starts.items():
    if head.startswith(start):
      return kind
  if head[4:8] in (b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"):
    return "media"  # QuickTime from before `ftyp`
  if len(head) > 376 and head[0] == head[188] == head[376] == 0x47:
    return "media"  # MPEG transport stream: a sync byte in each packet
  return "other"


def announced_frames(reader: video.FrameReader) -> int | None:
  """Number of frames that the container promises; None where it does not say.

  Many containers are wrong about it (AVI counts frames that it does not hold), so this is for
  messages only.
  """
  stream = reader.stream
  if stream.frames:
    return stream.frames
  announced_s = _announced_seconds(reader)
  return round(announced_s * video.announced_fps(stream)) if announced_s else None


def missing_part(reader: video.FrameReader, path: str) -> list[str]:
  """Tells whether a file ends before its video does; call it after reading to the end.

  Not every demuxer reports a truncated file: some simply stop. What gives it away is an index that
  points past the end of the file, or, for containers without one, a duration that nothing reaches.

  Returns:
    What is missing, as error texts; empty for a whole file.
  """
  size = int(storage.Path(path).stat().length)
  index_end = max((entry.pos + entry.size for entry in reader.stream.index_entries), default=0)
  if index_end > size:
    return [f"the file is truncated: its index points to byte {index_end} of {size}"]
  name = reader.container.format.name
  if name == "gif":
    with storage.open_read(path) as file:
      file.seek(-1, os.SEEK_END)
      return [] if file.read(1) in b";\0" else ["the file is truncated: it lacks GIF's last byte"]
  if "mp4" in name:
    return []  # Its index is whole; edit lists make the duration something else.
  announced_s = _announced_seconds(reader)
  end_s = max(reader.end_s.values(), default=0.0)
  if announced_s and end_s < 0.95 * announced_s - 0.5:
    return [f"the file is truncated: it announces {announced_s:.2f} s and ends at {end_s:.2f} s"]
  return []


def _announced_seconds(reader: video.FrameReader) -> float | None:
  tag = reader.stream.metadata.get("DURATION")  # Matroska, "00:00:13.077000000"
  if tag and re.fullmatch(r"\d+:\d+:[\d.]+", tag):
    hours, minutes, seconds = tag.split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
  if reader.stream.duration:
    return float(reader.stream.duration * (reader.stream.time_base or 0))
  return reader.container.duration / 1e6 if reader.container.duration else None
