"""Shows what a config feeds to training: pictures, captions and how fast they come.

  vidjax inspect_data --config=configs/svd/image_to_video.py:tiny --out=DIR [--config.key=value ...]

Says which data sets, views and pictures take part with what share, and writes `contact_sheet.png`
(the first windows of the stream, one a row, exactly the pixels that training gets, with what the
model is told about them), `captions.json` (what goes with each window) and `timings.json` (where
the time of a window goes, and how fast the loader is).
Exit codes: 0 done; 2 bad flag or config; 3 data; 7 disk full; 130 interrupted.
"""

import collections
from collections.abc import Iterator
import dataclasses
import itertools
import os
import statistics
import time
from typing import Any

from absl import flags
import cv2
import numpy as np

from vidjax import command, render, storage
from vidjax import config as configs
from vidjax.data import loader, schedule
from vidjax.data.clip import Clip, Source
from vidjax.data.samples import Member, Sample, SampleStream
from vidjax.encoders import tokenizers
from vidjax.observe import console

_CONFIG = flags.DEFINE_string("config", None, "Training config, FILE.py[:variants].", required=True)
_OUT = flags.DEFINE_string("out", None, "Folder to write to.", required=True)
_NUM_WINDOWS = flags.DEFINE_integer("num_windows", 64, "Windows to decode and describe.")
_ROWS = 16  # of the contact sheet
_LABEL_LENGTH = 110  # characters
_STAGES = ("open", "decode", "crop", "tokenize")


def main() -> None:
  """The verb: see the module's text."""
  if _NUM_WINDOWS.value < 1:
    raise ValueError(f"--num_windows={_NUM_WINDOWS.value}: at least 1")
  config = configs.load(_CONFIG.value, command.config_overrides())
  out = storage.Path(_OUT.value)
  opened = schedule.open_schedule(config.data, config.seed, config.batch_size)
  for line in what_is_read(opened):
    console.line(line)
  strips, captions, decode = time_windows(config, opened, _NUM_WINDOWS.value)
  timings: dict[str, Any] = {**decode, **time_loader(config, _NUM_WINDOWS.value)}
  timings["cpu_cores"] = os.cpu_count()
  written = ["captions.json", "timings.json"]
  if strips:
    render.write_png(out / "contact_sheet.png", render.contact_sheet(strips))
    written.insert(0, "contact_sheet.png")
  storage.write_json(out / "captions.json", captions)
  fingerprint = loader.data_fingerprint(config.data)
  storage.write_json(out / "timings.json", timings | {"data": fingerprint})
  of_stages = ", ".join(f"{name} {timings['stages_ms'][name]:.2f}" for name in _STAGES)
  console.line(
    f"one window, one core: {timings['decode_ms_per_window']:.1f} ms (median; {of_stages});"
    f" loader: {timings['windows_per_second']:.1f} windows/s with"
    f" data.num_workers={config.data.num_workers} on {timings['cpu_cores']} cores,"
    f" first batch after {timings['first_batch_seconds']:.1f} s"
  )
  console.line(f"{out}: {', '.join(written)}")


def what_is_read(opened: schedule.Schedule) -> Iterator[str]:
  """Lines that say what takes part, with what share."""
  for group, kind in zip(opened.groups, ("videos", "pictures"), strict=False):
    shares: dict[str, float] = collections.defaultdict(float)
    usable: dict[str, int] = collections.defaultdict(int)
    clips: dict[str, int] = {}
    for number, stream in enumerate(group.streams):
      share = _share(group.turns, number)
      for place, member in enumerate(stream.members):
        name = f"{member.config.path or member.config.kind}, split {member.config.split!r}"
        shares[name] += share * _share(stream.turns, place)
        usable[name] += member.count
        clips[name] = len(member.source.listing)
      if len(group.streams) > 1:
        yield f"{kind}: {share:.1%} of the batches are {_size(stream)} (height x width)"
    grids = next(iter(group.streams)).view.grids
    needs = "; or ".join(grid.needs.partition(",")[0] for grid in grids)
    for name, count in clips.items():
      of_kind = f"{shares[name]:.1%} of the {kind}"
      yield f"{name}: {usable[name]} of {count} clips hold {needs}; {of_kind}"
  if opened.every_steps:
    yield f"each step number {opened.every_steps} shows pictures alone"
  if opened.image_rows:
    yield f"{opened.image_rows} rows of each batch are pictures"


def _share(turns: Any, part: int) -> float:
  return turns.count(part, 10**6) / 10**6


def _size(stream: SampleStream) -> str:
  return f"{stream.view.height} x {stream.view.width}"


def stream_of(opened: schedule.Schedule, batch: int) -> Iterator[tuple[schedule.Part, int]]:
  """The samples of training in their order, without end: parts, and rows in their streams."""
  for first in itertools.count(0, batch):
    for part in opened.parts(first, batch):
      for row in range(part.rows):
        yield part, part.first + row


