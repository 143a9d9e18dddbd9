"""From the number of a batch to its arrays, in the decoding processes.

A batch is a dict:
  video_BTHWC: uint8; or latents_BTHWC: float16 (B, T, h, w, 2 Z), cached latents as stored.
  tokens_BL: int32, the tokenized captions (absent without a tokenizer).
  text_BLX: float16, what the text encoder made of them, instead, where it is cached.
  fps_B: float32, frames per second of the windows.
  motion_score_B: float32, pixels per second; 0 where it is not known.
  NAME_B: float32, for each name in `data.scores`.
  sample_index_B: uint32, global indices.
  clip_ids, captions: list of str; window_start_s: list of float (seconds into the clip).
  images: where rows of each batch are pictures, those as a batch of their own, with T = 1.
  sample_ids_hash: str, of the global batch: equal on every host and for every number of hosts.
  rejected: list of (clip, error), clips that were replaced; the loader makes `rejected_clips` of
    it, their number since it started.

Legend: B batch (rows of this host), T frames, H W pixels, C colours (RGB), L tokens.
"""

from collections.abc import Callable, Sequence
import dataclasses
import hashlib
from typing import Any

import numpy as np

from vidjax.data import order
from vidjax.data.gaps import Gap, stream_index
from vidjax.data.samples import Sample
from vidjax.data.schedule import Schedule

Batch = dict[str, Any]
Tokenizer = Callable[[str], np.ndarray]  # caption -> int32 (L,)


@dataclasses.dataclass(frozen=True)
class MakeBatch:
  """Batch number -> this host's rows of it; a pure function.

  Attributes:
    schedule: what each step is fed.
    tokenizer: of captions, or None.
    start_sample: samples trained on before batch 0.
    global_batch: samples of a batch over all hosts.
    process_index: number of this host.
    process_count: number of hosts.
    gaps: stretches of the stream that are left out.
  """

  schedule: Schedule
  tokenizer: Tokenizer | None
  start_sample: int
  global_batch: int
  process_index: int
  process_count: int
  gaps: tuple[Gap, ...] = ()

  def first_sample(self, number: int) -> int:
    """Global index, in the stream, of the first sample of a batch."""
    return stream_index(self.start_sample + number * self.global_batch, self.gaps)

  def check(self) -> None:
    """Refuses a batch that cannot be shared out.

    Raises:
      ValueError: rows of videos, or of pictures, do not divide by the number of hosts.
    """
    for part in self.schedule.parts(self.first_sample(0), self.global_batch):
      order.host_rows(part.rows, self.process_index, self.process_count)

  def __call__(self, number: int) -> Batch:
    """Makes a batch, see the module's text."""
    first = self.first_sample(int(number))
    digest = hashlib.blake2b(digest_size=8)
    sample_index, made = first, []
    for part in self.schedule.parts(first, self.global_batch):
      stream = self.schedule.stream(part)
      rows = order.host_rows(part.rows, self.process_index, self.process_count)
      samples = [stream.at(part.first + row) for row in rows]
      indices = np.array([sample_index + row for row in rows], np.uint32)
      made.append(self._arrays(samples, indices))
      whole = range(part.first, part.first + part.rows)
      numbers = [(sample_index + row, *stream.clip(i)) for row, i in enumerate(whole)]
      digest.update(np.array([part.images, part.stream, *np.ravel(numbers)], np.uint64).tobytes())
      sample_index += part.rows
    batch, *images = made
    if images:
      (batch["images"],) = images
      batch["rejected"] += batch["images"].pop("rejected")
    batch["sample_ids_hash"] = digest.hexdigest()
    return batch

  def _arrays(self, samples: Sequence[Sample], indices: np.ndarray) -> Batch:
    frames = np.stack([sample.frames for sample in samples])
    batch: Batch = {
      "video_BTHWC" if frames.dtype == np.uint8 else "latents_BTHWC": frames,
      "fps_B": np.array([sample.fps for sample in samples], np.float32),
      "motion_score_B": np.array([sample.motion_score for sample in samples], np.float32),
      "sample_index_B": indices,
      "clip_ids": [sample.clip_id for sample in samples],
      "captions": [sample.caption for sample in samples],
      "window_start_s": [sample.start_s for sample in samples],
      "rejected": [rejected for sample in samples for rejected in sample.rejected],
    }
    for name in samples[0].scores:
      batch[f"{name}_B"] = np.array([sample.scores[name] for sample in samples], np.float32)
    texts = [sample.text for sample in samples if sample.text is not None]
    if texts:
      batch["text_BLX"] = np.stack(texts)
    elif self.tokenizer is not None:
      tokens = [np.asarray(self.tokenizer(sample.caption), np.int32) for sample in samples]
      batch["tokens_BL"] = np.stack(tokens)
    return batch
