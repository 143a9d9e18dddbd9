"""The two sides of an evaluation, from ids to features in parts.

Each side knows the ids of its clips before the first one is read or made, and works through the
parts that are not there yet (`vidjax.evaluation.store`).

Legend: T frames, H W pixels.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent import futures
import dataclasses
import hashlib
import itertools
from typing import NamedTuple

import jax
import numpy as np

from vidjax import storage
from vidjax.evaluation import report
from vidjax.evaluation.datasets.items import Clip, ClipRule, Item, chance, read_clip
from vidjax.evaluation.protocol import RealSet
from vidjax.evaluation.store import Features, Store
from vidjax.observe import console

BATCH = 8  # clips in memory at once
SHOWN = 12  # clips of a side on the page
_READERS = 4
_FPS = 8.0  # at which clips of unknown rate are shown
_SHOWN_FILE = "shown.json"


class Made(NamedTuple):
  """A clip: id, (T, H, W, 3) uint8 frames, their rate, and the frame that a model was shown."""

  id: str
  frames_THWC: np.ndarray
  fps: float
  given_HWC: np.ndarray | None = None


Extract = Callable[[Sequence[Made]], dict[str, np.ndarray]]


def drawn(items: Sequence[Item], count: int | None, seed: int) -> list[Item]:
  """`count` of the items, by a hash of seed and id, in their own order; None is all.

  Which ones does not depend on how many are drawn: smaller draws are parts of larger ones.
  """
  if count is None or count >= len(items):
    return list(items)
  chosen = {i.id for i in sorted(items, key=lambda i: chance(seed, i.id, "draw"))[:count]}
  return [item for item in items if item.id in chosen]


def real_items(items: Sequence[Item], real: RealSet, limit: int | None) -> list[Item]:
  """The real videos that a protocol compares."""
  counts = [count for count in (real.count, limit) if count is not None]
  return drawn(items, min(counts, default=None), real.seed)


def ids_digest(ids: Iterable[str]) -> str:
  """16 hex digits of a list of ids."""
  return hashlib.sha256("\n".join(ids).encode()).hexdigest()[:16]


@dataclasses.dataclass(frozen=True)
class Videos:
  """A side of videos that are there: the real one, or a folder of generated clips.

  Attributes:
    name: for progress.
    items: in the order of the side.
    rule: which frames of each.
  """

  name: str
  items: Sequence[Item]
  rule: ClipRule

  @property
  def ids(self) -> list[str]:
    """Of all clips, those that the rule discards included."""
    return [item.id for item in self.items]

  def batches(self, ids: Sequence[str]) -> Iterator[list[Made]]:
    """Clips of these ids, read ahead in threads; those that the rule discards are left out.

    Raises:
      DataError: a video cannot be read; names the file.
    """
    by_id = {item.id: item for item in self.items}
    with futures.ThreadPoolExecutor(_READERS) as pool:
      for batch in _ahead(pool, [by_id[id_] for id_ in ids], self._read):
        made = [
          Made(id_, clip.frames_THWC, clip.fps or self.rule.fps or _FPS)
          for id_, clip in batch
          if clip is not None
        ]
        if made:
          yield made

  def _read(self, item: Item) -> tuple[str, Clip | None]:
    return item.id, read_clip(item, self.rule)


def _ahead(
  pool: futures.Executor,
  items: Sequence[Item],
  read: Callable[[Item], tuple[str, Clip | None]],
) -> Iterator[list[tuple[str, Clip | None]]]:
  """Results in batches; the next batch is under way while one is worked on."""
  waiting: deque[futures.Future] = deque()
  left = iter(items)
  waiting.extend(pool.submit(read, item) for item in itertools.islice(left, 2 * BATCH))
  while waiting:
    batch = [waiting.popleft().result() for _ in range(min(BATCH, len(waiting)))]
    waiting.extend(pool.submit(read, item) for item in itertools.islice(left, len(batch)))
    yield batch


def fill(
  folder: storage.PathLike,
  name: str,
  ids: Sequence[str],
  batches: Callable[[Sequence[str]], Iterator[list[Made]]],
  networks: Extract,
) -> None:
  """Makes the parts of a side that are missing; several processes share them.

  Args:
    folder: of the parts, which all processes see.
    name: for progress.
    ids: of all clips of the side.
    batches: clips of some of them, in order.
    networks: features of a batch.
  """
  store = Store(folder, ids)
  place, places = jax.process_index(), jax.process_count()
  mine = store.missing(place, places)
  total = sum(len(store.ids_of(part)) for part in range(place, len(store), places))
  done = total - sum(len(store.ids_of(part)) for part in mine)
  with console.Progress(name, total=total, initial=done) as progress:
    for part in mine:
      found: list[tuple[list[str], dict[str, np.ndarray]]] = []
      shown: list[report.Shown] = []
      for batch in batches(store.ids_of(part)):
        if part == 0:
          shown += [report.shown(*made[:3]) for made in batch[: SHOWN - len(shown)]]
        found.append(([made.id for made in batch], networks(batch)))
        progress.update(done + sum(len(ids_) for ids_, _ in found))
      if part == 0:
        _write_shown(folder, shown)
      store.write(part, _joined(found))
      done += len(store.ids_of(part))
      progress.update(done)


def shown(folder: storage.PathLike) -> list[report.Shown]:
  """Some clips of a side whose parts are there."""
  file = storage.Path(folder) / _SHOWN_FILE
  return [report.Shown(**values) for values in storage.read_json(file)] if file.exists() else []


def _write_shown(folder: storage.PathLike, clips: Sequence[report.Shown]) -> None:
  values = [dataclasses.asdict(clip) for clip in clips]
  storage.write_json(storage.Path(folder) / _SHOWN_FILE, values)


def _joined(found: Sequence[tuple[list[str], dict[str, np.ndarray]]]) -> Features:
  names = found[0][1].keys() if found else ()
  return Features(
    tuple(id_ for ids, _ in found for id_ in ids),
    {name: np.concatenate([arrays[name] for _, arrays in found]) for name in names},
  )