def time_windows(
  config: configs.TrainConfig, opened: schedule.Schedule, count: int
) -> tuple[list[render.Strip], list[dict[str, Any]], dict[str, Any]]:
  """Makes the first `count` samples of the run in this process.

  Returns:
    Rows of a contact sheet, what goes with each window, and the milliseconds that one takes:
    `decode_ms_per_window` (median), `..._p95`, and medians of its stages, `stages_ms`: open (read
    the record or find the file), decode (and scale), crop (mirror, draw the caption), tokenize.
  """
  cv2.setNumThreads(1)  # as in the loader's processes
  tokenizer = tokenizers.load(config.encoders.text) if config.encoders.text else None
  clock = _Clock()
  streams = {id(s): clock.watch(s) for group in opened.groups for s in group.streams}
  strips, captions, rows = [], [], []
  with console.Progress("decoding", count) as progress:
    walk = itertools.islice(stream_of(opened, config.batch_size), count)
    for number, (part, index) in enumerate(walk):
      clock.clear()
      began = time.perf_counter()
      sample = streams[id(opened.stream(part))].at(index)
      made = time.perf_counter()
      if tokenizer is not None:
        tokenizer(sample.caption)
      ended = time.perf_counter()
      rest = made - began - clock.opened - clock.decoded
      rows.append([1e3 * s for s in (clock.opened, clock.decoded, rest, ended - made)])
      if number < _ROWS and sample.frames.dtype == np.uint8:
        bucket = config.conditioning.motion_bucket_scale * sample.motion_score
        strips.append(render.Strip(_label(sample, min(255.0, bucket)), sample.frames))
      captions.append(describe(sample, number))
      progress.update(number + 1)
  whole = sorted(sum(row) for row in rows)
  stages = [statistics.median(column) for column in zip(*rows, strict=True)]
  return (
    strips,
    captions,
    {
      "decode_ms_per_window": statistics.median(whole),
      "decode_ms_per_window_p95": whole[int(0.95 * (count - 1))],
      "stages_ms": dict(zip(_STAGES, stages, strict=True)),
      "windows": count,
    },
  )


class _Clock:
  """Measures how long clips take to open and to decode."""

  def __init__(self) -> None:
    self.opened = self.decoded = 0.0

  def clear(self) -> None:
    self.opened = self.decoded = 0.0

  def watch(self, stream: SampleStream) -> SampleStream:
    """The same stream, measured."""
    members = [
      Member(_Watched(m.source, self), m.count, m.usable, m.config) for m in stream.members
    ]
    return dataclasses.replace(stream, members=tuple(members))


class _Watched:
  """A source that tells a clock what it does."""

  def __init__(self, source: Source, clock: _Clock):
    self.path, self.listing, self.name = source.path, source.listing, source.name
    self._source, self._clock = source, clock

  def __getitem__(self, number: int) -> Clip:
    began = time.perf_counter()
    clip = self._source[number]
    self._clock.opened += time.perf_counter() - began

    def read(moments_s: np.ndarray, size: tuple[int, int]) -> np.ndarray:
      began = time.perf_counter()
      frames = clip.read(moments_s, size)
      self._clock.decoded += time.perf_counter() - began
      return frames

    return dataclasses.replace(clip, read=read)


def time_loader(config: configs.TrainConfig, count: int) -> dict[str, Any]:
  """Measures the loader as training uses it: `windows_per_second`, `first_batch_seconds`.

  What the processes had prefetched is read off first, so that the rate is the one they can keep up.
  """
  workers, batch = config.data.num_workers, config.batch_size
  prefetched = 4 * max(1, workers)
  steps = -(-count // batch)
  began = time.perf_counter()
  with loader.make_loader(
    config.data, global_batch=batch, start_sample=0, seed=config.seed, tokenizer=None
  ) as batches:
    next(batches)
    first = time.perf_counter() - began
    for _ in itertools.islice(batches, prefetched):
      pass
    began = time.perf_counter()
    with console.Progress("loading", steps) as progress:
      for done, _ in enumerate(itertools.islice(batches, steps), start=1):
        progress.update(done)
    seconds = time.perf_counter() - began
  return {
    "windows_per_second": steps * batch / seconds,
    "first_batch_seconds": first,
    "num_workers": workers,
  }


def describe(sample: Sample, number: int) -> dict[str, Any]:
  """What goes with the pixels of a window, as JSON values; `number` counts all samples."""
  return {
    "sample_index": number,
    "clip_id": sample.clip_id,
    "source": sample.source,
    "window_start_s": sample.start_s,
    "frames": len(sample.frames),
    "fps": sample.fps,
    "motion_score": sample.motion_score,
    "scores": dict(sample.scores),
    "caption": sample.caption,
    "rejected": [list(rejected) for rejected in sample.rejected],
  }


def _label(sample: Sample, bucket: float) -> str:
  where = f"{sample.source} + {sample.start_s:.2f} s"
  size = f"{len(sample.frames)} x {sample.frames.shape[1]} x {sample.frames.shape[2]}"
  told = f"{size} at {sample.fps:.3g} fps  motion bucket {bucket:.0f}"
  return f"{where}  {told}  {sample.caption!r}"[:_LABEL_LENGTH]


if __name__ == "__main__":
  command.run(main)
