"""Records of ArrayRecord files, by number."""

import functools
from typing import Any

from array_record.python import array_record_module  # pyright: ignore[reportAttributeAccessIssue]

from vidjax import errors, storage


@functools.lru_cache(maxsize=1024)
def open_shard(path: str) -> Any:
  """Opens a file once in each process (the reader itself may be used from many threads).

  Raises:
    DataError: there is no such file, or it is no ArrayRecord file.
  """
  # The reader neither fails nor says anything if the file is missing or is no ArrayRecord.
  if not storage.Path(path).exists():
    raise errors.DataError(f"shard {path} does not exist")
  # Records are read in random order: what follows one of them is not needed next.
  options = "readahead_buffer_size:0"
  reader = array_record_module.ArrayRecordReader(storage.cached_copy(path), options)
  if not reader.ok():
    raise errors.DataError(f"shard {path} is not an ArrayRecord file, or it is cut short")
  return reader


def read(path: str, number: int) -> bytes:
  """Record `number` of a file.

  Raises:
    DataError: as `open_shard`, or the file has no such record.
    RuntimeError: the record is damaged.
  """
  reader = open_shard(path)
  if number >= reader.num_records():
    raise errors.DataError(f"shard {path} has {reader.num_records()} records, no number {number}")
  (record,) = reader.read([number])
  return record
