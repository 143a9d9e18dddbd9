"""Finds media files and the captions beside them, and tells whole files from broken ones."""

from collections.abc import Iterable, Mapping, Sequence
import contextlib
import dataclasses
import itertools
import os
import re
from typing import Any
import zlib

import av.error

from data_pipelines import manifest, tables
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
    sizes: In bytes, of the media that are there; -1 for a link that leads nowhere.
    refused: Media that nothing later can name.
    known: What a list of files says of them, by path; empty without one.
  """

  root: str
  media: tuple[str, ...]
  images: int
  others: int
  signature: tuple[tuple[str, int, str], ...]
  sizes: Mapping[str, int] = dataclasses.field(default_factory=dict)
  refused: tuple[tables.Reject, ...] = ()
  known: Mapping[str, manifest.Known] = dataclasses.field(default_factory=dict)

  @property
  def num_files(self) -> int:
    """Of media, whether they can be read or not."""
    return len(self.media) + len(self.refused)


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
  return dataclasses.replace(
    found,
    media=tuple(name for name in found.media if matches(name)),
    refused=tuple(reject for reject in found.refused if matches(reject.source)),
    signature=(*found.signature, (pattern, 0, "")),
  )


def _listed(path: str) -> Listing:
  if not storage.Path(path).exists():
    raise FileNotFoundError(f"--videos={path}: there is no such list")
  known = manifest.read(path)
  root = storage.Path(path).parent
  media, refused = _parted(known)
  beside = [other for name in media for other in sidecar.names(name)]
  states = _states(root, [*media, *beside])
  return Listing(
    os.fspath(root),
    media,
    images=0,
    others=0,
    signature=(
      (storage.Path(path).name, 0, str(zlib.crc32(storage.read_bytes(path)))),
      *((state.name, state.size, state.version) for state in states.values()),
    ),
    sizes={name: states[name].size for name in media if name in states},
    refused=refused,
    known=known,
  )


def _states(root: Any, names: Sequence[str]) -> dict[str, storage.FileState]:
  """States of those files of a list that are there, by name and in the order of `names`."""
  found: dict[str, storage.FileState] = {}
  if storage.is_local(root):
    for name in names:
      with contextlib.suppress(OSError):  # its analysis will say what is wrong
        stat = (root / name).stat()
        found[name] = storage.FileState(name, int(stat.length), str(stat.mtime))
  elif names:  # a store is asked once, for the folder that all of them are below
    folder = _shared_folder(names)
    with contextlib.suppress(FileNotFoundError):
      for state in storage.file_states(root / folder):
        name = f"{folder}/{state.name}" if folder else state.name
        found[name] = dataclasses.replace(state, name=name)
  return {name: found[name] for name in names if name in found}


def _shared_folder(names: Sequence[str]) -> str:
  """The deepest folder that all relative names are below; "" for the root of all."""
  folders = [name.split("/")[:-1] for name in names]
  shared = itertools.takewhile(
    lambda pair: pair[0] == pair[1], zip(min(folders), max(folders), strict=False)
  )
  return "/".join(part for part, _ in shared)


def _parted(names: Iterable[str]) -> tuple[tuple[str, ...], tuple[tables.Reject, ...]]:
  """Names that tables and records can hold, sorted, and a reject for each other one."""
  media, refused = [], []
  for name in sorted(names):
    try:
      name.encode()
    except UnicodeEncodeError:
      shown = name.encode("utf-8", "backslashreplace").decode()
      refused.append(tables.Reject(shown, "ingest", "the name of the file is not UTF-8: rename it"))
    else:
      media.append(name)
  return tuple(media), tuple(refused)


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
  found, signature, sizes, images, others = [], [], {}, 0, 0
  for state in storage.file_states(root):
    path = root / state.name
    if os.fspath(path).startswith(prefixes):
      continue
    kind = _kind(path, state.size)
    if kind == "media":
      found.append(state.name)
      sizes[state.name] = state.size
    images += kind == "image"
    others += kind == "other"
    if kind != "image":
      signature.append((state.name, state.size, state.version))
  media, refused = _parted(found)
  return Listing(os.fspath(root), media, images, others, tuple(signature), sizes, refused)


def sidecar_captions(folder: Any, source: str) -> dict[str, str]:
  """Reads the captions beside a video, see `vidjax.data.sources.sidecar`."""
  captions: dict[str, str] = {}
  for name in sidecar.names(source):
    path = storage.Path(folder) / name
    if path.exists():
      captions.update(sidecar.parse(storage.read_bytes(path, sidecar.MAX_BYTES), name))
  return captions


def _kind(path: Any, size: int) -> str:
  suffix = path.suffix.lower()
  if suffix in VIDEO_SUFFIXES or suffix in AUDIO_SUFFIXES:
    return "media"
  if suffix in IMAGE_SUFFIXES:
    return "image"
  if suffix in (".txt", ".json", ".srt", ".vtt", ".csv", ".md"):
    return "other"
  if size <= 0:  # nothing to tell it by; opened, a pipe would wait for a writer
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


def is_encrypted(path: str) -> bool:
  """Whether the first packet of a local video says that it is encrypted."""
  with contextlib.suppress(av.error.FFmpegError), video.FrameReader(path) as reader:
    for packet in reader.container.demux(reader.stream):
      return packet.has_sidedata("encryption_info")
  return False


def _announced_seconds(reader: video.FrameReader) -> float | None:
  tag = reader.stream.metadata.get("DURATION")  # Matroska, "00:00:13.077000000"
  if tag and re.fullmatch(r"\d+:\d+:[\d.]+", tag):
    hours, minutes, seconds = tag.split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
  if reader.stream.duration:
    return float(reader.stream.duration * (reader.stream.time_base or 0))
  return reader.container.duration / 1e6 if reader.container.duration else None
