"""The stream of training batches, and the fixed windows of evaluations.

Grain runs the decoding processes. What they produce is decided by `vidjax.data.order` alone: batch
k of a run that starts at sample s holds samples s + k B ... s + (k + 1) B - 1 of the stream, and
each host makes its own rows of it. So the position to save is one number, the samples handed out,
and it fits any number of hosts, of processes, and any batch size.

Legend: B batch (rows of this host), T frames, H W pixels, C colours (RGB), L tokens.
"""

from collections.abc import Callable, Iterator
import dataclasses
import hashlib
import multiprocessing
import os
import signal
import threading
from typing import TYPE_CHECKING, Any

from absl import flags, logging
import cv2
import grain
import numpy as np

from vidjax import errors
from vidjax.data import order, samples, sources, windows
from vidjax.data.fingerprint import check_fingerprint, data_fingerprint

if TYPE_CHECKING:
  from vidjax.config import DataConfig  # at run time it would bring JAX into every worker

__all__ = [
  "BatchIterator",
  "check_fingerprint",
  "data_fingerprint",
  "fixed_windows",
  "ids_hash",
  "make_loader",
  "open_reader",
]

Batch = dict[str, Any]
Tokenizer = Callable[[str], np.ndarray]  # caption -> int32 (L,)

MAX_REJECTED_SHARE = 0.01  # of the clips; one bad clip is always borne
MAX_RESTARTS = 3  # of decoding processes without a batch in between
_WORKER_DIED = "Worker process was terminated"  # in the message of grain's RuntimeError
_MAX_SAMPLES = 2**32  # sample_index_B is uint32: JAX has no 64-bit integers by default


class BatchIterator(Iterator[Batch]):
  """Endless batches of one host; a context manager that ends the decoding processes.

  A decoding process that dies (killed for its memory, say) is replaced: since a batch is a function
  of its number, reading simply starts again at the batch that is due.

  Attributes:
    position: global index of the first sample of the next batch: what a checkpoint stores.
    rejected: clips that could not be read and were replaced, with the error of each.
  """

  def __init__(self, make: "_MakeBatch", num_workers: int):
    self.position = make.start_sample
    self.rejected: dict[str, str] = {}
    self._make, self._num_workers, self._number = make, num_workers, 0
    self._batches = _start(make, 0, num_workers)

  def __next__(self) -> Batch:
    """Returns the next batch, see `make_loader`.

    Raises:
      DataError: more clips than are borne cannot be read, which the message names, or decoding
        processes die again and again.
    """
    batch = self._next_of_workers()
    self._note(batch.pop("rejected"))
    self._number += 1
    self.position += self._make.global_batch
    return batch

  def close(self) -> None:
    """Ends the decoding processes; no batch can be asked for afterwards."""
    if self._batches is not None:
      self._batches.close()
      self._batches = None  # a closed iterator that lives until the interpreter ends complains then

  def __enter__(self) -> "BatchIterator":
    return self

  def __exit__(self, *_) -> None:
    self.close()

  def _next_of_workers(self) -> Batch:
    for _ in range(MAX_RESTARTS + 1):
      if self._batches is None:
        raise ValueError("the loader is closed")
      try:
        return next(self._batches)
      except RuntimeError as error:
        if _WORKER_DIED not in str(error):
          raise
        logging.warning("%s: %s Starting the decoding processes again.", self._path, error)
        self._batches.close()
        self._batches = _start(self._make, self._number, self._num_workers)
    raise errors.DataError(
      f"{self._path}: decoding processes died {MAX_RESTARTS + 1} times in a row: is there memory"
      f" for {self._num_workers} of them (data.num_workers)?"
    )

  def _note(self, rejected: list[tuple[str, str]]) -> None:
    for clip, error in rejected:
      if clip not in self.rejected:
        logging.warning("%s: clip %s is replaced by another one: %s", self._path, clip, error)
      self.rejected[clip] = error
    borne = max(1, int(MAX_REJECTED_SHARE * len(self._make.reader.source)))
    if len(self.rejected) > borne:
      listing = "; ".join(f"{clip}: {error}" for clip, error in self.rejected.items())
      raise errors.DataError(
        f"{self._path}: {len(self.rejected)} clips cannot be read, {borne} would be borne"
        f" ({MAX_REJECTED_SHARE:.0%} of all): {listing}"
      )

  @property
  def _path(self) -> str:
    return self._make.reader.source.path


def make_loader(
  config: "DataConfig",
  *,
  global_batch: int,
  start_sample: int,
  seed: int,
  tokenizer: Tokenizer | None,
  process_index: int = 0,
  process_count: int = 1,
  num_workers: int = 0,
) -> BatchIterator:
  """Starts the stream of batches at sample `start_sample`; prefetching begins at once.

  A batch is a dict:
    video_BTHWC: uint8.
    tokens_BL: int32, the tokenized captions (absent without a tokenizer).
    fps_B: float32, frames per second of the windows.
    motion_score_B: float32, pixels per second; 0 where it is not known.
    sample_index_B: uint32, global indices.
    clip_ids, captions: list of str; window_start_s: list of float (seconds into the clip).
    sample_ids_hash: str, of the global batch: equal on every host and for every number of hosts.

  Args:
    config: what to read.
    global_batch: samples in a batch over all hosts.
    start_sample: global index of the first sample; any number, also within an epoch.
    seed: of the run; decides order, windows, mirroring and which of a clip's captions is used.
    tokenizer: turns a caption into int32 (L,); runs in the decoding processes, so it must pickle.
    process_index: number of this host.
    process_count: how many hosts read together.
    num_workers: decoding processes; 0 decodes in a thread of this process.

  Raises:
    ValueError: the batch does not divide by the number of hosts.
    FileNotFoundError: there is no such folder.
    DataError: shards are missing or broken, or no clip is long enough.
  """
  rows = order.host_rows(global_batch, process_index, process_count)
  reader = open_reader(config, seed)
  make = _MakeBatch(reader, tokenizer, start_sample, global_batch, rows)
  return BatchIterator(make, num_workers)


