"""Small curated data sets whose pictures say which clip and which frame they are.

A frame is 64 x 64 pixels in 4 x 4 blocks, black or white: ten bits of frame number, six of clip
number. Sixteen-pixel blocks survive H.264, so decoded frames can be named exactly.
"""

from collections.abc import Sequence
import dataclasses
import pathlib
import types
from typing import Any

from array_record.python import array_record_module
import numpy as np

from vidjax.data import mp4, schema
from vidjax.data.config import DataConfig

SIZE = 64
_BLOCK = 16
_BITS = 2 ** np.arange(16).reshape(4, 4)


def config(path: Any, **changes: Any) -> Any:
  """A `DataConfig` for these clips: 4 frames at 2 fps, unscaled."""
  base = DataConfig(path=str(path), num_frames=4, fps=2.0, height=SIZE, width=SIZE, num_workers=0)
  return dataclasses.replace(base, **changes)


def make_clip(number: int, times_s: Sequence[float] | np.ndarray, **changes: Any) -> Any:
  """A record whose frame i, at `times_s[i]`, reads as (number, i)."""
  bits = np.stack([(i | number << 10) & _BITS > 0 for i in range(len(times_s))])
  video_THWC = np.kron(bits, np.ones((1, _BLOCK, _BLOCK))).astype(np.uint8)[..., None] * 255
  duration_s = times_s[-1] + (times_s[-1] - times_s[-2])
  record = schema.ClipRecord(
    clip_id=f"clip{number:02d}",
    source=f"source{number % 3}.mp4",
    video=mp4.encode_mp4(np.repeat(video_THWC, 3, axis=3), times_s, preset="ultrafast"),
    num_frames=len(times_s),
    fps=len(times_s) / duration_s,
    width=SIZE,
    height=SIZE,
    start_time_s=10.0,
    end_time_s=10.0 + duration_s,
    motion_score=number / 2,
    captions_json=schema.to_json({"sidecar": f"clip number {number}"}),
  )
  return dataclasses.replace(record, **changes)


def steady(seconds: float, fps: float = 12.0) -> np.ndarray:
  """Frame times at a constant rate."""
  return np.arange(round(seconds * fps)) / fps


def write_shards(
  root: pathlib.Path, records: Sequence[Any], split: str = "train", shards: int = 1
) -> pathlib.Path:
  """Writes records (or bytes taken as records) as `vidjax curate` does; returns `root`."""
  folder = root / "shards"
  folder.mkdir(parents=True, exist_ok=True)
  for shard, part in enumerate(np.array_split(np.arange(len(records)), shards)):
    file = folder / schema.shard_name(split, shard, shards)
    writer = array_record_module.ArrayRecordWriter(str(file), "group_size:1,uncompressed")
    for i in part:
      record = records[i]
      writer.write(record if isinstance(record, bytes) else schema.serialize_record(record))
    writer.close()
  return root


def read_numbers(video_THWC: np.ndarray) -> tuple[int, list[int]]:
  """(clip number, frame numbers) that the pictures of a window say."""
  white = video_THWC[:, _BLOCK // 2 :: _BLOCK, _BLOCK // 2 :: _BLOCK, 0] > 127
  values = (white * _BITS).sum(axis=(1, 2))
  (clip,) = {int(value) >> 10 for value in values}
  return clip, [int(value) & 1023 for value in values]


class FakeTokenizer(types.SimpleNamespace):
  """Characters as tokens, padded to `length`."""

  length: int = 20

  def __call__(self, caption: str) -> np.ndarray:
    tokens = [ord(character) for character in caption[: self.length]]
    return np.array(tokens + [0] * (self.length - len(tokens)), np.int32)
