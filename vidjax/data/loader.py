"""The stream of training batches, and the fixed windows of evaluations.

Grain runs the decoding processes. What they produce is decided by numbers alone: batch k of a run
that starts at sample s holds samples s + k B ... s + (k + 1) B - 1, `vidjax.data.schedule` says
what stream each of them comes from, `vidjax.data.samples` what the stream holds there, and each
host makes its own rows. So the position to save is one number, the samples handed out, and it fits
any number of hosts, of processes, and any batch size.

Legend: B batch (rows of this host), T frames, H W pixels, C colours (RGB), L tokens.
"""

from collections.abc import Iterator
import dataclasses
import faulthandler
import itertools
import multiprocessing
import os
import signal
import threading

from absl import flags, logging
import cv2
import grain

from vidjax import errors, redaction
from vidjax.data import batches as assembly
from vidjax.data import samples, schedule, sharing
from vidjax.data.batches import Batch, Tokenizer
from vidjax.data.config import DataConfig
from vidjax.data.fingerprint import check_fingerprint, data_fingerprint
from vidjax.data.gaps import Gap

__all__ = [
  "BatchIterator",
  "check_fingerprint",
  "data_fingerprint",
  "fixed_windows",
  "ids_hash",
  "make_loader",
]

MAX_RESTARTS = 3  # of decoding processes without a batch in between
_WORKER_DIED = "Worker process was terminated"  # in the message of grain's RuntimeError
_WORKER_NAME = "grain-process-prefetch"
_NAMED = 20  # clips that the last message names: a share of a hundred million is a long list
_MAX_SAMPLES = 2**32  # sample_index_B is uint32: JAX has no 64-bit integers by default


class BatchIterator(Iterator[Batch]):
  """Endless batches of one host; a context manager that ends the decoding processes.

  Decoding processes that die (killed for their memory, say) or give no batch for `timeout_s` are
  replaced: since a batch is a function of its number, reading starts again at the one that is due.

  Attributes:
    position: samples handed out before the next batch: what a checkpoint stores.
    rejected: clips that could not be read and were replaced, with the error of each.
  """

  def __init__(self, make: assembly.MakeBatch, config: DataConfig):
    self.position = make.start_sample
    self.rejected: dict[str, str] = {}
    self._make, self._config, self._number = make, config, 0
    self._batches: _Reading | None = _Reading(make, 0, config.num_workers)

  def __next__(self) -> Batch:
    """Returns the next batch, see `make_loader`.

    Raises:
      DataError: more clips than are borne cannot be read, which the message names, or decoding
        processes die again and again.
    """
    batch = self._next_of_workers()
    self._note(batch.pop("rejected"))
    batch["rejected_clips"] = len(self.rejected)
    self._number += 1
    self.position += self._make.global_batch
    return batch

  def close(self) -> None:
    """Ends the decoding processes; no batch can be asked for afterwards."""
    # Forgotten first: a thread that waits for a batch must not take this for processes that died,
    # and a closed iterator that lives until the interpreter ends complains then.
    reading, self._batches = self._batches, None
    if reading is not None:
      reading.close()

  def __enter__(self) -> "BatchIterator":
    return self

  def __exit__(self, *_) -> None:
    self.close()

  def _next_of_workers(self) -> Batch:
    for _ in range(MAX_RESTARTS + 1):
      reading = self._batches
      if reading is None:
        raise ValueError("the loader is closed")
      overdue = threading.Timer(self._config.timeout_s, self._end_hanging)
      overdue.daemon = True
      overdue.start()
      try:
        return next(reading)
      except RuntimeError as error:
        if _WORKER_DIED not in str(error) or self._batches is None:
          raise
        logging.warning("%s Starting the decoding processes again.", error)
        reading.close()
        self._batches = _Reading(self._make, self._number, self._config.num_workers)
      finally:
        overdue.cancel()
    sets = (*self._config.members, *self._config.images.sets)
    paths = ", ".join(dict.fromkeys(one.path or one.kind for one in sets))
    raise errors.DataError(
      f"{paths}: decoding processes died, or gave no batch for"
      f" data.timeout_s={self._config.timeout_s:g} s, {MAX_RESTARTS + 1} times in a row at sample"
      f" {self.position}: is there memory for {self._config.num_workers} of them"
      " (data.num_workers), and does the storage answer?"
    )

  def _end_hanging(self) -> None:
    """Kills the decoding processes: the iterator notices, and says that they died."""
    workers = [p for p in multiprocessing.active_children() if p.name.startswith(_WORKER_NAME)]
    logging.error(
      "no batch for data.timeout_s=%g s at sample %d: %s",
      *(self._config.timeout_s, self.position),
      f"killing {len(workers)} decoding processes" if workers else "decoding hangs, where is below",
    )
    if not workers:
      faulthandler.dump_traceback()  # a thread cannot be killed
    for worker in workers:
      worker.kill()

  def _note(self, rejected: list[tuple[str, str]]) -> None:
    for clip, error in rejected:
      if clip not in self.rejected:
        logging.warning("clip %s is replaced by another one: %s", clip, error)
      self.rejected[clip] = error
    share = self._config.max_rejected_share
    borne = max(1, int(share * self._make.schedule.clips))
    if len(self.rejected) > borne:
      first = itertools.islice(self.rejected.items(), _NAMED)
      listing = "; ".join(f"{clip}: {error}" for clip, error in first)
      if (more := len(self.rejected) - _NAMED) > 0:
        listing += f"; and {more} more"
      raise errors.DataError(
        f"{len(self.rejected)} clips cannot be read, {borne} would be borne"
        f" (data.max_rejected_share={share:g} of {self._make.schedule.clips}): {listing}"
      )


