"""Lists of clips that were chosen of a data set, as `vidjax select` writes them."""

import functools
from typing import Any

import numpy as np

from vidjax import errors, storage

METADATA_KEY = b"vidjax.selection"


@functools.lru_cache(maxsize=4)
def read(path: Any) -> np.ndarray:
  """The ids of the chosen clips, (N,) bytes, sorted.

  Args:
    path: Parquet file with a column `clip_id`, local or remote.

  Raises:
    DataError: there is none, it is none, or it is empty; or pyarrow is missing.
  """
  try:
    import pyarrow as pa
    from pyarrow import parquet
  except ModuleNotFoundError as error:
    raise errors.DataError(f"{path} is read by pyarrow: install the extra `curate`") from error
  if not storage.Path(path).exists():
    raise errors.DataError(f"the list of clips {path} does not exist: write it with vidjax select")
  try:
    with storage.local_copy(path) as local:
      column = parquet.read_table(local, columns=["clip_id"])["clip_id"]
  except (pa.ArrowException, KeyError) as error:
    raise errors.DataError(f"{path} is no list of clips: {error}") from error
  ids = np.sort(np.asarray(column.to_pylist(), np.bytes_))
  if not len(ids):
    raise errors.DataError(f"the list of clips {path} is empty")
  return ids
