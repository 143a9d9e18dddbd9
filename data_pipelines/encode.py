"""Clips at training sizes: upright, square pixels, short key frame distance, always equal bytes.

All kept clips of a source are cut out in one pass over it for each size (a rung).

Legend: T frames, H W pixels, C channels.
"""

from collections.abc import Callable, Iterator, Sequence
import dataclasses
import math
from typing import Any

import av
from av.video.reformatter import VideoReformatter
import numpy as np

from data_pipelines import config as config_lib
from data_pipelines import isolation, stream_copy, tables
from vidjax import storage
from vidjax.data import mp4, schema, upright, video

_TOLERANCE_S = 2e-3  # Matroska and WebM round their time stamps to milliseconds.


def thinned(times_s: np.ndarray, max_fps: float) -> np.ndarray:
  """Which frames to keep so that none follows the last kept one sooner than 1 / max_fps.

  A source at or below `max_fps` keeps every frame; one at twice the rate keeps every second.

  Args:
    times_s: (T,) frame times.
    max_fps: Highest frame rate of a clip.

  Returns:
    Indices, ascending.
  """
  kept, last_s = [], -math.inf
  for i, time_s in enumerate(times_s):
    if _is_due(time_s, last_s, max_fps):
      kept.append(i)
      last_s = time_s
  return np.asarray(kept, np.int64)


def _is_due(time_s: float, last_s: float, max_fps: float) -> bool:
  return time_s - last_s >= 1 / max_fps - _TOLERANCE_S


def mean_fps(times_s: np.ndarray, otherwise: float) -> float:
  """Mean frame rate over frame times; `otherwise` for less than two frames."""
  if len(times_s) < 2:
    return float(otherwise)
  return float((len(times_s) - 1) / (times_s[-1] - times_s[0]))


def stored_size(width: int, height: int, short_side: int) -> tuple[int, int]:
  """Size of the stored clip: shorter side scaled down to `short_side` (never up), both even."""
  scale = min(1.0, short_side / min(width, height))
  return max(2, 2 * round(width * scale / 2)), max(2, 2 * round(height * scale / 2))


def rungs(row: tables.Clip, config: config_lib.EncodeConfig) -> tuple[int, ...]:
  """Shorter sides in which a clip is stored: the first one, and those that its source reaches."""
  return (
    config.short_side,
    *(rung for rung in config.rungs if rung <= min(row.width, row.height)),
  )


def record_path(folder: Any, row: tables.Clip, rung: int, config: config_lib.EncodeConfig) -> Any:
  """Where a record waits for its shard; the name follows everything in it, scores and all."""
  how = dataclasses.replace(config, short_side=rung, rungs=())
  return storage.Path(folder) / f"{row.clip_id}-{config_lib.fingerprint(row, how)}"


def write_records(
  path: str,
  rows: Sequence[tables.Clip],
  folder: str,
  config: config_lib.EncodeConfig,
  alive: Callable[[], None] = lambda: None,
) -> None:
  """Writes the records of one local source that are not there yet; see `isolation.machine_work`.

  Args:
    path: The source.
    rows: Its clips to store, without overlap.
    folder: Where records wait, see `record_path`.
    config: Sizes and quality.
    alive: Called now and then.
  """
  for rung in (config.short_side, *config.rungs):
    how = dataclasses.replace(config, short_side=rung)
    with isolation.machine_work(alive):
      todo = [
        row
        for row in rows
        if rung in rungs(row, config) and not record_path(folder, row, rung, config).exists()
      ]
    for row, data in store_source(path, todo, how, alive) if todo else ():
      record = schema.serialize_record(to_record(row, data))
      with isolation.machine_work(alive):
        storage.write_bytes(record_path(folder, row, rung, config), record)


def store_source(
  path: str,
  rows: Sequence[tables.Clip],
  config: config_lib.EncodeConfig,
  alive: Callable[[], None] = lambda: None,
) -> Iterator[tuple[tables.Clip, bytes]]:
  """Clips of one local source as mp4: copied where the config says so and they can be, or encoded.

  Arguments and order as of `encode_source`, but that encoded clips come after copied ones.
  """
  if not config.copy:
    yield from encode_source(path, rows, config, alive)
    return
  left = []
  for row, data in stream_copy.copy_source(path, rows, alive):
    if data is None:
      left.append(row)
    else:
      yield row, data
  if left:  # at their own rate, which their rows give
    yield from encode_source(path, left, dataclasses.replace(config, max_fps=math.inf), alive)


def encode_source(
  path: str,
  rows: Sequence[tables.Clip],
  config: config_lib.EncodeConfig,
  alive: Callable[[], None] = lambda: None,
) -> Iterator[tuple[tables.Clip, bytes]]:
  """Encodes clips of one local source in one pass.

  Args:
    path: The source.
    rows: Its clips to store, without overlap.
    config: Size and quality.
    alive: Called for each frame.

  Yields:
    (clip, mp4 bytes), in the order of time.
  """
  with video.FrameReader(path) as reader:
    frames = iter(reader)
    waiting = next(frames, None)

    def pictures(row: tables.Clip) -> Iterator[tuple[float, np.ndarray | av.VideoFrame]]:
      nonlocal waiting
      last_s, reformatter = -math.inf, VideoReformatter()
      size = stored_size(row.width, row.height, config.short_side)
      while waiting is not None and waiting.index < row.end_frame:
        alive()
        frame, due = waiting, waiting.index >= row.start_frame
        if due and _is_due(frame.time_s, last_s, config.max_fps):
          last_s = frame.time_s
          picture = upright.yuv420(frame.picture, reader.stream, size, reformatter)
          yield frame.time_s - row.start_time_s, picture
        waiting = next(frames, None)

    for row in sorted(rows, key=lambda r: r.start_frame):
      yield (
        row,
        mp4.encode_timed(
          pictures(row),
          crf=config.crf,
          preset=config.preset,
          key_frame_every_s=config.key_frame_every_s,
        ),
      )


def to_record(row: tables.Clip, data: bytes) -> schema.ClipRecord:
  """The training record of a clip and its mp4."""
  info = video.probe(data)
  return schema.ClipRecord(
    clip_id=row.clip_id,
    source=row.source,
    video=data,
    num_frames=info.num_frames,
    fps=row.fps,
    width=info.width,
    height=info.height,
    start_time_s=row.start_time_s,
    end_time_s=row.end_time_s,
    motion_score=math.nan if row.motion_score is None else row.motion_score,
    captions_json=schema.to_json(row.captions),
    scores_json=schema.to_json(tables.all_scores(row)),
  )