def fixed_windows(config: "DataConfig", count: int, seed: int = 0) -> Iterator[samples.Sample]:
  """Windows that stand for a split in evaluations: always the same for (data, count, seed).

  Every clip gives `count / clips` windows, rounded down or up; the windows of a clip are spread
  evenly over it, and a single one is its middle. Mirroring is off.

  Args:
    config: what to read; `flip` and `num_workers` play no part.
    count: number of windows.
    seed: decides the order of the clips, and so which are left out where `count` is smaller.

  Yields:
    `Sample`, decoded one after the other in this process.

  Raises:
    ValueError: `count` is not positive.
    DataError: as `make_loader`.
  """
  if count < 1:
    raise ValueError(f"the number of evaluation windows must be positive, got {count}")
  reader = open_reader(dataclasses.replace(config, flip=False), seed)
  return (reader.fixed(number, count) for number in range(count))


def ids_hash(batch: Batch) -> str:
  """Hash of what the global batch consists of, for logs: tells apart two runs' orders."""
  return batch["sample_ids_hash"]


def open_reader(config: "DataConfig", seed: int) -> samples.SampleReader:
  """The stream that `config` and `seed` name, sample by sample, without processes or batches.

  Raises:
    FileNotFoundError, DataError: as `make_loader`.
  """
  grid = windows.WindowGrid(config.num_frames, config.fps)
  source = sources.open_source(config.path, config.split, grid)
  view = samples.View(grid, config.height, config.width, config.flip)
  return samples.SampleReader(source, view, seed)


@dataclasses.dataclass(frozen=True)
class _MakeBatch:
  """Batch number -> this host's rows of it. Runs in the decoding processes."""

  reader: samples.SampleReader
  tokenizer: Tokenizer | None
  start_sample: int
  global_batch: int
  rows: range

  def __call__(self, number: int) -> Batch:
    first = self.start_sample + int(number) * self.global_batch
    made = [self.reader.stream(first + row) for row in self.rows]
    fps = self.reader.view.grid.fps
    batch: Batch = {
      "video_BTHWC": np.stack([sample.video_THWC for sample in made]),
      "fps_B": np.full(len(made), fps, np.float32),
      "motion_score_B": np.array([sample.motion_score for sample in made], np.float32),
      "sample_index_B": np.array([sample.index for sample in made], np.uint32),
      "clip_ids": [sample.clip_id for sample in made],
      "captions": [sample.caption for sample in made],
      "window_start_s": [sample.start_s for sample in made],
      "sample_ids_hash": self._global_hash(first),
      "rejected": [rejected for sample in made for rejected in sample.rejected],
    }
    if self.tokenizer is not None:
      tokens = [np.asarray(self.tokenizer(sample.caption), np.int32) for sample in made]
      batch["tokens_BL"] = np.stack(tokens)
    return batch

  def _global_hash(self, first: int) -> str:
    indices = range(first, first + self.global_batch)
    clips = [order.clip_at(i, len(self.reader.source), self.reader.seed) for i in indices]
    content = np.array([indices, clips], np.uint64).tobytes()
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def _start(make: _MakeBatch, number: int, num_workers: int) -> Any:
  """Starts decoding from batch `number` on; returns grain's iterator."""
  if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()  # grain reads absl flags, also where nobody runs an absl app
  # A whole batch is one element, made in one process: its pixels cross to this process once,
  # through shared memory, and the processes take turns without any effect on the order.
  end = (_MAX_SAMPLES - make.start_sample) // make.global_batch
  dataset = grain.MapDataset.range(number, end).map(make)
  ahead = grain.ReadOptions(num_threads=1, prefetch_buffer_size=1 if num_workers else 2)
  dataset = dataset.to_iter_dataset(ahead)
  if num_workers:
    options = grain.MultiprocessingOptions(num_workers=num_workers, per_worker_buffer_size=1)
    dataset = dataset.mp_prefetch(options, worker_init_fn=_prepare_worker)
  batches = iter(dataset)
  batches.start_prefetch()
  return batches


def _prepare_worker(worker: int, workers: int) -> None:
  """Runs first in each decoding process."""
  del worker, workers
  cv2.setNumThreads(1)  # the processes are the parallelism
  # Ctrl-C and a scheduler's SIGTERM reach the whole group. The trainer decides what they mean, and
  # needs batches until it has saved.
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  signal.signal(signal.SIGTERM, signal.SIG_IGN)
  threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
  """Ends this process when the trainer is gone, were it by SIGKILL: nobody else would."""
  parent = multiprocessing.parent_process()
  assert parent is not None
  parent.join()
  os._exit(1)
