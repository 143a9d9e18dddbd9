"""Features that somebody has already: Fréchet distance and KID of two files.

Nothing is known about what made them, so there is no protocol beyond ddof.
"""

from collections.abc import Sequence
import io
import zipfile

import numpy as np

from vidjax import packed, storage
from vidjax.metrics import intervals, protocols, results
from vidjax.observe import console

_KEY = "features"  # name of the array in a feature file


def evaluate(real_path: str, fake_path: str, ddof: int) -> results.Result:
  """Fréchet distance and KID of two feature files.

  Raises:
    ValueError: a file cannot be used; names the file and what is wrong with it.
  """
  real_ND, fake_ND = read(real_path), read(fake_path)
  names = (f"{real_path}: {_KEY}", f"{fake_path}: {_KEY}")
  with console.Progress("intervals", total=intervals.GROUPS) as progress:
    metrics = intervals.frechet_and_kid(real_ND, fake_ND, ddof, names, progress.update)
  return results.Result(protocols.Features(ddof=ddof), len(real_ND), len(fake_ND), metrics, {})


def write(path: storage.PathLike, features_ND: np.ndarray, ids: Sequence[str]) -> None:
  """Writes features and the ids of their clips, in a file that `read` takes."""
  buffer = io.BytesIO()
  np.savez(buffer, allow_pickle=False, **{_KEY: features_ND, "ids": np.array(ids, dtype=str)})
  storage.write_bytes(path, buffer.getvalue())


def read(path: str) -> np.ndarray:
  """The array `features` of an .npz file.

  Raises:
    ValueError: no such file, no .npz file, or no such array.
  """
  if not storage.Path(path).is_file():
    raise ValueError(f"{path}: there is no such file")
  with storage.open_read(path) as file:
    if file.read(len(np.lib.format.MAGIC_PREFIX)) == np.lib.format.MAGIC_PREFIX:
      raise ValueError(f"{path} is an .npy file: save it with np.savez({path!r}, {_KEY}=...)")
  with packed.load_arrays(path) as content:
    if _KEY not in content:
      raise ValueError(f"{path} has no array {_KEY!r}, it holds: {', '.join(content) or 'nothing'}")
    try:
      return content[_KEY]
    except (zipfile.BadZipFile, ValueError, EOFError) as error:
      raise ValueError(f"{path}: array {_KEY!r} cannot be read: {error}") from error
