"""Features of one side of an evaluation, in parts on disk: a run that is killed loses one part.

The clips of a side are known by id before the first one is made. Part k holds what the networks
made of ids[k * PART : (k + 1) * PART], and is written whole or not at all. Of several processes,
process p of P makes the parts p, p + P, and so on, into one folder.

Legend: N clips, D features.
"""

from collections.abc import Sequence
import dataclasses
import io
import zipfile

import numpy as np

from vidjax import packed, storage
from vidjax.errors import DataError

PART = 64  # clips
_ASKED, _IDS = "asked", "ids"  # arrays of a part beside the features


@dataclasses.dataclass(frozen=True)
class Features:
  """Features of the clips that were used.

  Attributes:
    ids: of the N clips.
    arrays: name -> (N, ...) array; "i3d/torchscript:logits" is a tap of a network.
  """

  ids: tuple[str, ...]
  arrays: dict[str, np.ndarray]

  def of(self, rows: Sequence[int] | np.ndarray) -> "Features":
    """Some of the clips."""
    index = np.asarray(rows, np.int64)
    return Features(
      tuple(self.ids[i] for i in index), {name: of[index] for name, of in self.arrays.items()}
    )


class Store:
  """The parts of one side.

  Args:
    folder: where they are.
    ids: of all clips of the side, each once.
  """

  def __init__(self, folder: storage.PathLike, ids: Sequence[str]):
    assert len(set(ids)) == len(ids)
    self._folder = storage.Path(folder)
    self._ids = tuple(ids)

  def __len__(self) -> int:
    return -(-len(self._ids) // PART)

  def ids_of(self, part: int) -> tuple[str, ...]:
    """Ids that belong to a part, those of clips that turn out unusable included."""
    return self._ids[part * PART : (part + 1) * PART]

  def missing(self, process: int = 0, processes: int = 1) -> list[int]:
    """Parts that this process has to make; what is there and belongs to other ids is made anew."""
    return [part for part in range(process, len(self), processes) if not self._is_there(part)]

  def write(self, part: int, features: Features) -> None:
    """Writes a part. `features.ids` are those of `ids_of(part)` that could be used, in order.

    Raises:
      ValueError: an array has another number of rows than there are ids, or holds NaN.
    """
    for name, values in features.arrays.items():
      assert len(values) == len(features.ids), (name, values.shape, len(features.ids))
      if not np.isfinite(values).all():
        finite_N = np.isfinite(values).reshape(len(values), -1).all(axis=1)
        raise ValueError(
          f"{name}: the features of {features.ids[int(finite_N.argmin())]!r} hold NaN or infinity:"
          " is the clip sound, and are the weights those of the network?"
        )
    buffer = io.BytesIO()
    arrays = {_ASKED: np.array(self.ids_of(part)), _IDS: np.array(features.ids, dtype=str)}
    arrays |= {f"of:{name}": values for name, values in features.arrays.items()}
    np.savez(buffer, allow_pickle=False, **arrays)
    storage.write_bytes(self._file(part), buffer.getvalue())

  def read(self) -> Features:
    """All parts together, in the order of the ids.

    Raises:
      DataError: a part is missing or damaged; names the file.
    """
    parts = [self._read(part) for part in range(len(self))]
    used = [part for part in parts if part.ids]
    names = used[0].arrays.keys() if used else ()
    return Features(
      tuple(id_ for part in used for id_ in part.ids),
      {name: np.concatenate([part.arrays[name] for part in used]) for name in names},
    )

  def _read(self, part: int) -> Features:
    file = self._file(part)
    if not file.exists():
      raise DataError(f"{file} is missing: run the same command again to make it")
    try:
      with packed.load_arrays(file) as content:
        if tuple(content[_ASKED]) != self.ids_of(part):
          raise DataError(f"{file} holds features of other clips: remove {self._folder}")
        arrays = {n.removeprefix("of:"): content[n] for n in content if n.startswith("of:")}
        return Features(tuple(str(id_) for id_ in content[_IDS]), arrays)
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as exc:
      raise DataError(f"{file} is damaged, remove it and run again: {exc}") from exc

  def _is_there(self, part: int) -> bool:
    if not self._file(part).exists():
      return False
    try:
      self._read(part)
    except DataError:
      return False
    return True

  def _file(self, part: int) -> storage.Path:
    return self._folder / f"part-{part:05d}.npz"