def make_loader(
  config: DataConfig,
  *,
  global_batch: int,
  start_sample: int,
  seed: int,
  tokenizer: Tokenizer | None,
  process_index: int = 0,
  process_count: int = 1,
  gaps: tuple[Gap, ...] = (),
) -> BatchIterator:
  """Starts the stream of batches after `start_sample` samples; prefetching begins at once.

  Args:
    config: what to read, and with how many decoding processes.
    global_batch: samples in a batch over all hosts.
    start_sample: samples that were trained on before; any number, also within an epoch.
    seed: of the run; decides order, windows, mirroring and which of a clip's captions is used.
    tokenizer: turns a caption into int32 (L,); runs in the decoding processes, so it must pickle.
    process_index: number of this host.
    process_count: how many hosts read together.
    gaps: stretches of the stream that are left out.

  Returns:
    Batches as `vidjax.data.batches` describes them.

  Raises:
    ValueError: the batch does not divide by the number of hosts, or settings make no sense.
    FileNotFoundError: there is no such folder.
    DataError: data sets are incomplete or broken, or no clip holds a window.
  """
  opened = schedule.open_schedule(config, seed, global_batch)
  make = assembly.MakeBatch(
    opened, tokenizer, start_sample, global_batch, process_index, process_count, gaps
  )
  make.check()
  return BatchIterator(make, config)


def fixed_windows(config: DataConfig, count: int, seed: int = 0) -> Iterator[samples.Sample]:
  """Windows that stand for a split in evaluations: always the same for (data, count, seed).

  Every clip gives `count / clips` windows, rounded down or up; the windows of a clip are spread
  evenly over it, and a single one is its middle. They are neither mirrored nor put into buckets.

  Args:
    config: what to read; `num_workers` plays no part.
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
  plain = [dataclasses.replace(one, flip=False) for one in config.members]
  alone = dataclasses.replace(
    config, path="", sets=tuple(plain), buckets=(), images=type(config.images)()
  )
  (stream,) = schedule.open_schedule(alone, seed).videos.streams
  return (stream.fixed(number, count) for number in range(count))


def ids_hash(batch: Batch) -> str:
  """Hash of what the global batch consists of, for logs: tells apart two runs' orders."""
  return batch["sample_ids_hash"]


class _Reading:
  """Grain at work on batch `number` and those after it."""

  def __init__(self, make: assembly.MakeBatch, number: int, num_workers: int):
    if not flags.FLAGS.is_parsed():
      flags.FLAGS.mark_as_parsed()  # grain reads absl flags, also where nobody runs an absl app
    # A whole batch is one element, made in one process: its pixels cross to this process once, and
    # the processes take turns without any effect on the order.
    left_out = sum(gap.samples for gap in make.gaps)
    end = (_MAX_SAMPLES - make.start_sample - left_out) // make.global_batch
    dataset = grain.MapDataset.range(number, end).map(make)
    self._receiver = sharing.Receiver(num_workers)
    if num_workers:
      dataset = dataset.map(sharing.Sender(self._receiver.token))
    ahead = grain.ReadOptions(num_threads=1, prefetch_buffer_size=1 if num_workers else 2)
    dataset = dataset.to_iter_dataset(ahead)
    if num_workers:
      options = grain.MultiprocessingOptions(num_workers=num_workers, per_worker_buffer_size=1)
      dataset = dataset.mp_prefetch(options, worker_init_fn=_prepare_worker)
    self._batches = iter(dataset)
    self._batches.start_prefetch()

  def __next__(self) -> Batch:
    return self._receiver(next(self._batches))

  def close(self) -> None:
    """Ends the processes and gives their memory back; batches that were read stay valid."""
    self._batches.close()
    self._receiver.close()


def _prepare_worker(worker: int, workers: int) -> None:
  """Runs first in each decoding process."""
  del workers
  redaction.guard_logs()
  sharing.begin_worker(worker)
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
