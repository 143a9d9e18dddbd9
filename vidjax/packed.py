"""Compressed files of others, opened only if they are not a decompression bomb.

A kilobyte of zip or gzip can say a megabyte, and a megabyte a gigabyte. What unpacks to more than
`FREE_BYTES` may be at most `MAX_RATIO` times as large as the file: names, captions and numbers of
a data set are compressed to a tenth, a bomb to a thousandth. So the listing of a hundred million
clips passes, which has tens of gigabytes.
"""

import io
import zipfile
import zlib

import numpy as np

from vidjax import storage

FREE_BYTES = 1 << 30
MAX_RATIO = 100


def load_arrays(
  path: storage.PathLike, error: type[Exception] = ValueError
) -> np.lib.npyio.NpzFile:
  """Opens an .npz file whose members are read when they are asked for; objects are never unpickled.

  Raises:
    `error`: it is none, or unpacks to absurdly much; the message names it.
  """
  content = storage.read_bytes(path)
  try:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
      unpacked = sum(member.file_size for member in archive.infolist())
    check_size(path, len(content), unpacked, error)
    return np.load(io.BytesIO(content), allow_pickle=False)
  except (zipfile.BadZipFile, EOFError, OSError) as exc:
    raise error(f"{path} is not an .npz file: {exc}") from exc


def gunzip(path: storage.PathLike, limit: int = FREE_BYTES) -> bytes:
  """Content of a gzip file.

  Raises:
    ValueError: it is none, cut short, or unpacks to more than `limit` bytes.
  """
  unpacker = zlib.decompressobj(wbits=31)  # gzip's header and checksum
  try:
    content = unpacker.decompress(storage.read_bytes(path), limit)
  except zlib.error as exc:
    raise ValueError(f"{path} is not a gzip file: {exc}") from exc
  if not unpacker.eof:
    raise ValueError(f"{path} is cut short, or unpacks to more than {limit} bytes")
  return content


def check_size(
  path: storage.PathLike, packed: int, unpacked: int, error: type[Exception] = ValueError
) -> None:
  """Refuses what unpacks to absurdly much.

  Raises:
    `error`: names the file and both sizes.
  """
  if unpacked > max(FREE_BYTES, MAX_RATIO * packed):
    raise error(
      f"{path} unpacks from {packed} to {unpacked} bytes, as only decompression bombs do: take the"
      " file from somewhere else"
    )
