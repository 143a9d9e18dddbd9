"""Shows what a config feeds to training: pictures, captions and how fast they come.

  vidjax inspect_data --config=configs/svd/image_to_video.py:tiny --out=DIR [--config.key=value ...]

Writes `contact_sheet.png` (the first windows of the stream, one a row, exactly the pixels that
training gets), `captions.json` (what goes with each window) and `timings.json`.
Exit codes: 0 done; 2 bad flag or config; 3 data; 7 disk full; 130 interrupted.
"""

import itertools
import os
import statistics
import time
from typing import Any

from absl import flags
import cv2

from vidjax import command, render, storage
from vidjax import config as configs
from vidjax.data import loader
from vidjax.data.samples import Sample
from vidjax.observe import console

_CONFIG = flags.DEFINE_string("config", None, "Training config, FILE.py[:variants].", required=True)
_OUT = flags.DEFINE_string("out", None, "Folder to write to.", required=True)
_NUM_WINDOWS = flags.DEFINE_integer("num_windows", 64, "Windows to decode and describe.")
_ROWS = 16  # of the contact sheet
_LABEL_LENGTH = 110  # characters


def main() -> None:
  """The verb: see the module's text."""
  if _NUM_WINDOWS.value < 1:
    raise ValueError(f"--num_windows={_NUM_WINDOWS.value}: at least 1")
  config = configs.load(_CONFIG.value, command.config_overrides())
  out = storage.Path(_OUT.value)
  fingerprint = loader.data_fingerprint(config.data)
  console.line(
    f"{config.data.path}, split {config.data.split!r}: {fingerprint['usable_clips']} of"
    f" {fingerprint['clips']} clips hold {config.data.num_frames} frames at {config.data.fps:g} fps"
  )
  strips, captions, decode = time_windows(config, _NUM_WINDOWS.value)
  timings = decode | time_loader(config, _NUM_WINDOWS.value) | {"cpu_cores": os.cpu_count()}
  render.write_png(out / "contact_sheet.png", render.contact_sheet(strips))
  storage.write_json(out / "captions.json", captions)
  storage.write_json(out / "timings.json", timings | {"data": fingerprint})
  console.line(
    f"decoding: {timings['decode_ms_per_window']:.1f} ms per window (median, one core);"
    f" loader: {timings['windows_per_second']:.1f} windows/s with"
    f" data.num_workers={config.data.num_workers} on {timings['cpu_cores']} cores,"
    f" first batch after {timings['first_batch_seconds']:.1f} s"
  )
  console.line(f"{out}: contact_sheet.png, captions.json, timings.json")


def time_windows(
  config: configs.TrainConfig, count: int
) -> tuple[list[render.Strip], list[dict[str, Any]], dict[str, Any]]:
  """Decodes the first `count` windows of the stream in this process.

  Returns:
    Rows of a contact sheet, what goes with each window, and the milliseconds that reading,
    decoding, scaling and cutting one takes: `decode_ms_per_window` (median) and `..._p95`.
  """
  cv2.setNumThreads(1)  # as in the loader's processes
  reader = loader.open_reader(config.data, config.seed)
  strips, captions, milliseconds = [], [], []
  with console.Progress("decoding", count) as progress:
    for index in range(count):
      began = time.perf_counter()
      sample = reader.stream(index)
      milliseconds.append((time.perf_counter() - began) * 1e3)
      if index < _ROWS:
        strips.append(render.Strip(_label(sample), sample.video_THWC))
      captions.append(describe(sample))
      progress.update(index + 1)
  return (
    strips,
    captions,
    {
      "decode_ms_per_window": statistics.median(milliseconds),
      "decode_ms_per_window_p95": sorted(milliseconds)[int(0.95 * (count - 1))],
      "windows": count,
    },
  )


def time_loader(config: configs.TrainConfig, count: int) -> dict[str, Any]:
  """Measures the loader as training uses it: `windows_per_second`, `first_batch_seconds`.

  Batches of one window keep the measurement short. What the processes had prefetched is read off
  first, so that the rate is the one they can keep up.
  """
  workers = config.data.num_workers
  prefetched = 4 * max(1, workers)
  began = time.perf_counter()
  with loader.make_loader(
    config.data,
    global_batch=1,
    start_sample=0,
    seed=config.seed,
    tokenizer=None,
    num_workers=workers,
  ) as batches:
    next(batches)
    first = time.perf_counter() - began
    for _ in itertools.islice(batches, prefetched):
      pass
    began = time.perf_counter()
    with console.Progress("loading", count) as progress:
      for done, _ in enumerate(itertools.islice(batches, count), start=1):
        progress.update(done)
    seconds = time.perf_counter() - began
  return {
    "windows_per_second": count / seconds,
    "first_batch_seconds": first,
    "num_workers": workers,
  }


def describe(sample: Sample) -> dict[str, Any]:
  """What goes with the pixels of a window, as JSON values."""
  return {
    "sample_index": sample.index,
    "clip_id": sample.clip_id,
    "source": sample.source,
    "window_start_s": sample.start_s,
    "motion_score": sample.motion_score,
    "caption": sample.caption,
    "rejected": [list(rejected) for rejected in sample.rejected],
  }


def _label(sample: Sample) -> str:
  where = f"{sample.index}  {sample.source} + {sample.start_s:.2f} s"
  return f"{where}  motion {sample.motion_score:.2f}  {sample.caption!r}"[:_LABEL_LENGTH]


if __name__ == "__main__":
  command.run(main)
